# SPDX-License-Identifier: Apache-2.0
"""`get_stats`: distributes a sparsity over layers and counts them."""

import math
import subprocess
import sys

import pytest

from rigl import counting, sparse_utils
from rigl.counting import LayerSpec
from rigl.sparse_utils import get_layer_counts, get_stats

LAYERS = [
  LayerSpec("first", "conv2d", (3, 3, 3, 16), 12, 2),
  LayerSpec("second", "conv2d", (1, 1, 16, 40), 6),
  LayerSpec("last", "dense", (40, 10), activation=None),
]


def test_dense_network_by_hand():
  stats = get_stats(LAYERS, 0.0, "random")
  flops = 36 * (2 * 432 + 16) + 36 * (2 * 640 + 40) + 2 * 400
  assert stats == (flops, 32 * (432 + 640 + 400 + 16 + 40 + 10), 0)
  assert stats.total_flops == flops


@pytest.mark.parametrize("method", ["random", "erdos_renyi_kernel"])
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_sparse_network_has_the_zeros_of_its_masks(method, sparsity):
  shapes = {layer.name: layer.kernel_shape for layer in LAYERS}
  shares = sparse_utils.get_sparsities(shapes, method, sparsity)
  zeros = [
    sparse_utils.get_n_zeros(math.prod(shapes[n]), shares[n]) for n in shapes
  ]
  counted = get_layer_counts(LAYERS, sparsity, method)
  assert [layer.n_zeros for layer in counted] == zeros
  ones = [layer.size - n for layer, n in zip(LAYERS, zeros, strict=True)]
  flops = 36 * 2 * (ones[0] + 8) + 36 * 2 * (ones[1] + 20) + 2 * ones[2]
  masks = sum(n.size for n, z in zip(LAYERS, zeros, strict=True) if z)
  stats = get_stats(LAYERS, sparsity, method)
  assert stats.total_flops == flops
  assert stats.total_param_bits == 32 * (sum(ones) + 66) + masks
  assert stats.real_sparsity == sum(zeros) / 1472


def test_custom_sparsities_win():
  counted = get_layer_counts(LAYERS, 0.9, "random", {"second/kernel:0": 0.25})
  assert [n.n_zeros for n in counted] == [388, 160, 360]


def test_published_rules_differ_as_they_say():
  padded = [LayerSpec("a", "conv2d", (7, 7, 3, 64), 230, 2, "valid")]
  correct = get_stats(padded, 0.0, "random").total_flops
  published = get_stats(padded, 0.0, "random", published_rules=True).total_flops
  assert published / correct == pytest.approx((115 / 112) ** 2)
  depthwise = [LayerSpec("a", "depthwise_conv2d", (3, 3, 10, 1), 8)]
  correct = get_stats(depthwise, 0.0, "random").total_flops
  assert correct == 64 * (90 + 80 + 10 + 10)
  published = get_stats(
    depthwise, 0.0, "random", published_rules=True
  ).total_flops
  assert published == 64 * (90 + 89 + 1 + 1)


def test_width_comes_before_the_distribution_but_in_the_published_rules():
  arguments = (LAYERS, 0.8, "erdos_renyi_kernel")
  correct = get_layer_counts(*arguments, width=2)
  published = get_layer_counts(*arguments, width=2, published_rules=True)
  unscaled = get_layer_counts(*arguments)
  assert [n.spec for n in correct] == [n.spec for n in published]
  assert [n.sparsity for n in published] == [n.sparsity for n in unscaled]
  shapes = {n.spec.name: n.spec.kernel_shape for n in correct}
  assert {n.spec.name: n.sparsity for n in correct} == (
    sparse_utils.get_sparsities(shapes, "erdos_renyi_kernel", 0.8)
  )


def test_names_say_which_ends_stay():
  scaled = get_layer_counts(LAYERS, width=2, last_layer_name="second")
  assert [n.spec.outputs for n in scaled] == [32, 40, 20]
  scaled = get_layer_counts(LAYERS, width=2, first_layer_name="first/kernel:0")
  assert scaled[0].spec.kernel_shape == (3, 3, 3, 32)


def test_bits_of_a_parameter():
  half = get_stats(LAYERS, 0.0, "random", param_size=16)
  full = get_stats(LAYERS, 0.0, "random")
  assert 2 * half.total_param_bits == full.total_param_bits
  with pytest.raises(ValueError, match="`param_size` must be .* got 0"):
    get_stats(LAYERS, param_size=0)


def test_power_scale_is_passed_on():
  flat = get_stats(LAYERS, 0.8, "erdos_renyi_kernel", erk_power_scale=0.0)
  assert flat != get_stats(LAYERS, 0.8, "erdos_renyi_kernel")


def test_debug_prints_every_layer_and_the_total(capsys):
  stats = get_stats(LAYERS, 0.5, "random", is_debug=True)
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines] == [
    "layer",
    "first",
    "second",
    "last",
    "total",
  ]
  assert f"{stats.total_flops:,}" in lines[-1]
  assert lines[1].split()[1:3] == ["3x3x3x16", "0.5000"]
  get_stats(LAYERS, 0.5, "random")
  assert capsys.readouterr().out == ""


def test_rows_are_complete():
  counted = get_layer_counts(LAYERS, 0.5, "random")
  rows = counting.rows(counted)
  total = counting.total_row(counted)
  for key in ("weights", "zeros", "multiplications", "additions", "bytes"):
    assert sum(row[key] for row in rows) == total[key]
  assert total["flops"] == total["multiplications"] + total["additions"]


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"default_sparsity": 1.0}, "`default_sparsity`"),
    ({"method": "erk"}, "`method` must be in"),
    ({"custom_sparsities": {"nope": 0.1}}, r"`custom_sp.* got \['nope'\]"),
    ({"custom_sparsities": {"first": 1.5}}, "`custom_sparsity_map` .* 1.5"),
    ({"width": -1}, "`width` must be positive"),
    ({"layers": []}, "`layers` must have a layer"),
  ],
)
def test_wrong_arguments_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    get_stats(**{"layers": LAYERS, **changes})


def test_counting_needs_no_tensorflow():
  code = (
    "import sys, rigl.counting.training_flops\n"
    "from rigl import sparse_utils\n"
    "from rigl.counting import architectures\n"
    "sparse_utils.get_stats(architectures.resnet(18))\n"
    "import rigl.flops.paper.paper_rows, rigl.flops.flops_report\n"
    "assert not {'tensorflow', 'keras'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
