# SPDX-License-Identifier: Apache-2.0
"""What the graph of a LiteRT file says of the network that was converted."""

import keras
import numpy as np
import pytest
from export_models import with_zeros
from keras import layers
from tensorflow.lite.python import schema_py_generated as schema

from rigl.exporting.keras_source import open_model
from rigl.formats.litert import convert
from rigl.formats.litert.graph import Graph

TYPES = {
  "float32": schema.TensorType.FLOAT32,
  "float16": schema.TensorType.FLOAT16,
}
CHANNELS, FILTERS = 40, 48


@pytest.fixture(scope="module")
def network():
  """A 1x1 convolution and a mean over the places of an image."""
  model = keras.Sequential(
    [
      keras.Input([6, 5, CHANNELS], name="x"),
      layers.Conv2D(FILTERS, 1, activation="relu"),
      layers.GlobalAveragePooling2D(),
    ]
  )
  return with_zeros(model, 0.75)


def graph_of(model, **options):
  module, predict = open_model(model).arrays.module(1)
  return Graph(
    convert.convert(predict.get_concrete_function(), module, **options)
  )


def operation(graph, kind):
  (found,) = [o for o in graph.operations if o.kind == kind]
  return found


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("sparse", [True, False])
def test_a_kernel_is_described_as_the_file_stores_it(network, dtype, sparse):
  graph = graph_of(network, dtype=dtype, sparse=sparse)
  convolution = operation(graph, "CONV_2D")
  image, kernel, _ = convolution.inputs
  weights = network.layers[0].get_weights()[0]
  # LiteRT has the outputs first.
  assert graph.shape(kernel) == [FILTERS, 1, 1, CHANNELS]
  assert graph.stored_type(kernel) == TYPES[dtype]
  zeros = int(np.sum(weights == 0))
  assert 0 < zeros < weights.size
  assert graph.count_weights(kernel) == (weights.size, zeros)
  assert graph.is_constant(kernel) and not graph.is_constant(image)
  assert graph.shape(image) == [1, 6, 5, CHANNELS]


@pytest.mark.parametrize(
  "options, decoding",
  [
    ({"dtype": "float32", "sparse": False}, set()),
    ({"dtype": "float32", "sparse": True}, {"DENSIFY"}),
    ({"dtype": "float16", "sparse": False}, {"DEQUANTIZE"}),
    ({"dtype": "float16", "sparse": True}, {"DENSIFY", "DEQUANTIZE"}),
  ],
)
def test_operations_that_decode_constants_are_told(network, options, decoding):
  graph = graph_of(network, **options)
  found = {o.kind for o in graph.operations if graph.only_decodes(o)}
  assert found == decoding
  kinds = [o.kind for o in graph.operations if not graph.only_decodes(o)]
  assert kinds == ["CONV_2D", "MEAN"]


def test_integers_and_left_out_inputs_are_constants(network):
  graph = graph_of(network)
  axes = operation(graph, "MEAN").inputs[1]
  assert sorted(graph.integers(axes)) == [1, 2]
  assert graph.is_constant(axes) and graph.is_constant(-1)


def test_a_merged_name_is_the_first_one(network):
  graph = graph_of(network)
  name = graph.name(operation(graph, "CONV_2D").outputs[0])
  assert "conv2d" in name and ";" not in name


def test_other_files_are_refused():
  with pytest.raises(ValueError, match="no LiteRT file"):
    Graph(b"PK\x03\x04 and so on")
