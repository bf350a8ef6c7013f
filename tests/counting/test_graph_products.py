# SPDX-License-Identifier: Apache-2.0
"""Every operation that applies a variable is counted, or named.

Expected are the multiplications and results, worked out by hand.
"""

import pytest
import tensorflow as tf

from rigl import counting, sparse_utils
from rigl.counting import graph_layers


def variable(name, *shape, **settings):
  return tf.Variable(tf.ones(shape), name=f"{name}/kernel", **settings)


KERNEL = variable("dense", 8, 16)
SQUARE = variable("square", 16, 16)
HEADS = variable("heads", 8, 4, 5)
EXPERTS = variable("experts", 6, 8, 16)
TABLE = variable("table", 100, 8)
LINE = variable("line", 3, 8, 6)
IMAGE = variable("image", 3, 3, 5, 8)
GROUPS = variable("groups", 3, 3, 4, 8)
CHANNELS = variable("channels", 3, 3, 8, 2)
VOLUME = variable("volume", 2, 2, 2, 3, 4)
PLACES = variable("places", 1, 10, 8)
MASK = tf.Variable(tf.ones([8, 16]), trainable=False, name="mask")
LIST = tf.Variable(tf.ones([128]), name="list")


def count(model, shape, dtype=tf.float32):
  """{name: (kind, multiplications, results)} of the layers of a model."""
  specs = graph_layers.find_layers(model, shape, dtype)
  return {s.name: (s.kind, s.size * s.applications, s.results) for s in specs}


SAME = "SAME"
PRODUCTS = {
  "vectors of an example": (
    lambda x: tf.tensordot(x, KERNEL, 1),
    [196, 8],
    {"dense": ("dense", 196 * 8 * 16, 196 * 16)},
  ),
  "matmul of rank 3": (
    lambda x: tf.matmul(x, KERNEL),
    [9, 8],
    {"dense": ("dense", 9 * 8 * 16, 9 * 16)},
  ),
  "a stack of matrices": (
    lambda x: tf.matmul(x, EXPERTS[None]),
    [6, 5, 8],
    {"experts": ("einsum", 6 * 5 * 8 * 16, 6 * 5 * 16)},
  ),
  "kernel on the left": (
    lambda x: tf.linalg.matvec(KERNEL, x, transpose_a=True),
    [8],
    {"dense": ("dense", 8 * 16, 16)},
  ),
  "raw operation": (
    lambda x: tf.raw_ops.MatMul(a=x, b=SQUARE, transpose_b=True),
    [16],
    {"square": ("dense", 256, 16)},
  ),
  "einsum of heads": (
    lambda x: tf.einsum("btd,dhk->bthk", x, HEADS),
    [9, 8],
    {"heads": ("einsum", 9 * 8 * 20, 9 * 20)},
  ),
  "einsum of a stack": (
    lambda x: tf.einsum("bgd,gdk->bgk", x, EXPERTS),
    [6, 8],
    {"experts": ("einsum", 6 * 8 * 16, 6 * 16)},
  ),
  "einsum with an ellipsis": (
    lambda x: tf.einsum("...d,dk->...k", x, KERNEL),
    [3, 9, 8],
    {"dense": ("dense", 27 * 8 * 16, 27 * 16)},
  ),
  "convolution of a sequence": (
    lambda x: tf.nn.conv1d(x, LINE, 2, SAME),
    [9, 8],
    {"line": ("conv1d", 5 * 3 * 8 * 6, 5 * 6)},
  ),
  "convolution of a volume": (
    lambda x: tf.nn.conv3d(x, VOLUME, [1] * 5, "VALID"),
    [4, 4, 4, 3],
    {"volume": ("conv3d", 27 * 8 * 3 * 4, 27 * 4)},
  ),
  "transposed convolution": (
    lambda x: tf.nn.conv2d_transpose(x, IMAGE, [1, 8, 8, 5], 2),
    [4, 4, 8],
    {"image": ("conv2d_transpose", 16 * 9 * 5 * 8, 64 * 5)},
  ),
  "transposed convolution of a sequence": (
    lambda x: tf.nn.conv1d_transpose(x, LINE, [1, 18, 8], 2),
    [9, 6],
    {"line": ("conv1d_transpose", 9 * 3 * 8 * 6, 18 * 8)},
  ),
  "transposed convolution of a volume": (
    lambda x: tf.nn.conv3d_transpose(x, VOLUME, [1, 8, 8, 8, 3], 2),
    [4, 4, 4, 4],
    {"volume": ("conv3d_transpose", 64 * 8 * 3 * 4, 512 * 3)},
  ),
  "grouped convolution": (
    lambda x: tf.nn.conv2d(x, GROUPS, 1, SAME),
    [5, 5, 8],
    {"groups": ("conv2d", 25 * 9 * 4 * 8, 25 * 8)},
  ),
  "dilated convolution": (
    lambda x: tf.nn.atrous_conv2d(x, IMAGE, 2, "VALID"),
    [7, 7, 5],
    {"image": ("conv2d", 9 * 9 * 5 * 8, 9 * 8)},
  ),
  "dilated depthwise convolution of an odd image": (
    lambda x: tf.nn.depthwise_conv2d(
      x, CHANNELS, [1] * 4, SAME, dilations=[2, 2]
    ),
    [5, 5, 8],
    {"channels": ("depthwise_conv2d", 25 * 9 * 16, 25 * 16)},
  ),
  "separable convolution": (
    lambda x: tf.nn.separable_conv2d(
      x, CHANNELS, SQUARE[None, None], [1] * 4, SAME
    ),
    [5, 5, 8],
    {
      "channels": ("depthwise_conv2d", 25 * 9 * 16, 25 * 16),
      "square": ("einsum", 25 * 256, 25 * 16),
    },
  ),
  "masked kernel": (
    lambda x: x @ (KERNEL * tf.cast(MASK > 0, tf.float32)),
    [8],
    {"dense": ("dense", 8 * 16, 16)},
  ),
  "normalised kernel": (
    lambda x: x @ (KERNEL / tf.norm(KERNEL, axis=0, keepdims=True)),
    [8],
    {"dense": ("dense", 8 * 16, 16)},
  ),
  "kernel in a list of weights": (
    lambda x: x @ tf.transpose(tf.reshape(LIST, [16, 8])),
    [8],
    {"list": ("dense", 8 * 16, 16)},
  ),
  "parts of a kernel": (
    lambda x: [x @ part for part in tf.split(KERNEL, 4, axis=1)],
    [8],
    {"dense": ("dense", 8 * 16, 16)},
  ),
  "kernels side by side": (
    lambda x: x @ tf.concat([SQUARE, tf.tile(SQUARE, [1, 1])], 1),
    [16],
    {"square": ("dense", 2 * 256, 32)},
  ),
  "values of a sparse matrix": (
    lambda x: tf.sparse.sparse_dense_matmul(
      tf.SparseTensor([[i // 8, i % 8] for i in range(128)], LIST, [16, 8]),
      tf.transpose(x),
    ),
    [8],
    {"list": ("einsum", 128, 16)},
  ),
  "one of several experts": (
    lambda x: tf.matmul(x, tf.gather(EXPERTS, tf.argmax(x[:, 0, :6], -1))),
    [5, 8],
    {"experts": ("einsum", 5 * 8 * 16, 5 * 16)},
  ),
  "kernel scaled by the example": (
    lambda x: x @ (KERNEL * tf.reduce_mean(x)),
    [8],
    {"dense": ("einsum", 8 * 16 + 8 * 16, 16 + 8 * 16)},
  ),
  "addition of places": (
    lambda x: x + PLACES,
    [10, 8],
    {"places": ("addition", 0, 80)},
  ),
  "scale of each value": (
    lambda x: x * PLACES,
    [10, 8],
    {"places": ("multiplication", 80, 80)},
  ),
  "token before the others": (
    lambda x: tf.concat([PLACES[:, :1], x], 1),
    [10, 8],
    {"places": ("embedding", 0, 0)},
  ),
  "constant that a kernel is applied to": (
    lambda x: tf.zeros([1, 16]) @ SQUARE + x,
    [16],
    {"square": ("dense", 256, 16)},
  ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_counts_worked_out_by_hand(name):
  model, shape, expected = PRODUCTS[name]
  assert count(model, shape) == expected


def test_sum_of_additions_and_multiplications():
  # 5 positions of 3 * 8 products: one addition less for each of 6 sums.
  (spec,) = graph_layers.find_layers(
    PRODUCTS["convolution of a sequence"][0], [9, 8]
  )
  assert counting.count_layer(spec).count.flops == 5 * 6 * (24 + 23)
  (spec,) = graph_layers.find_layers(
    PRODUCTS["transposed convolution"][0], [4, 4, 8]
  )
  assert counting.count_layer(spec).count[:2] == (5760, 5760 - 320)
  (spec,) = graph_layers.find_layers(PRODUCTS["addition of places"][0], [10, 8])
  assert counting.count_layer(spec).count == (0, 80, 80 * 32, 0)
  assert counting.count_layer(spec, 0.5).count == (0, 40, 40 * 32, 80)
  (spec,) = graph_layers.find_layers(
    PRODUCTS["scale of each value"][0], [10, 8]
  )
  assert counting.count_layer(spec, 0.5).count[:2] == (40, 0)


def test_lookups_cost_storage_only():
  indices = [12]
  for lookup in (
    lambda i: tf.gather(TABLE, i),
    lambda i: tf.nn.embedding_lookup(TABLE, i),
    lambda i: tf.gather_nd(TABLE, i[..., None]),
  ):
    assert count(lookup, indices, tf.int32) == {"table": ("embedding", 0, 0)}
  stats = sparse_utils.get_stats(
    graph_layers.find_layers(lookup, indices, tf.int32), 0.0, "random"
  )
  assert stats == (0, 800 * 32, 0)


def test_table_that_is_also_the_kernel_of_the_logits():
  counted = count(
    lambda i: tf.matmul(tf.gather(TABLE, i), TABLE, transpose_b=True),
    [12],
    tf.int32,
  )
  assert counted == {"table": ("dense", 12 * 800, 12 * 100)}


def test_a_kernel_that_is_used_twice_counts_twice():
  assert count(lambda x: (x @ KERNEL, x @ KERNEL), [8]) == {
    "dense": ("dense", 2 * 128, 32)
  }
  # On images of two sizes.
  assert count(
    lambda x: (
      tf.nn.conv2d(x, IMAGE, 1, SAME),
      tf.nn.conv2d(x[:, ::2, ::2], IMAGE, 1, SAME),
    ),
    [8, 8, 5],
  ) == {"image": ("conv2d", (64 + 16) * 360, (64 + 16) * 8)}


def test_variables_that_are_folded_into_a_kernel_are_stored():
  up, down = variable("up", 16, 2), variable("down", 2, 16)
  assert count(lambda x: x @ (SQUARE + up @ down), [16]) == {
    "square": ("dense", 256, 16),
    "up": ("dense", 0, 0),
    "down": ("dense", 0, 0),
  }


def test_one_of_two_kernels_is_applied():
  other = variable("other", 8, 16)
  for model in (
    lambda x: x @ tf.where(x[0, 0] > 0, KERNEL, other),
    lambda x: x @ tf.cond(x[0, 0] > 0, lambda: KERNEL + 0, lambda: other + 0),
  ):
    assert count(model, [8]) == {
      "dense": ("dense", 128, 16),
      "other": ("dense", 0, 0),
    }


def test_what_no_result_needs_does_not_count():
  def model(x):
    x @ SQUARE  # noqa: B018
    return x @ used

  used = variable("used", 16, 2)
  assert count(model, [16]) == {"used": ("dense", 32, 2)}


def test_a_variable_of_which_only_a_norm_is_used_is_stored():
  def model(x):
    return (
      x * tf.reduce_max(tf.abs(SQUARE)),
      tf.nn.l2_loss(KERNEL),
      tf.shape(TABLE),
    )

  assert count(model, [16]) == {
    "square": ("embedding", 0, 0),
    "dense": ("embedding", 0, 0),
  }


def test_products_of_activations_have_no_kernel():
  def attention(x):
    value = tf.matmul(x, SQUARE)
    scores = tf.nn.softmax(tf.matmul(value, value, transpose_b=True))
    return tf.matmul(scores, value)

  assert count(attention, [5, 16]) == {"square": ("dense", 5 * 256, 5 * 16)}


@pytest.mark.parametrize(
  "model, shape, message",
  [
    (lambda x: tf.maximum(x, PLACES), [10, 8], "'places' .*Maximum.*underst"),
    (lambda x: tf.atan2(x, PLACES), [10, 8], "'places' .*Atan2.*understood"),
    (
      lambda x: tf.searchsorted(tf.reshape(KERNEL, [1, -1]), x),
      [8],
      "'dense' .*understood",
    ),
    (
      lambda x: tf.py_function(lambda a: a @ KERNEL, [x], tf.float32),
      [8],
      "EagerPyFunc.*runs Python code",
    ),
    (
      lambda x: x @ (SQUARE[:, :2] @ LINE[0, :2]),
      [16],
      "made of several variables",
    ),
    (
      lambda x: tf.nn.conv2d(
        x, tf.reshape(tf.reduce_mean(x, [1, 2]) @ KERNEL, [1, 1, 8, 2]), 1, SAME
      ),
      [3, 8, 8],
      "kernel that is computed from the examples",
    ),
  ],
)
def test_what_is_not_understood_is_named(model, shape, message):
  with pytest.raises(ValueError, match=f"(?s)`model` must use .*{message}"):
    graph_layers.find_layers(model, shape)


def test_what_is_not_understood_may_be_ignored():
  def model(x):
    return tf.tensordot(tf.maximum(x, PLACES), KERNEL, 1)

  for name in ("places", "places/kernel"):
    (spec,) = graph_layers.find_layers(model, [10, 8], ignore=[name])
    assert spec.name == "dense"
  assert counting.find_layers(model, [10, 8], ignore=["places"]) == [spec]


def test_layers_of_one_name_get_numbers():
  kernels = [tf.Variable(tf.ones([4, 4])) for _ in range(3)]
  specs = graph_layers.find_layers(
    lambda x: x @ kernels[0] @ kernels[1] @ kernels[2], [4]
  )
  assert [s.name for s in specs] == ["Variable", "Variable_1", "Variable_2"]


def test_several_inputs_come_in_their_structure():
  shapes = {"vector": [8], "indices": [12]}
  types = {"vector": tf.float32, "indices": tf.int32}
  assert count(
    lambda x: (x["vector"] @ KERNEL, tf.gather(TABLE, x["indices"])),
    shapes,
    types,
  ) == {"dense": ("dense", 128, 16), "table": ("embedding", 0, 0)}
  assert count(lambda x: (x[0] + x[1]) @ KERNEL, [[8], [8]]) == {
    "dense": ("dense", 128, 16)
  }
  with pytest.raises(ValueError, match="`input_shape` must be .* got 8"):
    graph_layers.find_layers(lambda x: x @ KERNEL, 8)
