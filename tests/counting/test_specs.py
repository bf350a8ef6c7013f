# SPDX-License-Identifier: Apache-2.0
"""Layer specs: sizes, names, widths and refusals."""

import pytest

from rigl import counting
from rigl.counting import LayerSpec


def test_sizes_may_be_numbers_pairs_or_lists():
  a = LayerSpec("a", "conv2d", [3, 3, 4, 8], 28, 2)
  b = LayerSpec("a", "conv2d", (3, 3, 4, 8), [28, 28], (2, 2))
  assert a == b
  assert hash(a) == hash(b)
  assert (a.size, a.outputs, a.applications) == (288, 8, 14 * 14)


def test_five_arguments_are_enough():
  spec = LayerSpec("a", "conv2d", (7, 7, 3, 64), 224, (2, 2))
  assert spec.applications == 112 * 112
  assert LayerSpec("a", "dense", (5, 3), 5, None).applications == 1


def test_images_need_not_be_square():
  spec = LayerSpec("a", "conv2d", (3, 1, 4, 8), (9, 6), (1, 2), "valid")
  assert spec.applications == 7 * 3


def test_published_applications_are_those_of_the_padded_square():
  spec = LayerSpec("a", "conv2d", (7, 7, 3, 64), 230, 2, "valid")
  assert spec.applications == 112**2
  assert spec.padded_applications == 115**2


def test_width_scales_channels_and_rounds_down():
  spec = LayerSpec("a", "conv2d", (3, 3, 10, 20), 28)
  assert spec.scaled(0.37, True, True).kernel_shape == (3, 3, 3, 7)
  assert spec.scaled(0.37, False, True).kernel_shape == (3, 3, 10, 7)
  assert spec.scaled(0.37, True, False).kernel_shape == (3, 3, 3, 20)
  assert spec.scaled(0.01, True, True).kernel_shape == (3, 3, 1, 1)


@pytest.mark.parametrize("kind", ["depthwise_conv2d", "conv2d"])
def test_width_leaves_the_multiplier_of_depthwise_kernels(kind):
  spec = LayerSpec("a", kind, (3, 3, 10, 1), 28)
  for width, channels in ((0.5, 5), (4.0, 40)):
    assert spec.scaled(width, True, True).kernel_shape == (3, 3, channels, 1)


def test_width_leaves_outputs_of_each_channel():
  spec = LayerSpec("a", "depthwise_conv2d", (3, 3, 10, 2), 28)
  assert spec.scaled(3.0, True, True).kernel_shape == (3, 3, 30, 2)


def test_network_keeps_its_inputs_and_classes():
  specs = [
    LayerSpec("first/kernel:0", "conv2d", (3, 3, 3, 8), 8),
    LayerSpec("middle", "conv2d", (1, 1, 8, 16), 8),
    LayerSpec("last", "dense", (16, 10)),
  ]
  shapes = [n.kernel_shape for n in counting.scale_widths(specs, 2)]
  assert shapes == [(3, 3, 3, 16), (1, 1, 16, 32), (32, 10)]
  named = counting.scale_widths(specs, 2, "first", "middle")
  assert [n.kernel_shape for n in named][1:] == [(1, 1, 16, 16), (32, 20)]
  unknown = counting.scale_widths(specs, 2, "none", "none")
  assert unknown[0].kernel_shape == (3, 3, 6, 16)


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf")])
def test_impossible_width_is_refused(width):
  with pytest.raises(ValueError, match=f"`width` .* got {width}"):
    counting.scale_widths([LayerSpec("a", "dense", (2, 2))], width)


@pytest.mark.parametrize(
  "name",
  [
    "a/b",
    "a/b/kernel:0",
    "a/b/depthwise_kernel:0",
    "a/b/weights",
    "a/b/mask:0",
  ],
)
def test_layers_are_found_by_the_names_of_their_variables(name):
  specs = [LayerSpec("a/b/kernel:0", "dense", (2, 2))]
  assert counting.by_layer(specs, {name: 0.5}) == {"a/b/kernel:0": 0.5}


def test_unknown_names_are_refused_with_the_known_ones():
  specs = [LayerSpec("conv", "dense", (2, 2))]
  with pytest.raises(ValueError, match=r"`custom_sp.*\['conv'\].*\['fc'\]"):
    counting.by_layer(specs, {"fc": 0.5, "conv": 0.1})


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"kind": "conv4d"}, r"`kind` must be in .* got 'conv4d' for 'a'"),
    ({"kernel_shape": (3, 3, 4)}, "`kernel_shape` must be 4 positive integers"),
    ({"kernel_shape": (3, 3, 4, 0)}, "`kernel_shape` .* for 'a'"),
    ({"kernel_shape": (3, 3, 4, None)}, "`kernel_shape`"),
    ({"input_size": None}, "`input_size` must be 2 .* got None"),
    ({"input_size": (8, 8, 8)}, "`input_size`"),
    ({"strides": 0}, "`strides`"),
    ({"padding": "SAME"}, r"`padding` must be in .* got 'SAME'"),
    ({"activation": "gelu"}, "`activation`"),
    ({"output_size": -1}, "`output_size`"),
  ],
)
def test_wrong_arguments_are_refused(changes, message):
  arguments = {
    "name": "a",
    "kind": "conv2d",
    "kernel_shape": (3, 3, 4, 8),
    "input_size": 8,
  }
  LayerSpec(**arguments)
  with pytest.raises(ValueError, match=message):
    LayerSpec(**{**arguments, **changes})
