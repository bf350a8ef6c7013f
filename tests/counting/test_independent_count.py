# SPDX-License-Identifier: Apache-2.0
"""Our counts against those of TensorFlow's graph profiler.

It reads the graphs of our own ResNet-50 and MobileNet-v1 and counts two
operations for each multiplication of a kernel. What else it counts, and we do
not, or otherwise:

* a sum of n products is n - 1 additions by our rules and n by its,
* our rules have a bias (or a folded batch normalisation) and a ReLU, one
  operation an output each; it passes over batch normalisations and ReLUs and
  knows the biases of the last layer only,
* pooling by maxima costs nothing by our rules,
* additions of images and the mean are operations without a kernel, which our
  rules pass over.
"""

import pytest
import tensorflow as tf

from rigl import sparse_utils
from rigl.imagenet_resnet.models.factory import create_model

KERNELS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
# Elements of the sums of images at the ends of residual blocks.
SUMS = {
  "resnet50": sum(
    blocks * size**2 * channels
    for blocks, size, channels in (
      (3, 56, 256),
      (4, 28, 512),
      (6, 14, 1024),
      (3, 7, 2048),
    )
  ),
  "mobilenet_v1": 0,
}
NETWORKS = {"resnet50": "resnet", "mobilenet_v1": "mobilenet_v1"}


def profile(model):
  """Operations by type of node, by the profiler of TensorFlow."""
  spec = tf.TensorSpec([1, 224, 224, 3])
  function = tf.function(lambda images: model(images), autograph=False)
  graph = function.get_concrete_function(spec).graph
  options = tf.compat.v1.profiler.ProfileOptionBuilder(
    tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
  )
  profiled = tf.compat.v1.profiler.profile(
    graph, options=options.with_empty_output().build()
  )
  types = {n.name: n.type for n in graph.get_operations()}
  by_type = {}

  def visit(node):
    kind = types.get(node.name)
    if kind and node.float_ops:
      by_type[kind] = by_type.get(kind, 0) + node.float_ops
    for child in node.children:
      visit(child)

  visit(profiled)
  assert sum(by_type.values()) == profiled.total_float_ops
  return by_type


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_those_of_the_graph_profiler(name):
  model = create_model(NETWORKS[name])
  profiled = profile(model)
  kernels = sum(profiled.pop(kind, 0) for kind in KERNELS)
  layers = model.layer_specs()
  multiply_adds = sum(layer.size * layer.applications for layer in layers)
  assert kernels == 2 * multiply_adds

  # All of the difference to our count, term by term.
  outputs = sum(layer.outputs * layer.applications for layer in layers)
  relus = sum(n.outputs * n.applications for n in layers if n.activation)
  stats = sparse_utils.get_stats(model, 0.0, "random")
  sums_of_one_less, biases = -outputs, outputs
  assert stats.total_flops == kernels + sums_of_one_less + biases + relus

  # And all that no layer has.
  assert profiled.pop("Mean") == 7 * 7 * layers[-1].kernel_shape[0]
  assert profiled.pop("AddV2") == SUMS[name] + layers[-1].outputs
  # Pooling by maxima is all that is left.
  assert set(profiled) <= {"MaxPool"}
