# SPDX-License-Identifier: Apache-2.0
"""Names of tensors in checkpoints: masks, their layers and their kernels."""

from rigl import tensor_names


def test_a_mask_leads_to_its_layer_and_kernel():
  mask = tensor_names.mask_of("scope/conv_1")
  assert mask == "scope/conv_1/mask"
  assert tensor_names.layer_of(mask) == "scope/conv_1"
  assert tensor_names.weights_of(mask) == "scope/conv_1/weights"


def test_only_the_last_part_of_a_name_makes_a_mask():
  names = ["conv/mask", "conv/mask/Momentum", "conv/unmask", "mask", "a_mask"]
  assert [n for n in names if tensor_names.is_mask(n)] == ["conv/mask"]


def test_names_are_the_published_ones():
  assert tensor_names.GLOBAL_STEP == "global_step"
