"""Our counts against those of TensorFlow's graph profiler.

The networks are written here a second time, as plain TensorFlow, so that layer
lists and rules are both checked. The profiler counts two operations for each
multiplication of a kernel; what else it counts, and we do not, or otherwise:

* a sum of n products is n - 1 additions by our rules and n by its,
* our rules have a bias (or a folded batch normalisation) and a ReLU, one
  operation an output each; it knows biases only, and none are in these graphs
  but the last,
* pooling by maxima costs nothing by our rules,
* additions of images and the mean are counted alike, but no layer has them.
"""

import pytest
import tensorflow as tf

from rigl import counting, graph_layers, sparse_utils
from rigl.counting import architectures

KERNELS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")


def padded(images, kernel, stride):
  """A convolution with (k - 1) // 2 zeros before and the rest after."""
  if stride == 1:
    return tf.nn.conv2d(images, kernel, 1, "SAME")
  before = (kernel.shape[0] - 1) // 2
  after = kernel.shape[0] - 1 - before
  pads = [[0, 0], [before, after], [before, after], [0, 0]]
  return tf.nn.conv2d(tf.pad(images, pads), kernel, stride, "VALID")


class Net(tf.Module):
  """Makes kernels as the forward pass comes to them."""

  def __init__(self):
    super().__init__()
    self.kernels = {}

  def kernel(self, name, *shape):
    if name not in self.kernels:
      with tf.init_scope():
        self.kernels[name] = tf.Variable(tf.zeros(shape), name=name)
    return self.kernels[name]

  def conv(self, x, name, size, outputs, stride=1):
    kernel = self.kernel(name, size, size, x.shape[-1], outputs)
    return padded(x, kernel, stride)

  def classify(self, x):
    x = tf.reduce_mean(x, [1, 2])
    kernel = self.kernel("classes", x.shape[-1], 1000)
    bias = self.kernel("bias", 1000)
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


class ResNet50(Net):
  def __call__(self, images):
    x = tf.nn.relu(self.conv(images, "stem", 7, 64, 2))
    x = tf.nn.max_pool2d(x, 3, 2, "SAME")
    for group, blocks in enumerate([3, 4, 6, 3]):
      for block in range(blocks):
        name, channels = f"{group}/{block}", 64 << group
        stride = 2 if group > 0 and block == 0 else 1
        shortcut = x
        if block == 0:
          shortcut = self.conv(x, f"{name}/p", 1, 4 * channels, stride)
        y = tf.nn.relu(self.conv(x, f"{name}/1", 1, channels))
        y = tf.nn.relu(self.conv(y, f"{name}/2", 3, channels, stride))
        y = self.conv(y, f"{name}/3", 1, 4 * channels)
        x = tf.nn.relu(y + shortcut)
    return self.classify(x)


class MobileNetV1(Net):
  def __call__(self, images):
    x = tf.nn.relu(self.conv(images, "stem", 3, 32, 2))
    plan = [64, -128, 128, -256, 256, -512, *[512] * 5, -1024, 1024]
    for block, channels in enumerate(plan):
      stride = 2 if channels < 0 else 1
      kernel = self.kernel(f"{block}/d", 3, 3, x.shape[-1], 1)
      if stride == 2:
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
      strides = [1, stride, stride, 1]
      padding = "VALID" if stride == 2 else "SAME"
      x = tf.nn.depthwise_conv2d(x, kernel, strides, padding)
      x = self.conv(tf.nn.relu(x), f"{block}/p", 1, abs(channels))
      x = tf.nn.relu(x)
    return self.classify(x)


def profile(model):
  """Operations by type of node, by the profiler of TensorFlow."""
  spec = tf.TensorSpec([1, 224, 224, 3])
  graph = tf.function(model, autograph=False).get_concrete_function(spec).graph
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


@pytest.mark.parametrize(
  "name, model", [("resnet50", ResNet50), ("mobilenet_v1", MobileNetV1)]
)
def test_multiply_adds_are_those_of_the_graph_profiler(name, model):
  network, profiled = architectures.network(name), profile(model())
  kernels = sum(profiled.pop(kind, 0) for kind in KERNELS)
  layers = network.layers
  multiply_adds = sum(layer.size * layer.positions for layer in layers)
  assert kernels == 2 * multiply_adds

  # All of the difference to our count, term by term.
  outputs = sum(layer.outputs * layer.positions for layer in layers)
  relus = sum(n.outputs * n.positions for n in layers if n.activation)
  stats = sparse_utils.get_stats(layers, 0.0, "random")
  sums_of_one_less, biases = -outputs, outputs
  assert stats.total_flops == kernels + sums_of_one_less + biases + relus
  (mean,) = (n for n in network.others if isinstance(n, counting.GlobalAvg))
  sums = [n for n in network.others if isinstance(n, counting.Add)]
  assert profiled.pop("Mean") == mean.count().flops
  assert profiled.pop("BiasAdd") == layers[-1].outputs
  additions = profiled.pop("AddV2", 0) + profiled.pop("Add", 0)
  assert additions == sum(operation.count().flops for operation in sums)
  # Pooling by maxima is all that is left.
  assert set(profiled) <= {"MaxPool"}


@pytest.mark.parametrize(
  "name, model", [("resnet50", ResNet50), ("mobilenet_v1", MobileNetV1)]
)
def test_layers_of_the_graph_are_those_of_the_list(name, model):
  graph = graph_layers.find_layers(model(), [224, 224, 3])
  layers = architectures.network(name).layers
  assert [(n.kind, n.kernel_shape, n.positions) for n in graph] == [
    (n.kind, n.kernel_shape, n.positions) for n in layers
  ]
