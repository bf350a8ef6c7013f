# SPDX-License-Identifier: Apache-2.0
"""Calculations of the published notebooks whose numbers are known."""

import gzip
import json
import math
import pathlib

import pytest

from rigl import counting, sparse_utils
from rigl.counting import architectures
from rigl.flops.paper import dsr_rows

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
# Bits of a network divided by those of the one that it is compared with, as the
# published code computes them.
RESNET_SMALL = [
  (0.8, 0.465, 0.9817616035276974),
  (0.9, 0.34, 0.9886626735981414),
  (0.95, 0.26, 0.9916439697307019),
  (0.965, 0.231, 0.9948985001416601),
]
RESNET_BIG = [(0.8, 2.1, 1.015258362095203), (0.9, 2.8, 1.0132021474043174)]
# Their stored outputs have one more or less in the fourth digit.
MOBILENET_SMALL = [
  (0.75, 0.47, 0.9933069386323201),
  (0.85, 0.353, 0.9998465577573507),
  (0.9, 0.285, 0.9997012041294663),
  (0.95, 0.204, 0.9983208447354471),
]
MOBILENET_BIG = [
  (0.75, 1.98, 1.0084815029856933),
  (0.85, 2.52, 1.0032508697787672),
  (0.9, 3.0, 1.0119844409323535),
  (0.95, 3.98, 1.0030437691974188),
]


def published_mobilenet():
  """Its last layer is a convolution, which ERK sees."""
  layers = architectures.mobilenet_v1()
  shape = (1, 1, *layers[-1].kernel_shape)
  return [*layers[:-1], counting.LayerSpec("conv_preds", "conv2d", shape, 1)]


def bits(layers, sparsity, custom=None, width=1.0):
  return sparse_utils.get_stats(
    layers,
    sparsity,
    "erdos_renyi_kernel",
    custom,
    width=width,
    published_rules=True,
  ).total_param_bits


@pytest.mark.parametrize("sparsity, width, ratio", RESNET_SMALL)
def test_small_dense_resnet(sparsity, width, ratio):
  layers = architectures.resnet(50)
  found = bits(layers, sparsity) / bits(layers, 0.0, width=width)
  assert found == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize("sparsity, width, ratio", RESNET_BIG)
def test_big_sparse_resnet(sparsity, width, ratio):
  layers = architectures.resnet(50)
  found = bits(layers, 0.0) / bits(layers, sparsity, width=width)
  assert found == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize("sparsity, width, ratio", MOBILENET_SMALL)
def test_small_dense_mobilenet(sparsity, width, ratio):
  layers = published_mobilenet()
  first_dense = {layers[0].name: 0.0}
  found = bits(layers, sparsity, first_dense) / bits(layers, 0.0, width=width)
  assert found == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize("sparsity, width, ratio", MOBILENET_BIG)
def test_big_sparse_mobilenet(sparsity, width, ratio):
  layers = published_mobilenet()
  sparse = bits(layers, sparsity, {layers[0].name: 0.0}, width)
  assert bits(layers, 0.0) / sparse == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize(
  "sparsity, width, flops, size",
  [
    # The second is of the published notebook; the last layer is at 0.8 there.
    (0.8, 1.0, 1848468289.6, 189834905.6),
    (0.9, 2.8, 6943091333.8, 816921905.4),
  ],
)
def test_uniform_resnet_at_published_widths(sparsity, width, flops, size):
  layers = architectures.resnet(50)
  custom = {layers[0].name: 0.0, layers[-1].name: 0.8}
  stats = sparse_utils.get_stats(
    layers, sparsity, "random", custom, width=width, published_rules=True
  )
  assert stats.total_flops == pytest.approx(flops, rel=1e-9)
  assert stats.total_param_bits == pytest.approx(size, rel=1e-9)


def test_softened_erk():
  stats = sparse_utils.get_stats(
    architectures.resnet(50),
    0.8,
    "erdos_renyi_kernel",
    erk_power_scale=0.2,
    published_rules=True,
  )
  assert stats.total_flops == pytest.approx(1930008624.6146865, rel=1e-9)
  assert stats.total_param_bits == pytest.approx(189604256.0, rel=1e-9)


# --- DSR ----------------------------------------------------------------------

# In the order of the network, whose projection (branch 1) is at the fifth place
# of a group.
DSR = {
  0.8: """0 0 .15 .5 .425 .575 .55 .425 .32 .44 .15
    0 .15 .55 .6 .8 .65 .75 .65 .65 .65 .55 .65 .7
    0 .35 .65 .85 .9 .8 .85 .85 .8 .85 .85 .85 .85 .8 .8 .9 .75 .8 .85
    0 .65 .85 .95 .85 .8 .9 .65 .9 .8 .8""",
  0.9: """0 0 .4 .6 .65 .65 .6 .6 .5 .6 .45
    0 .4 .7 .8 .9 .8 .85 .8 .75 .8 .7 .8 .8
    0 .6 .8 .95 .95 .9 .95 .9 .9 .95 .9 .9 .95 .9 .9 .95 .85 .85 .9
    0 .8 .95 .95 .9 .9 .95 .8 .95 .9 .9""",
}


def keras_layers():
  with gzip.open(GOLDEN / "flops.json.gz", "rt") as file:
    return json.load(file)["models"]["keras_resnet50"]


@pytest.mark.parametrize("overall", dsr_rows.KNOWN)
def test_dsr_has_the_published_sparsities(overall):
  values = [float(text) for text in DSR[overall].split()]
  layers = architectures.resnet(50)
  custom = dsr_rows.learned_sparsities(overall)
  assert len(values) == len(custom) == len(layers) == 54
  assert list(custom) == [layer.name for layer in layers]
  # Both orders, by what tells the layers apart.
  theirs = keras_layers()
  by_keras = sorted(
    (tuple(layer["kernel_shape"]), value)
    for layer, value in zip(theirs, values, strict=True)
  )
  assert by_keras == sorted(
    (tuple(layer.kernel_shape), custom[layer.name]) for layer in layers
  )
  for group, branch in ((1, 4), (2, 14), (3, 27), (4, 46)):
    assert theirs[branch]["layer_name"].endswith("a_branch1")
    name = f"bottleneck_projection_block_group_projection_block_group{group}"
    assert custom[f"resnet_model/{name}"] == values[branch]


@pytest.mark.parametrize("overall", dsr_rows.KNOWN)
def test_dsr_costs_what_a_count_by_hand_says(overall):
  values = [float(text) for text in DSR[overall].split()]
  total_bits = zeros = weights = 0.0
  for layer, sparsity in zip(keras_layers(), values, strict=True):
    size, outputs = math.prod(layer["kernel_shape"]), layer["kernel_shape"][-1]
    nonzero = size * (1 - sparsity)
    # A nonzero has 32 bits, a weight of a sparse kernel one more, a bias 32.
    total_bits += 32 * (nonzero + outputs) + (size if sparsity else 0)
    zeros += int(size * sparsity)
    weights += size
  stats = sparse_utils.get_stats(
    architectures.resnet(50),
    0.0,
    "random",
    dsr_rows.learned_sparsities(overall),
    published_rules=True,
  )
  assert stats.total_param_bits == pytest.approx(total_bits, rel=1e-9)
  assert stats.real_sparsity == pytest.approx(zeros / weights, rel=1e-9)
  assert stats.real_sparsity == pytest.approx(overall, abs=0.05)


def test_unknown_dsr_sparsity_is_refused():
  with pytest.raises(ValueError, match="`overall` must be in .* got 0.85"):
    dsr_rows.learned_sparsities(0.85)
