# SPDX-License-Identifier: Apache-2.0
"""The networks against the published graphs, weights and numbers."""

import cifar_golden
import numpy as np
import pytest
import tensorflow as tf
from golden_files import load_json, network

from rigl import sparse_utils
from rigl.cifar_resnet.augment import standardize
from rigl.cifar_resnet.cifar_task import CifarTask
from rigl.schedules import cifar_learning_rate
from rigl.training import checkpoints

GRAPHS = [
  f"wrn_22_2/{method}"
  for method in (
    "rigl",
    "set",
    "static",
    "momentum",
    "snip",
    "prune",
    "baseline",
  )
] + [
  "wrn_22_2_first_pruned/rigl",
  "wrn_22_2_first_last_dense/rigl",
  "wrn_16_4_script_default/rigl",
]
KINDS = {
  "weights",
  "biases",
  "gamma",
  "beta",
  "moving_mean",
  "moving_variance",
}


def name_of(variable):
  return variable.name.split(":")[0]


def published_variables(graph):
  """[name, shape, trainable] of what is the model's, in order."""
  return [
    [name, shape, trainable]
    for name, shape, trainable in cifar_golden.graphs()[graph]["variables"]
    if name.rsplit("/", 1)[-1] in KINDS
  ]


def test_every_published_graph_is_compared():
  assert set(GRAPHS) == set(cifar_golden.graphs())


@pytest.mark.parametrize("graph", GRAPHS)
def test_variables_have_the_published_names_and_shapes(graph):
  model = cifar_golden.model_of(graph)
  ours = sorted(
    [name_of(v), v.shape.as_list(), v.trainable] for v in model.variables
  )
  assert ours == sorted(published_variables(graph))


@pytest.mark.parametrize("graph", GRAPHS)
def test_kernels_that_may_be_sparse_are_the_published_ones_in_order(graph):
  model = cifar_golden.model_of(graph)
  assert list(model.kernels) == cifar_golden.graphs()[graph]["masked"]
  for layer, kernel in model.kernels.items():
    assert name_of(kernel) == f"{layer}/weights"


@pytest.mark.parametrize("graph", GRAPHS)
def test_weight_decay_is_on_the_published_kernels(graph):
  """All of rank 2 and more, as the optimizers take them by default."""
  decayed = [
    name.split("/kernel/Regularizer")[0].rsplit("/", 1)[-1]
    for name in cifar_golden.graphs()[graph]["decayed"]
  ]
  model = cifar_golden.model_of(graph)
  ours = [
    name_of(v).split("/")[-2]
    for v in model.trainable_variables
    if v.shape.rank >= 2
  ]
  assert sorted(decayed) == sorted(ours)
  layers = model.convolutions_and_last
  assert decayed == [layer.name for layer in layers]


@pytest.mark.parametrize("graph", ["wrn_22_2/rigl", "wrn_22_2/baseline"])
def test_initial_values_are_spread_as_the_published_ones(graph):
  published = load_json("cifar_variables")["initial"][graph]
  model = cifar_golden.model_of(graph)
  for variable in model.trainable_variables:
    values = variable.numpy()
    mean, std, low, high = published[name_of(variable)]
    if std == 0:
      np.testing.assert_array_equal(values, mean)
      continue
    # Both are samples: of n values the mean errs by std / sqrt(n), the
    # standard deviation by less than that, and the extremes by more.
    error = 6 * std / values.size**0.5
    assert values.mean() == pytest.approx(mean, abs=error)
    assert values.std() == pytest.approx(std, abs=error)
    if values.size > 1000:
      assert values.min() == pytest.approx(low, rel=0.05)
      assert values.max() == pytest.approx(high, rel=0.05)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_logits_are_those_of_the_published_code(jit_compile):
  golden, model = cifar_golden.golden(), cifar_golden.restored()
  function = tf.function(
    lambda images: model(standardize(images)), jit_compile=jit_compile
  )
  logits = function(golden["images"]).numpy()
  np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-5)
  assert np.std(golden["logits"]) > 1


def test_loss_is_that_of_the_published_code():
  golden, model = cifar_golden.golden(), cifar_golden.restored()
  task = CifarTask(model, seed=0, num_classes=10)
  batch = {name: tf.constant(golden[name]) for name in ("images", "labels")}
  loss = float(tf.reduce_mean(task.metrics(batch)["loss"]))
  assert loss == pytest.approx(float(golden["cross_loss"]), abs=1e-5)


def test_masks_have_the_published_number_of_zeros():
  """ERK 0.9, the first layer dense."""
  masks = network(cifar_golden.NETWORK)[1]
  sparsities = sparse_utils.get_sparsities(
    cifar_golden.model_of("wrn_22_2/rigl").kernels, "erdos_renyi_kernel", 0.9
  )
  zeros = {name: int(np.sum(~mask)) for name, mask in masks.items()}
  assert zeros == {
    name: sparse_utils.get_n_zeros(mask.size, sparsities[name])
    for name, mask in masks.items()
  }


def test_checkpoint_of_another_network_is_refused_by_names_and_shapes():
  model = cifar_golden.model_of("wrn_16_4_script_default/rigl")
  variables = {name_of(v): v for v in model.variables}
  message = r"\(.*, 32\) in the checkpoint and \(.*, 64\) in the model"
  with pytest.raises(ValueError, match=message):
    checkpoints.restore(network(cifar_golden.NETWORK)[0], variables)


def test_learning_rates_are_the_published_ones():
  records = load_json("schedules_small")["cifar_lr"]
  assert {record["multiplier"] for record in records} == {0.5, 1.0, 2.0}
  for record in records:
    rate = cifar_learning_rate(multiplier=record["multiplier"])
    for step, published in record["step_lr"]:
      assert float(rate.at(step)) == pytest.approx(published, rel=1e-6)
