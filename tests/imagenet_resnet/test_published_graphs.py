# SPDX-License-Identifier: Apache-2.0
import imagenet_golden
import numpy as np
import pytest

GRAPHS = imagenet_golden.variables()["graphs"]
INITIAL = imagenet_golden.variables()["initial"]
# {statistics of initial values: graph they belong to}.
INITIAL_GRAPHS = {
  "resnet50": "resnet50_first_pruned",
  "resnet50_first_dense": "resnet50",
  "mobilenet_v1": "mobilenet_v1",
  "mobilenet_v2": "mobilenet_v2",
  "vgg_16": "vgg_16",
}


@pytest.fixture(scope="module", params=GRAPHS)
def graph(request):
  return GRAPHS[request.param], imagenet_golden.model_of(request.param)


def test_variables_have_the_published_names_shapes_and_order(graph):
  golden, model = graph
  found = [
    [name, list(variable.shape), variable.trainable]
    for name, variable in model.named_variables.items()
  ]
  assert found == golden["variables"]


def test_named_variables_are_all_variables(graph):
  _, model = graph
  named = model.named_variables.values()
  assert {id(v) for v in named} == {id(v) for v in model.variables}


def test_kernels_are_the_published_masked_ones_in_order(graph):
  golden, model = graph
  assert list(model.kernels) == golden["masks"]
  known = {id(v): name for name, v in model.named_variables.items()}
  for name, kernel in model.kernels.items():
    assert known[id(kernel)].startswith(f"{name}/")


def test_weight_decay_is_that_of_the_published_graph(graph):
  golden, model = graph
  names = {id(v): name for name, v in model.named_variables.items()}
  decayed = [names[id(v)].split("/")[-2] for v in model.decayed_variables]
  assert decayed == golden["decays"]
  decays = [v for v in model.variables if model.decays(v)]
  assert {id(v) for v in decays} == {id(v) for v in model.decayed_variables}


@pytest.mark.parametrize("name", INITIAL)
def test_initial_values_are_distributed_as_published(name):
  model = imagenet_golden.model_of(INITIAL_GRAPHS[name])
  trainable = {
    name: v.numpy() for name, v in model.named_variables.items() if v.trainable
  }
  assert list(trainable) == list(INITIAL[name])
  for variable, values in trainable.items():
    mean, stddev, low, high = INITIAL[name][variable]
    if stddev == 0:
      assert np.all(values == mean), variable
      continue
    # Six standard errors, of the difference of two samples.
    error = 6 * stddev * np.sqrt(2 / values.size)
    assert abs(values.mean() - mean) < error, variable
    assert abs(values.std() - stddev) < error, variable
    # All distributions but one are bounded: the largest of many values is.
    if "resnet" in name and "final_dense" in variable:
      continue
    margin = 1 + 20 / np.sqrt(values.size)
    assert high / margin < values.max() < high * margin, variable
    assert low / margin > values.min() > low * margin, variable
