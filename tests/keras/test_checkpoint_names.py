# SPDX-License-Identifier: Apache-2.0
"""Names of Keras variables in the checkpoints of the scripts."""

import keras
import pytest

from rigl.keras.checkpoint_names import find_names, make_names, mask_name


@pytest.fixture
def variables():
  inputs = keras.Input([4])
  outputs = keras.layers.Dense(3, name="first")(inputs)
  outputs = keras.layers.BatchNormalization(name="norm")(outputs)
  outputs = keras.layers.Dense(2, name="last")(outputs)
  return keras.Model(inputs, outputs).weights


_MASKED = [
  "net/first/weights",
  "net/first/weights/Momentum",
  "net/first/mask",
  "net/first/biases",
  "net/norm/gamma",
  "net/norm/beta",
  "net/norm/moving_mean",
  "net/norm/moving_variance",
  "net/last/last/kernel",
  "net/last/last/bias",
  "global_step",
]


def test_variables_are_found_under_any_scope(variables):
  assert find_names(variables, _MASKED) == {
    "first/kernel": "net/first/weights",
    "first/bias": "net/first/biases",
    "norm/gamma": "net/norm/gamma",
    "norm/beta": "net/norm/beta",
    "norm/moving_mean": "net/norm/moving_mean",
    "norm/moving_variance": "net/norm/moving_variance",
    "last/kernel": "net/last/last/kernel",
    "last/bias": "net/last/last/bias",
  }


def test_name_map_gives_the_scope_of_a_layer(variables):
  tensors = [name.replace("net/first", "net/conv_1") for name in _MASKED]
  with pytest.raises(ValueError, match="first/kernel is missing"):
    find_names(variables, tensors)
  for scope in ("conv_1", "net/conv_1"):
    found = find_names(variables, tensors, {"first": scope})
    assert found["first/kernel"] == "net/conv_1/weights"


def test_paths_may_have_the_scope_of_the_model():
  model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3, name="a")])
  path = model.weights[0].path
  assert path.endswith("/a/kernel")
  tensors = ["b/weights", "b/biases"]
  for layer in ("a", path.removesuffix("/kernel")):
    assert find_names(model.weights, tensors, {layer: "b"})[path] == tensors[0]


def test_two_candidates_are_refused(variables):
  tensors = [*_MASKED, "other/first/weights"]
  with pytest.raises(ValueError, match="net/first/weights or other/first/weig"):
    find_names(variables, tensors)
  found = find_names(variables, tensors, {"first": "net/first"})
  assert found["first/kernel"] == "net/first/weights"


def test_a_layer_whose_name_ends_another_is_not_mistaken(variables):
  tensors = [*_MASKED, "net/very_first/weights", "net/very_first/biases"]
  assert find_names(variables, tensors)["first/kernel"] == "net/first/weights"


def test_unknown_layers_in_the_map_are_refused(variables):
  with pytest.raises(ValueError, match=r"`name_map` .* got \['frist'\]"):
    find_names(variables, _MASKED, {"frist": "net/first"})


def test_made_names_are_those_of_masked_layers(variables):
  assert make_names(variables, {"last": "net/logits"}) == {
    "first/kernel": "first/weights",
    "first/bias": "first/biases",
    "norm/gamma": "norm/gamma",
    "norm/beta": "norm/beta",
    "norm/moving_mean": "norm/moving_mean",
    "norm/moving_variance": "norm/moving_variance",
    "last/kernel": "net/logits/weights",
    "last/bias": "net/logits/biases",
  }
  with pytest.raises(ValueError, match="different tensors"):
    make_names(variables, {"last": "first"})


def test_the_mask_is_beside_the_weights():
  assert mask_name("net/conv_1/weights") == "net/conv_1/mask"
