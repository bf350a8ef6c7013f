# SPDX-License-Identifier: Apache-2.0
"""Layer lists of the published networks against recorded shapes and totals."""

import gzip
import itertools
import json
import pathlib

import pytest

from rigl import sparse_utils
from rigl.counting import architectures

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def masks():
  with gzip.open(GOLDEN / "sparsities.json.gz", "rt") as file:
    return json.load(file)["mask_lists"]


@pytest.mark.parametrize(
  "arch",
  [
    "resnet50_first_pruned",
    "resnet18_first_pruned",
    "mobilenet_v1",
    "mobilenet_v2",
    "vgg_16",
    "wrn_22_2_first_pruned",
    "mnist_fc",
  ],
)
def test_names_and_shapes_are_those_of_the_published_masks(masks, arch):
  expected = [
    (name.removesuffix("/mask:0"), tuple(shape)) for name, shape in masks[arch]
  ]
  layers = architectures.network(arch.removesuffix("_first_pruned"))
  # The published MobileNets never mask their first and depthwise kernels.
  unmasked = "mobilenet" in arch
  ours = [
    (layer.name, layer.kernel_shape)
    for layer in layers
    if not unmasked
    or (layer.kind != "depthwise_conv2d" and layer is not layers[0])
  ]
  assert ours == expected


# Kernels and biases (one a channel for a batch norm): numbers of parameters
# that the papers and Keras give, without the second number of a batch norm.
@pytest.mark.parametrize(
  "name, weights, biases",
  [
    ("resnet50", 25_502_912, 27_560),
    ("mobilenet_v1", 4_209_088, 11_944),
    ("mobilenet_v2", 3_469_760, 18_056),
    ("mnist_fc", 266_200, 410),
  ],
)
def test_numbers_of_weights(name, weights, biases):
  layers = architectures.network(name)
  assert sum(layer.size for layer in layers) == weights
  stats = sparse_utils.get_stats(layers, 0.0, "random")
  assert stats.total_param_bits == 32 * (weights + biases)


def multiplications(name):
  layers = architectures.network(name)
  return sum(layer.size * layer.applications for layer in layers)


# Multiply-adds: He et al., 2015, table 1 (their stride is on the first 1x1 for
# 50 layers and more, so ours are about 5 % more); Howard et al., table 4;
# Sandler et al., table 4.
@pytest.mark.parametrize(
  "name, billions, deviation",
  [
    ("resnet18", 1.8, 0.05),
    ("resnet34", 3.6, 0.05),
    ("resnet50", 3.8, 0.1),
    ("resnet101", 7.6, 0.1),
    ("resnet152", 11.3, 0.1),
    ("mobilenet_v1", 0.569, 0.01),
    ("mobilenet_v2", 0.300, 0.01),
  ],
)
def test_multiplications_are_those_of_the_papers(name, billions, deviation):
  assert multiplications(name) == pytest.approx(1e9 * billions, rel=deviation)


@pytest.mark.parametrize(
  "name", ["resnet18", "resnet50", "vgg_16", "mobilenet_v1", "mobilenet_v2"]
)
def test_layers_fit_into_each_other(name):
  main = [
    layer
    for layer in architectures.network(name)
    if not layer.name.startswith(
      ("resnet_model/residual_projection", "resnet_model/bottleneck_projection")
    )
  ]
  for before, after in itertools.pairwise(main):
    assert after.kernel_shape[
      -2 if after.kind != "depthwise_conv2d" else 2
    ] == (before.outputs)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v1", "vgg_16"])
def test_width_changes_all_but_inputs_and_classes(name):
  narrow = architectures.network(name, 0.5)
  full = architectures.network(name)
  assert narrow[0].kernel_shape[-2] == full[0].kernel_shape[-2]
  assert narrow[-1].outputs == full[-1].outputs
  assert narrow[0].outputs * 2 == full[0].outputs
  assert sum(n.size for n in narrow) < 0.4 * sum(n.size for n in full)


def test_width_multiplies_that_of_a_wide_network():
  assert architectures.network("wrn_22_2", 3.0) == (
    architectures.network("wrn_22_6")
  )
  # 16 * 2 * 1.1 = 35.2 channels, rounded down.
  assert architectures.network("wrn_22_2", 1.1)[2].outputs == 35


def test_width_multiplies_hidden_units():
  layers = architectures.network("mnist_fc", 1.505)
  shapes = [layer.kernel_shape for layer in layers]
  assert shapes == [(784, 451), (451, 150), (150, 10)]


def test_mobilenet_channels_are_multiples_of_eight_and_not_much_less():
  for width in (0.25, 0.35, 0.6, 0.75, 1.3):
    layers = architectures.mobilenet_v1(width)
    full = architectures.mobilenet_v1()
    for layer, reference in zip(layers[3:-1], full[3:-1], strict=True):
      assert layer.outputs % 8 == 0 or layer.kernel_shape[2] % 8
      assert layer.outputs >= 0.9 * width * reference.outputs


@pytest.mark.parametrize("size", [32, 65, 224, 299])
def test_images_of_any_size_are_halved_rounding_up(size):
  for network in (
    architectures.resnet(18, image_size=size),
    architectures.mobilenet_v1(image_size=size),
  ):
    halved = -(-size // 2)
    assert network[0].applications == halved**2


@pytest.mark.parametrize(
  "arguments, message",
  [
    (("resnet51",), r"`model` must be one of .*'resnet50'.* got 'resnet51'"),
    (("wrn_23_2",), "`depth` must be 4 more .* got 23"),
    (("wrn_22_2", 0.0), "`width` must be positive and finite, got 0.0"),
    (("mnist_fc", -2.0), "`width` must be positive and finite, got -2.0"),
    (("resnet50", 0.0), "`width` must be positive"),
    (("resnet50", 1.0, -2), "`image_size` must be at least 1, got -2"),
    (("resnet50", 1.0, 0), "`image_size` must be at least 1, got 0"),
    (("mnist_fc", 1.0, -3), "`image_size` must be at least 1, got -3"),
  ],
)
def test_wrong_networks_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    architectures.network(*arguments)
  with pytest.raises(ValueError, match="`depth` must be in .* got 51"):
    architectures.resnet(51)
  with pytest.raises(ValueError, match="`units` must be at least two .*784"):
    architectures.mnist_fc((784,))
