# SPDX-License-Identifier: Apache-2.0
"""Which variables become sparse."""

import keras
import numpy as np
import pytest

from rigl.keras import kernels
from rigl.keras.live import owners


def chosen(model, filters=None):
  variables = model.trainable_variables
  found = kernels.choose_kernels(variables, owners(variables), filters)
  return [variables[place].path for place in found]


def everything():
  """One layer of each kind that has weights of rank 2 and more."""
  ids = keras.Input((6,), name="ids")
  x = keras.layers.Embedding(11, 8, name="embedding")(ids)
  x = keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
  x = keras.layers.GroupNormalization(2, name="norm")(x)
  x = keras.layers.Conv1D(8, 3, padding="same", name="conv")(x)
  x = keras.layers.Conv1D(8, 3, groups=8, padding="same", name="each")(x)
  x = keras.layers.Conv1D(8, 3, groups=2, padding="same", name="halves")(x)
  x = keras.layers.DepthwiseConv1D(3, padding="same", name="depthwise")(x)
  x = keras.layers.SeparableConv1D(4, 3, padding="same", name="separable")(x)
  x = keras.layers.LSTM(5, return_sequences=True, name="lstm")(x)
  x = keras.layers.Bidirectional(keras.layers.GRU(3), name="both")(x)
  x = keras.layers.PReLU(name="prelu")(x)
  return keras.Model(ids, keras.layers.Dense(3, name="head")(x))


KERNELS = [
  "attention/query/kernel",
  "attention/key/kernel",
  "attention/value/kernel",
  "attention/attention_output/kernel",
  "conv/kernel",
  "halves/kernel",
  "separable/pointwise_kernel",
  "lstm/lstm_cell/kernel",
  "lstm/lstm_cell/recurrent_kernel",
  "both/forward_gru/gru_cell/kernel",
  "both/forward_gru/gru_cell/recurrent_kernel",
  "both/backward_gru/gru_cell/kernel",
  "both/backward_gru/gru_cell/recurrent_kernel",
  "head/kernel",
]


def test_kernels_are_chosen_by_what_they_are_in_their_layer():
  keras.backend.clear_session()
  assert chosen(everything()) == KERNELS


def test_a_depthwise_kernel_with_one_output_is_not_a_convolution():
  """Of two kernels of shape [3, 3, 4, 1], one is depthwise."""
  image = keras.Input((8, 8, 4))
  x = keras.layers.DepthwiseConv2D(3, name="depthwise")(image)
  x = keras.layers.Conv2D(1, 3, name="conv")(x)
  model = keras.Model(image, x)
  shapes = {v.path: tuple(v.shape) for v in model.trainable_variables}
  assert shapes["depthwise/kernel"] == shapes["conv/kernel"] == (3, 3, 4, 1)
  assert chosen(model) == ["conv/kernel"]


def test_layers_are_found_from_tensorflow_variables_as_well():
  image = keras.Input((8, 8, 4))
  x = keras.layers.DepthwiseConv2D(3, name="depthwise")(image)
  model = keras.Model(image, keras.layers.Conv2D(2, 3, name="conv")(x))
  variables = [v.value for v in model.trainable_variables]
  found = kernels.choose_kernels(variables, owners(variables), None)
  assert [model.trainable_variables[i].path for i in found] == ["conv/kernel"]


def test_a_subclass_of_a_depthwise_layer_is_depthwise():
  class Mine(keras.layers.DepthwiseConv2D):
    pass

  model = keras.Sequential(
    [keras.Input((8, 8, 4)), Mine(3), keras.layers.Conv2D(2, 3, name="conv")]
  )
  assert [p.split("/")[-2] for p in chosen(model)] == ["conv"]


@pytest.mark.parametrize(
  ("filters", "expected"),
  [
    ("attention/", KERNELS[:4]),
    (["^conv/", "head"], ["conv/kernel", "head/kernel"]),
    ("^head/kernel$", ["head/kernel"]),
    (lambda path: "lstm" in path, KERNELS[7:9]),
    (["embedding/embeddings"], ["embedding/embeddings"]),
    (["depthwise/kernel", "^head"], ["depthwise/kernel", "head/kernel"]),
  ],
)
def test_filters_narrow_kernels_and_full_paths_add_others(filters, expected):
  keras.backend.clear_session()
  assert chosen(everything(), filters) == expected


@pytest.mark.parametrize("filters", ["nothing", ["head", "nothing"], [], ""])
def test_filters_that_match_nothing_are_refused(filters):
  model = everything()
  if filters == "":
    assert chosen(model, filters) == chosen(model)
    return
  with pytest.raises(ValueError, match="`filters` must.*head/kernel"):
    chosen(model, filters)
  with pytest.raises(ValueError, match="`filters` must"):
    chosen(model, lambda path: False)


@pytest.mark.parametrize("filters", [3, [3], ["("], "(", {"a": 1}])
def test_filters_of_other_kinds_are_refused(filters):
  with pytest.raises(ValueError, match="`filters` must"):
    kernels.check_filters(filters)


def test_a_model_without_kernels_is_refused():
  model = keras.Sequential([keras.Input((3,)), keras.layers.PReLU()])
  with pytest.raises(ValueError, match="must choose at least one variable"):
    chosen(model)


def test_two_variables_of_one_path_are_not_mixed():
  class Twins(keras.Model):
    def __init__(self):
      super().__init__()
      self.one = keras.layers.Dense(3, name="fc")
      self.two = keras.layers.Dense(3, name="fc")

    def call(self, x):
      return self.two(self.one(x))

  model = Twins()
  model(np.ones((1, 3)))
  with pytest.raises(ValueError, match="have the same path '.*fc/kernel'"):
    chosen(model)
