# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.imagenet_resnet.models.factory import ARCHITECTURES, create_model
from rigl.mnist.mnist_model import MnistFc
from rigl.training import checkpoints, warm_start

MASK = np.array([[1, 0], [0, 1]], np.float32)
WEIGHTS = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
def place(tmp_path):
  """The directory of a run whose inactive weights are not zero."""
  tensors = {
    "a/weights": WEIGHTS,
    "a/mask": MASK,
    "a/weights/Momentum": WEIGHTS,
    "b/biases": np.array([5, 6], np.float32),
    "norm/moving_mean": np.array([7, 8], np.float32),
    "global_step": np.int64(9),
  }
  checkpoints.save(tmp_path, 9, tensors)
  return tmp_path


def variables():
  return {
    name: tf.Variable(tf.zeros(shape, dtype))
    for name, shape, dtype in (
      ("a/weights", [2, 2], tf.float32),
      ("b/biases", [2], tf.float32),
      ("norm/moving_mean", [2], tf.float32),
      ("global_step", [], tf.int64),
      ("a/weights/Momentum", [2, 2], tf.float32),
    )
  }


def test_masks_are_bool_by_layer(place):
  for where in (place, place / "model.ckpt-9"):
    masks = warm_start.load_masks(str(where), ["a"])
    assert list(masks) == ["a"] and masks["a"].dtype == bool
    np.testing.assert_array_equal(masks["a"], MASK != 0)


def test_missing_masks_are_named(place):
  with pytest.raises(ValueError, match="has no masks of b, c.$"):
    warm_start.load_masks(str(place), ["a", "b", "c"])


def test_parameters_are_taken_as_they_are_and_nothing_else(place):
  found = variables()
  warm_start.load_parameters(str(place), found)
  np.testing.assert_array_equal(found["a/weights"], WEIGHTS)
  np.testing.assert_array_equal(found["b/biases"], [5, 6])
  np.testing.assert_array_equal(found["norm/moving_mean"], [7, 8])
  assert int(found["global_step"]) == 0
  assert not np.any(found["a/weights/Momentum"])


@pytest.mark.parametrize(
  "absent, named",
  [
    (["c/kernel"], "lacks 1 of 4 parameters"),
    (["c/kernel", "d/bias", "e/gamma"], "values: c/kernel, d/bias, e/gamma."),
    (["c/kernel", "d/beta", "e/bias", "f/beta"], "d/beta, e/bias, ..."),
  ],
)
def test_missing_parameters_keep_their_values_and_are_said_in_one_line(
  place, caplog, absent, named
):
  own = {name: tf.Variable([1.5, 2.5]) for name in absent}
  found = {**variables(), **own}
  warm_start.load_parameters(str(place), found)
  np.testing.assert_array_equal(found["a/weights"], WEIGHTS)
  for variable in own.values():
    np.testing.assert_array_equal(variable, [1.5, 2.5])
  (record,) = caplog.records
  assert named in record.message and str(place) in record.message
  assert "\n" not in record.message


def test_checkpoint_without_any_parameter_of_the_model_is_refused(place):
  for name in ("x/weights", "y/bias"):
    own = {name: tf.Variable(tf.ones([2, 2])), "global_step": tf.Variable(3)}
    with pytest.raises(ValueError, match=f"no parameter .*, such as {name}"):
      warm_start.load_parameters(str(place), own)
    assert int(own["global_step"]) == 3


def test_effective_weights_leave_others_and_their_input():
  tensors = {"a/weights": WEIGHTS, "a/mask": MASK, "b/weights": WEIGHTS}
  found = warm_start.effective_weights(tensors)
  np.testing.assert_array_equal(found["a/weights"], WEIGHTS * MASK)
  np.testing.assert_array_equal(found["b/weights"], WEIGHTS)
  np.testing.assert_array_equal(tensors["a/weights"], WEIGHTS)


def test_weights_that_are_not_finite_are_zero_where_the_mask_is():
  tensors = {"a/weights": np.full([2, 2], np.inf), "a/mask": MASK}
  found = warm_start.effective_weights(tensors)
  np.testing.assert_array_equal(found["a/weights"] != 0, MASK != 0)


def test_place_without_checkpoint_is_named(tmp_path):
  for where in (tmp_path, tmp_path / "absent", tmp_path / "model.ckpt-3"):
    with pytest.raises(ValueError, match="no (readable )?checkpoint") as error:
      warm_start.load_masks(str(where), ["a"])
    assert str(where) in str(error.value)


def test_parameters_that_do_not_fit_are_named(place):
  wanted = {"a/weights": tf.Variable(tf.zeros([3, 2]))}
  with pytest.raises(
    ValueError, match=r"a/weights .* \(2, 2\) in .* \(3, 2\) in"
  ):
    warm_start.load_parameters(str(place), wanted)


def networks():
  ends = [(None, True), (False, False)]
  for architecture in ARCHITECTURES:
    for first, last in ends:
      yield create_model(
        architecture,
        18,
        width=0.1,
        num_classes=7,
        prune_first_layer=first,
        prune_last_layer=last,
      )
  yield WideResNet(10, 1, 10, seed=0)
  yield MnistFc(784, seed=0, masked=True)
  yield MnistFc(784, seed=0, masked=False)


def test_every_variable_of_every_network_is_a_parameter(tmp_path):
  for number, network in enumerate(networks()):
    variables = network.named_variables
    values = {
      name: np.full(variable.shape, 0.25, np.float32)
      for name, variable in variables.items()
    }
    folder = tmp_path / str(number)
    folder.mkdir()
    checkpoints.save(folder, 0, values)
    warm_start.load_parameters(str(folder), variables)
    for name, variable in variables.items():
      np.testing.assert_array_equal(variable, values[name], err_msg=name)
