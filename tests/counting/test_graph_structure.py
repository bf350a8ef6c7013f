# SPDX-License-Identifier: Apache-2.0
"""Layers inside functions, branches, loops and loaded models."""

import pytest
import tensorflow as tf

from rigl.counting import graph_layers

KERNEL = tf.Variable(tf.ones([8, 16]), name="dense/kernel")
SQUARE = tf.Variable(tf.ones([16, 16]), name="square/kernel")


def applied(model, shape):
  """{name: applications} of the layers of a model."""
  specs = graph_layers.find_layers(model, shape)
  return {spec.name: spec.applications for spec in specs}


@tf.function
def inner(x):
  return tf.nn.relu(x @ KERNEL)


@tf.function(jit_compile=True)
def compiled(x):
  return x @ SQUARE + 1.0


@tf.custom_gradient
def with_gradient(x):
  def gradient(upstream, variables=None):
    return upstream, [tf.zeros_like(v) for v in variables]

  return x @ SQUARE, gradient


FUNCTIONS = {
  "function": (inner, [8], {"dense": 1}),
  "function in a function": (
    tf.function(lambda x: compiled(inner(x))),
    [8],
    {"dense": 1, "square": 1},
  ),
  "function that is called twice": (
    lambda x: inner(inner(x)[:, :8]),
    [8],
    {"dense": 2},
  ),
  "compiled function": (compiled, [16], {"square": 1}),
  "gradient of its own": (
    tf.function(with_gradient),
    [16],
    {"square": 1},
  ),
  "recomputed gradient": (
    tf.recompute_grad(lambda x: x @ SQUARE),
    [16],
    {"square": 1},
  ),
  "kernel as an argument": (
    lambda x: tf.function(lambda y, k: y @ k)(x, KERNEL),
    [8],
    {"dense": 1},
  ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_inside_functions(name):
  model, shape, expected = FUNCTIONS[name]
  assert applied(model, shape) == expected


def test_what_follows_a_function_belongs_to_its_layer():
  bias = tf.Variable(tf.ones([16]))
  (spec,) = graph_layers.find_layers(
    lambda x: tf.nn.relu(tf.function(lambda y: y @ KERNEL)(x) + bias), [8]
  )
  assert (spec.use_bias, spec.activation) == (True, "relu")


BRANCHES = {
  "layer in one branch": (
    lambda x: tf.cond(
      x[0, 0] > 0, lambda: tf.zeros([1, 16]), lambda: x @ KERNEL
    ),
    {"dense": 1},
  ),
  # 128 + 256 multiplications are more than 128.
  "the costlier branch": (
    lambda x: tf.cond(
      x[0, 0] > 0, lambda: inner(x), lambda: (x @ KERNEL) @ SQUARE
    ),
    {"dense": 1, "square": 1},
  ),
  # 256 are more than 128; the other kernel is stored only.
  "kernels of one branch each": (
    lambda x: tf.cond(
      x[0, 0] > 0, lambda: x @ KERNEL, lambda: tf.tile(x, [1, 2]) @ SQUARE
    ),
    {"dense": 0, "square": 1},
  ),
  "one of many branches": (
    lambda x: tf.switch_case(
      tf.cast(x[0, 0], tf.int32),
      [lambda: x @ KERNEL, lambda: inner(x) @ SQUARE, lambda: x @ KERNEL * 2],
    ),
    {"dense": 1, "square": 1},
  ),
  "condition that is known": (
    lambda x: tf.cond(
      tf.shape(x)[1] > 8, lambda: inner(x) @ SQUARE, lambda: inner(x)
    ),
    {"dense": 1},
  ),
  "branch in a branch": (
    lambda x: tf.cond(
      x[0, 0] > 0,
      lambda: tf.cond(x[0, 1] > 0, lambda: inner(x) @ SQUARE, lambda: inner(x)),
      lambda: inner(x),
    ),
    {"dense": 1, "square": 1},
  ),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_the_branch_with_the_most_multiplications_counts(name):
  model, expected = BRANCHES[name]
  assert applied(model, [8]) == expected


@tf.function
def with_loops(x):
  rows = tf.constant(3)
  for _ in tf.range(4):
    for _ in tf.range(rows):
      x = x @ SQUARE
  return x


def scan(x):
  def step(state, row):
    return tf.tanh(row + state @ SQUARE)

  return tf.scan(step, tf.transpose(x, [1, 0, 2]), tf.zeros_like(x[:, 0]))


LOOPS = {
  "while": (
    lambda x: tf.while_loop(
      lambda i, y: i < 5, lambda i, y: (i + 1, y @ SQUARE), [0, x]
    ),
    [16],
    {"square": 5},
  ),
  # 1, 2, 4, ..., 64 are less than 100.
  "while with steps of its own": (
    lambda x: tf.while_loop(
      lambda i, y: i < 100, lambda i, y: (i * 2, y @ SQUARE), [1, x]
    ),
    [16],
    {"square": 7},
  ),
  "while that the shape ends": (
    lambda x: tf.while_loop(
      lambda i, y: i < tf.shape(x)[1],
      lambda i, y: (i + 2, y @ SQUARE),
      [0, x[:, 0]],
    ),
    [9, 16],
    {"square": 5},
  ),
  "most iterations": (
    lambda x: tf.while_loop(
      lambda y: True, lambda y: (y @ SQUARE,), [x], maximum_iterations=6
    ),
    [16],
    {"square": 6},
  ),
  "no iteration": (
    lambda x: inner(
      tf.while_loop(
        lambda i, y: i < 0, lambda i, y: (i + 1, (y @ KERNEL)[:, :8]), [0, x]
      )[1]
    ),
    [8],
    {"dense": 1},
  ),
  "map": (
    lambda x: tf.map_fn(
      lambda row: tf.map_fn(
        lambda vector: tf.linalg.matvec(KERNEL, vector, transpose_a=True), row
      ),
      x,
    ),
    [7, 8],
    {"dense": 7},
  ),
  "map of all examples at once": (
    lambda x: tf.vectorized_map(lambda row: row @ KERNEL, x),
    [7, 8],
    {"dense": 7},
  ),
  "scan": (scan, [6, 16], {"square": 6}),
  "loops in a loop": (with_loops, [16], {"square": 12}),
  "kernels of a stack": (
    lambda x: tf.foldl(lambda y, kernel: y @ kernel, tf.stack([SQUARE] * 3), x),
    [16],
    {"square": 3},
  ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_count_their_iterations(name):
  model, shape, expected = LOOPS[name]
  assert applied(model, shape) == expected


@pytest.mark.parametrize(
  "model",
  [
    lambda x: tf.while_loop(
      lambda i, y: i < tf.cast(x[0, 0], tf.int32),
      lambda i, y: (i + 1, y @ SQUARE),
      [0, x],
    ),
    lambda x: tf.while_loop(
      lambda y: tf.reduce_sum(y) < 10, lambda y: (y @ SQUARE,), [x]
    ),
    lambda x: tf.while_loop(lambda y: True, lambda y: (y @ SQUARE,), [x]),
  ],
)
def test_loops_of_unknown_length_are_named(model):
  with pytest.raises(ValueError, match="'square' in .*loop of unknown length"):
    graph_layers.find_layers(model, [16])


class Saved(tf.Module):
  """A model whose graph has open sizes."""

  def __init__(self):
    super().__init__()
    self.conv = tf.Variable(tf.ones([3, 3, 3, 8]), name="conv/kernel")
    self.dense = tf.Variable(tf.ones([8, 16]), name="dense/kernel")

  @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
  def __call__(self, images):
    x = tf.nn.relu(self.features(images))
    x = tf.reshape(x, [tf.shape(x)[0], -1, 8])
    return {"logits": tf.tensordot(x, self.dense, 1)}

  @tf.function
  def features(self, images):
    return tf.nn.conv2d(images, self.conv, 2, "SAME")


def test_layers_of_a_loaded_model_have_the_sizes_of_this_input(tmp_path):
  model = Saved()
  tf.saved_model.save(model, str(tmp_path), signatures=model.__call__)
  loaded = tf.saved_model.load(str(tmp_path))
  signature = loaded.signatures["serving_default"]
  for call in (loaded, lambda x: signature(images=x)):
    conv, dense = graph_layers.find_layers(call, [10, 6, 3])
    assert (conv.name, conv.input_size, conv.activation) == (
      "conv",
      (10, 6),
      "relu",
    )
    assert (dense.name, dense.applications) == ("dense", 5 * 3)
  # 4 parts of an image, which a loop goes through.
  (conv, dense) = graph_layers.find_layers(
    lambda x: tf.map_fn(
      lambda part: loaded(part[None])["logits"], tf.reshape(x, [4, 5, 6, 3])
    ),
    [20, 6, 3],
  )
  assert conv.applications == dense.applications == 4 * 3 * 3


def test_loops_of_tensorflow_1_are_named():
  graph = tf.Graph()
  tf.compat.v1.disable_control_flow_v2()
  try:
    with graph.as_default():
      start = tf.compat.v1.placeholder(tf.float32, [1, 16], "start")
      kernel = tf.compat.v1.placeholder(tf.float32, [16, 16], "kernel")
      tf.compat.v1.while_loop(
        lambda i, y: i < 3, lambda i, y: (i + 1, y @ kernel), [0, start]
      )
  finally:
    tf.compat.v1.enable_control_flow_v2()
  definition = graph.as_graph_def()

  def model(x):
    return tf.graph_util.import_graph_def(
      definition,
      input_map={"start": x, "kernel": SQUARE},
      return_elements=["while/Exit_1:0"],
    )

  with pytest.raises(ValueError, match="`model` must not have loops of Tens"):
    graph_layers.find_layers(model, [16])
