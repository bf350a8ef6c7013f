# SPDX-License-Identifier: Apache-2.0
import gin
import numpy as np
import pytest
import tensorflow as tf

from rigl.counting import LayerSpec
from rigl.counting.architectures import tables
from rigl.imagenet_resnet.models.factory import (
  ARCHITECTURES,
  create_model,
  end_layers,
)
from rigl.layers import Conv2D, DepthwiseConv2D

SMALL = {"width": 0.1, "num_classes": 7}


def images_of(size=33, batch=2):
  rng = np.random.default_rng(0)
  return rng.normal(size=(batch, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize(
  ("architecture", "depth", "kernels", "flops"),
  [
    ("resnet", 18, 11_683_008, 3.6e9),
    ("resnet", 34, 21_783_744, 7.3e9),
    ("resnet", 50, 25_502_912, 8.2e9),
    pytest.param("resnet", 101, 44_442_816, 15.7e9, marks=pytest.mark.slow),
    pytest.param("resnet", 152, 60_040_384, 23.1e9, marks=pytest.mark.slow),
    pytest.param("resnet", 200, 64_496_832, 30.1e9, marks=pytest.mark.slow),
    ("mobilenet_v1", 0, 4_209_088, 1.14e9),
    ("mobilenet_v2", 0, 3_469_760, 0.6e9),
    ("vgg_a", 0, 9_729_728, 15.0e9),
    ("vgg_16", 0, 15_222_464, 30.7e9),
    ("vgg_19", 0, 20_530_880, 39.0e9),
  ],
)
def test_sizes_and_operations_are_those_of_the_literature(
  architecture, depth, kernels, flops
):
  model = create_model(architecture, depth)
  specs = model.layer_specs()
  assert sum(s.size for s in specs) == kernels
  products = sum(s.size * s.applications for s in specs)
  assert 2 * products == pytest.approx(flops, rel=0.02)


@pytest.mark.parametrize("size", [32, 47, 64])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layer_specs_are_the_layers_that_run(architecture, size, monkeypatch):
  model = create_model(architecture, 18, **SMALL)

  def watch(call):
    def watched(layer, images):
      seen.append((tuple(layer.kernel.shape), images.shape[1]))
      return call(layer, images)

    return watched

  seen = []
  for kind in (Conv2D, DepthwiseConv2D):
    monkeypatch.setattr(kind, "__call__", watch(kind.__call__))
  model(images_of(size))
  monkeypatch.undo()
  images = [spec for spec in model.layer_specs(size) if spec.kind != "dense"]
  found = []
  for spec in images:
    zeros = spec.kernel_shape[0] - 1 if spec.padding == "valid" else 0
    found.append((spec.kernel_shape, spec.input_size[0] - zeros))
  assert found == seen


def test_layer_specs_name_kinds_and_strides():
  specs = create_model("mobilenet_v1").layer_specs()
  assert specs[0] == LayerSpec(
    "resnet_model/initial_conv", "conv2d", (3, 3, 3, 32), 226, 2, "valid"
  )
  assert specs[3] == LayerSpec(
    "resnet_model/depthwise_nxn_1",
    "depthwise_conv2d",
    (3, 3, 64, 1),
    114,
    2,
    "valid",
  )
  assert specs[-1] == LayerSpec(
    "resnet_model/final_dense", "dense", (1024, 1000), activation=None
  )


def test_images_that_are_too_small_have_no_layer_specs():
  with pytest.raises(ValueError, match="`image_size` must be .* 1, got 0"):
    create_model("resnet", 18, **SMALL).layer_specs(0)
  with pytest.raises(ValueError, match="`image_size` .* 'vgg_a', got 15: "):
    create_model("vgg_a", **SMALL).layer_specs(15)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_variable_that_is_trained_has_a_gradient(architecture):
  model = create_model(architecture, 50, **SMALL)
  for norm in model.trainable_variables:
    if "gamma" in norm.name:  # Zero hides what is before it.
      norm.assign(tf.ones_like(norm))
  with tf.GradientTape() as tape:
    logits = model(images_of(64), training=True)
    loss = tf.reduce_sum(logits**2)
  assert logits.shape == (2, 7) and logits.dtype == tf.float32
  for variable, gradient in zip(
    model.trainable_variables,
    tape.gradient(loss, model.trainable_variables),
    strict=True,
  ):
    assert np.any(gradient.numpy() != 0), variable.name


@pytest.mark.parametrize("architecture", ["resnet", "mobilenet_v2"])
def test_training_differs_from_evaluation_and_moves_averages(architecture):
  model = create_model(architecture, 18, **SMALL)
  averages = [v for v in model.variables if not v.trainable]
  before = [v.numpy() for v in averages]
  evaluated = model(images_of(64))
  assert all(
    np.array_equal(v, b) for v, b in zip(averages, before, strict=True)
  )
  trained = model(images_of(64), training=True)
  assert not np.allclose(evaluated, trained)
  assert not any(
    np.array_equal(v, b) for v, b in zip(averages, before, strict=True)
  )


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet", "mobilenet_v2", "vgg_a"])
def test_channels_first_trains_to_the_same_gradients(architecture, monkeypatch):
  # XLA compiles for as long as there are blocks. These are of every kind.
  monkeypatch.setattr(tables, "MOBILENET_V2", tables.MOBILENET_V2[:4])
  monkeypatch.setitem(tables.RESNETS, 18, (1, 2, 1, 1))

  def gradient_of(**settings):
    model = create_model(architecture, 18, **SMALL, **settings)

    @tf.function(jit_compile=True)
    def gradients():
      with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images_of(64), training=True) ** 2)
      return tape.gradient(loss, model.trainable_variables)

    return gradients()

  last = gradient_of()
  first = gradient_of(data_format="channels_first")
  for a, b in zip(last, first, strict=True):
    np.testing.assert_allclose(
      np.linalg.norm(a - b), 0, atol=1e-2 * np.linalg.norm(a) + 1e-4
    )


def test_blocks_of_a_new_resnet_are_their_shortcuts():
  model = create_model("resnet", 50, **SMALL)
  images = tf.nn.relu(tf.random.stateless_normal([2, 8, 8, 24], [1, 2]))
  block = model.blocks[1]
  np.testing.assert_array_equal(block(images, training=True), images)


def test_width_that_is_not_positive_means_one():
  model = create_model("resnet", 18, width=-1.0)
  assert model.blocks[-1].channels == 512


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_first_and_last_kernel_are_sparsified_on_request(
  architecture, first, last
):
  ends = end_layers(architecture, 0.5, 0.5)
  names = list(ends.custom_sparsity_map)
  model = create_model(
    architecture, 18, prune_first_layer=first, prune_last_layer=last, **SMALL
  )
  kernels = list(model.kernels)
  assert (kernels[0] == names[0]) == first
  assert (kernels[-1] == names[1]) == last
  assert not any("depthwise" in name for name in kernels)


@pytest.mark.parametrize(
  ("architecture", "first", "last", "expected"),
  [
    ("resnet", 0, -1, (False, True, {})),
    ("resnet", -1, 0, (True, False, {})),
    ("resnet", 0.5, 0, (True, False, {"resnet_model/initial_conv": 0.5})),
    ("resnet", 0, 0.3, (False, True, {"resnet_model/final_dense": 0.3})),
    ("mobilenet_v1", -1, -1, (False, True, {})),
    ("mobilenet_v2", 0.5, -1, (True, True, {"resnet_model/initial_conv": 0.5})),
    ("vgg_16", 0, 0, (True, False, {})),
    (
      "vgg_a",
      0.5,
      0.2,
      (True, True, {"vgg_a/conv1/conv1_1": 0.5, "vgg_a/fc8": 0.2}),
    ),
  ],
)
def test_sparsities_of_the_ends_become_arguments(
  architecture, first, last, expected
):
  assert end_layers(architecture, first, last) == expected


@pytest.mark.parametrize("value", [-0.5, 1.0, 2.0, float("nan")])
def test_impossible_sparsities_of_the_ends_are_refused(value):
  with pytest.raises(ValueError, match=r"`first_layer_sparsity` must be -1 or"):
    end_layers("resnet", value, 0)
  with pytest.raises(ValueError, match=r"`last_layer_sparsity` must be -1 or"):
    end_layers("resnet", 0, value)


def test_sparse_initialisation_scales_the_kernels_to_sparsify():
  sparsities = dict.fromkeys(create_model("resnet", 18, **SMALL).kernels, 0.75)
  dense = create_model("resnet", 18, **SMALL)
  for sparsity in (0.75, sparsities):
    model = create_model(
      "resnet", 18, init_method="sparse", init_sparsity=sparsity, **SMALL
    )
    for name, variable in model.named_variables.items():
      layer = name.rsplit("/", 1)[0]
      scale = 2 if layer in model.kernels and "weights" in name else 1
      np.testing.assert_allclose(
        variable, scale * dense.named_variables[name], rtol=1e-6, err_msg=name
      )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      {"architecture": "resnext"},
      "`architecture` must be one of .*vgg_16.*got",
    ),
    ({"depth": 51}, r"`depth` must be one of \[18, 34, 50, 101, .*got 51"),
    ({"num_classes": 0}, "`num_classes` must be >= 1, got 0"),
    ({"data_format": "NHWC"}, "`data_format` must be one of .*channels_first"),
    ({"precision": "float16"}, "`precision` must be one of .*got 'float16'"),
    ({"init_method": "zeros"}, "`init_method` must be one of .*sparse"),
    (
      {"init_method": "sparse", "init_sparsity": {}},
      "`init_sparsity` has no value for 'resnet_model/",
    ),
    (
      {"architecture": "mobilenet_v2", "expansion_factor": 0.0},
      "`expansion_factor` must be > 0, got 0.0",
    ),
  ],
)
def test_impossible_settings_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    create_model(**arguments)


def test_gin_sets_the_width():
  with gin.unlock_config():
    gin.bind_parameter("create_model.width", 0.5)
  try:
    assert create_model("resnet", 18).blocks[-1].channels == 256
  finally:
    gin.clear_config()
