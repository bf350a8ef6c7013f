# SPDX-License-Identifier: Apache-2.0
"""Tables of connections, FLOPs and bytes, by hand-worked values."""

import keras
import numpy as np
import pytest

import rigl
import rigl.keras as rk


def conv_and_dense():
  inputs = keras.Input([8, 8, 3])
  conv = keras.layers.Conv2D(
    4, 3, padding="same", activation="relu", name="conv"
  )
  outputs = conv(inputs)
  outputs = keras.layers.Flatten()(outputs)
  return keras.Model(inputs, keras.layers.Dense(10, name="last")(outputs))


def sparse(model, **settings):
  settings = {"distribution": "uniform", "sparsity": 0.75} | settings
  model.compile(rk.FixedMask("sgd", **settings))
  model.optimizer.build(model.trainable_variables)
  return model


def test_numbers_are_those_of_the_micronet_rules():
  table = rk.summarize_sparsity(sparse(conv_and_dense()))
  conv, last = table.layers
  # 3 x 3 x 3 x 4 weights, a quarter of them active, applied 64 times: 108 and
  # 27 products; with a bias as many additions; a ReLU costs one per output. The
  # dense layer has no activation.
  assert (conv.layer, conv.shape, conv.active) == ("conv", (3, 3, 3, 4), 27)
  assert conv.sparsity == 0.75
  assert conv.dense_flops == 64 * (108 + 108 + 4)
  assert conv.sparse_flops == 64 * (27 + 27 + 4)
  assert conv.dense_bytes == (108 + 4) * 4
  assert conv.sparse_bytes == (27 + 4) * 4 + 108 / 8
  assert (last.size, last.active) == (2560, 640)
  assert last.dense_flops == 2560 + 2560
  assert last.sparse_flops == 640 + 640
  assert table.size == 2668
  assert table.active == 667
  assert table.sparsity == 0.75
  assert table.dense_flops == conv.dense_flops + last.dense_flops
  assert table.sparse_flops == conv.sparse_flops + last.sparse_flops
  assert table.dense_bytes == conv.dense_bytes + last.dense_bytes
  assert table.sparse_bytes == conv.sparse_bytes + last.sparse_bytes


def test_text_has_a_row_per_layer_and_the_totals():
  text = str(rk.summarize_sparsity(sparse(conv_and_dense())))
  header, conv, last, total = (line.split() for line in text.splitlines())
  assert header[:4] == ["Layer", "Shape", "Active", "Sparsity"]
  assert conv[:4] == ["conv", "3x3x3x4", "27", "75.00%"]
  assert last[:4] == ["last", "256x10", "640", "75.00%"]
  assert total[:3] == ["Total", "667", "75.00%"]
  assert total[3:5] == ["19,200", "4,992"]


def test_stats_are_the_totals_and_agree_with_the_count_of_that_sparsity():
  model = sparse(conv_and_dense())
  stats = rk.get_stats(model)
  assert stats == rigl.get_stats(model, 0.75, "random")
  assert stats.real_sparsity == 0.75


def test_a_stripped_model_counts_its_zeros():
  model = sparse(conv_and_dense())
  model.compile(model.optimizer, "mse")
  table = rk.summarize_sparsity(model)
  assert rk.summarize_sparsity(rk.strip(model)) == table


def test_grown_weights_that_are_zero_still_count_as_active():
  model = sparse(conv_and_dense())
  kernel = model.get_layer("conv").kernel
  kernel.assign(keras.ops.zeros_like(kernel))
  assert rk.summarize_sparsity(model).layers[0].active == 27


def test_dense_layers_of_a_sparse_model_are_dense():
  model = sparse(conv_and_dense(), filters="last")
  conv, last = rk.summarize_sparsity(model).layers
  assert conv.active == conv.size
  assert conv.sparse_bytes == conv.dense_bytes
  assert last.sparsity == 0.75


def test_zeros_of_a_frozen_layer_count_beside_a_sparse_one():
  model = sparse(conv_and_dense(), filters="conv")
  model.layers[1].trainable = False
  model = sparse(model, filters="last")
  assert [la.sparsity for la in rk.summarize_sparsity(model).layers] == [
    0.75
  ] * 2


def test_weights_that_were_assigned_off_the_masks_count_as_active():
  model = sparse(conv_and_dense())
  conv, _ = rk.summarize_sparsity(model).layers
  kernel = next(v for v in model.trainable_variables if "conv" in v.path)
  moved = np.roll(kernel.numpy().reshape(-1), 1).reshape(kernel.shape)
  kernel.assign(moved)
  # As many as before, elsewhere.
  assert rk.summarize_sparsity(model).layers[0].active == conv.active
  kernel.assign(np.ones(kernel.shape))
  assert rk.summarize_sparsity(model).layers[0].active == conv.size


def test_within_a_loss_scale():
  model = conv_and_dense()
  optimizer = rk.FixedMask("sgd", 0.75, distribution="uniform")
  model.compile(keras.optimizers.LossScaleOptimizer(optimizer))
  model.optimizer.build(model.trainable_variables)
  assert rk.summarize_sparsity(model).sparsity == 0.75


class Subclassed(keras.Model):
  def __init__(self):
    super().__init__()
    self.hidden = keras.layers.Dense(8, name="hidden")
    self.last = keras.layers.Dense(2, use_bias=False, name="last")

  def call(self, inputs):
    return self.last(self.hidden(inputs))


def test_without_known_sizes_bytes_are_counted_and_flops_are_not():
  model = Subclassed()
  model(np.zeros([1, 4]))
  table = rk.summarize_sparsity(sparse(model))
  hidden, last = table.layers
  assert (hidden.active, last.active) == (8, 4)
  assert hidden.dense_bytes == (32 + 8) * 4
  assert last.sparse_bytes == 4 * 4 + 16 / 8
  if hidden.dense_flops is None:  # It is known where shapes are recorded.
    assert table.sparse_flops is None
    assert "FLOPs are not known" in str(table)
    with pytest.raises(ValueError, match="`model` must be one to count"):
      rk.get_stats(model)


def attention():
  inputs = keras.Input([6, 8])
  outputs = keras.layers.MultiHeadAttention(2, 4, name="mha")(inputs, inputs)
  outputs = keras.layers.SeparableConv1D(4, 3, name="separable")(outputs)
  return keras.Model(inputs, keras.layers.Dense(3, name="last")(outputs))


def nested():
  inputs = keras.Input([8])
  inner = keras.Sequential(
    [keras.Input([8]), keras.layers.Dense(8, name="one")], name="inner"
  )
  outputs = keras.layers.Dense(4, name="two")(inner(inner(inputs)))
  return keras.Model(inputs, outputs)


@pytest.mark.parametrize("make", [attention, nested, conv_and_dense])
def test_active_connections_are_those_of_the_masks(make):
  model = sparse(make())
  table = rk.summarize_sparsity(model)
  ones = sum(mask.numpy().sum() for mask in model.optimizer.masks.values())
  total = sum(mask.numpy().size for mask in model.optimizer.masks.values())
  assert table.size - table.active == total - ones
  assert table.size >= total


def test_models_without_kernels_are_refused():
  with pytest.raises(ValueError, match="`model` must be built"):
    rk.summarize_sparsity(Subclassed())
  model = keras.Sequential([keras.Input([4]), keras.layers.ReLU()])
  with pytest.raises(ValueError, match="kernel"):
    rk.summarize_sparsity(model)


@pytest.mark.parametrize("name", ["MobileNet", "ResNet50"])
def test_networks_of_keras_are_counted(name):
  model = getattr(keras.applications, name)(weights=None)
  table = rk.summarize_sparsity(sparse(model, sparsity=0.9))
  assert table.sparse_flops < 0.35 * table.dense_flops
  kernels = [v for v in model.weights if len(v.shape) > 1]
  assert table.size == sum(np.prod(v.shape) for v in kernels)
