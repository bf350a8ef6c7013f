# SPDX-License-Identifier: Apache-2.0
"""The checker names the first operation that XNNPACK's sparse path lacks."""

import keras
import pytest
from export_models import with_zeros
from keras import layers

from rigl.exporting.keras_source import open_model
from rigl.formats.litert import convert, sparse_path

PADDED = ((1, 1), (1, 1))


def problem_of(model, **options):
  signature = open_model(model).arrays
  module, predict = signature.module(1)
  content = convert.convert(predict.get_concrete_function(), module, **options)
  return sparse_path.find_problem(content)


def network(
  *inner,
  stem=None,
  end=None,
  channels=3,
  sparsity=0.9,
  start=(layers.ZeroPadding2D, PADDED),
):
  """A stem, a 1x1 convolution, what is tested, another one, the mean."""
  cls, *arguments = start
  model = keras.Sequential(
    [
      keras.Input([32, 32, channels], name="x"),
      cls(*arguments),
      stem or layers.Conv2D(16, 3, 2, use_bias=False),
      layers.BatchNormalization(),
      layers.ReLU(),
      layers.Conv2D(24, 1),
      *inner,
      layers.Conv2D(24, 1, activation="relu"),
      *(end or [layers.GlobalAveragePooling2D(), layers.Dense(5)]),
    ]
  )
  return with_zeros(model, sparsity)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_network_that_fits_has_no_problem(dtype, sparse):
  model = network(
    layers.ZeroPadding2D(PADDED),
    layers.DepthwiseConv2D(3, 2, activation="relu"),
    layers.DepthwiseConv2D(3, padding="same", activation="relu6"),
    layers.ZeroPadding2D(2),
    layers.DepthwiseConv2D(5, activation="relu"),
  )
  assert problem_of(model, dtype=dtype, sparse=sparse) is None


ASYMMETRIC = ((1, 0), (1, 0))
CASES = {
  "stem_same": (
    {"start": (layers.Identity,), "stem": layers.Conv2D(8, 3, 2, "same")},
    "CONV_2D",
    "`same` padding",
  ),
  "stem_asymmetric": (
    {"start": (layers.ZeroPadding2D, ASYMMETRIC)},
    "CONV_2D",
    "1 before and 0 after",
  ),
  "stem_stride": (
    {"stem": layers.Conv2D(8, 3, 1)},
    "CONV_2D",
    "its stride is 1",
  ),
  "stem_window": (
    {"stem": layers.Conv2D(8, 7, 2)},
    "CONV_2D",
    "its window is 7x7",
  ),
  "stem_channels": ({"channels": 4}, "CONV_2D", "4 channels"),
  "dense_products": ({"sparsity": 0.5}, "MEAN", "are zero"),
  "no_mean": (
    {"end": [layers.Flatten(), layers.Dense(5)]},
    "RESHAPE",
    "does not have it",
  ),
  "max_pool_at_the_end": (
    {"end": [layers.GlobalMaxPooling2D(), layers.Dense(5)]},
    "REDUCE_MAX",
    "does not have it",
  ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_breaks_the_path_is_named(case):
  options, kind, reason = CASES[case]
  problem = problem_of(network(**options))
  assert problem is not None
  assert problem.operation.startswith(kind), problem
  assert reason in problem.reason, problem
  assert problem.change and "\n" not in str(problem)


INNER = {
  "conv_3x3": (layers.Conv2D(24, 3, padding="same"), "CONV_2D", "3x3"),
  "stride": (layers.Conv2D(24, 1, 2), "CONV_2D", "1x1 with stride 2"),
  "depthwise_7x7": (
    layers.DepthwiseConv2D(7, padding="same"),
    "DEPTHWISE_CONV_2D",
    "7x7",
  ),
  "depthwise_same": (
    layers.DepthwiseConv2D(3, 2, "same"),
    "DEPTHWISE_CONV_2D",
    "`same` padding",
  ),
  "depthwise_valid": (
    layers.DepthwiseConv2D(3),
    "DEPTHWISE_CONV_2D",
    "its zeros are none",
  ),
  "max_pool": (layers.MaxPooling2D(2), "MAX_POOL_2D", "does not have it"),
  "softmax": (layers.Softmax(), "SOFTMAX", "does not have it"),
}


@pytest.mark.parametrize("case", INNER)
def test_the_first_inner_operation_is_named(case):
  layer, kind, reason = INNER[case]
  problem = problem_of(network(layer, layers.MaxPooling2D(2)))
  assert problem is not None
  assert problem.operation.startswith(kind), problem
  assert reason in problem.reason, problem


def test_networks_without_convolutions_are_told():
  model = keras.Sequential([keras.Input([8], name="x"), layers.Dense(3)])
  problem = problem_of(model)
  assert problem is not None and "no convolution" in problem.reason
