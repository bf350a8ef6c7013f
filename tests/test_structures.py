# SPDX-License-Identifier: Apache-2.0
"""N:M and constant fan-in: groups of connections, checks, random masks."""

import numpy as np
import pytest
import tensorflow as tf

from rigl import sparse_utils
from rigl.structures import Structure, parse_structure


def members(structure, shape, input_axes=None):
  """The flat indices of the connections of every group, one list per group."""
  groups = parse_structure(structure).groups("layer", shape, input_axes)
  index = groups.split(np.arange(np.prod(shape)))
  return sorted(sorted(column.tolist()) for column in index.T)


def test_two_of_four_groups_neighbouring_inputs_of_one_output():
  # A dense kernel [4, 2]: column 0 has the flat indices 0, 2, 4, 6.
  assert members("2:4", (4, 2)) == [[0, 2, 4, 6], [1, 3, 5, 7]]
  assert members("1:2", (4, 2)) == [[0, 2], [1, 3], [4, 6], [5, 7]]


def test_a_convolution_is_grouped_along_its_input_channels():
  # [1, 2, 2, 1]: two places of two input channels.
  assert members("1:2", (1, 2, 2, 1)) == [[0, 1], [2, 3]]


def test_fan_in_groups_all_inputs_of_an_output():
  assert members("fan_in", (2, 3)) == [[0, 3], [1, 4], [2, 5]]
  assert members("fan_in", (1, 2, 2, 2)) == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_input_axes_say_what_an_output_sums_over():
  # A query projection [embed, heads, size]: only the first axis is input.
  assert members("fan_in", (2, 1, 3), (0,)) == [[0, 3], [1, 4], [2, 5]]
  assert members("1:2", (2, 1, 3), (0,)) == [[0, 3], [1, 4], [2, 5]]
  # A transposed convolution [1, 1, out, in].
  assert members("1:2", (1, 1, 2, 4), (0, 1, 3)) == [
    [0, 1],
    [2, 3],
    [4, 5],
    [6, 7],
  ]


@pytest.mark.parametrize("ops", [np, tf])
@pytest.mark.parametrize("structure", ["2:4", "fan_in"])
@pytest.mark.parametrize("shape", [(8, 3), (3, 2, 4, 5), (2, 8, 3)])
def test_join_is_the_inverse_of_split(structure, shape, ops):
  groups = parse_structure(structure).groups("layer", shape)
  flat = np.arange(np.prod(shape))
  there = groups.split(flat, ops)
  assert tuple(there.shape) == (groups.size, groups.number)
  np.testing.assert_array_equal(groups.join(there, ops), flat)


@pytest.mark.parametrize(
  "value", ["4:4", "0:4", "5:4", "2:4:8", "fanin", "", " 2:4", 0.5, (2, 4)]
)
def test_other_structures_are_refused(value):
  with pytest.raises(ValueError, match="`structure` must be 'N:M'.*got"):
    parse_structure(value)


def test_none_is_no_structure():
  assert parse_structure(None) is None


@pytest.mark.parametrize("text", ["2:4", "1:16", "fan_in"])
def test_the_text_of_a_structure_reads_back(text):
  assert str(parse_structure(text)) == text
  assert parse_structure(parse_structure(text)) == parse_structure(text)


@pytest.mark.parametrize("shape", [(6, 8), (3, 3, 3, 8), (1, 4)])
def test_inputs_that_are_no_multiple_of_m_are_refused(shape):
  with pytest.raises(ValueError, match="'conv1'.*along axis"):
    parse_structure("2:4").groups("conv1", shape)


def test_kernels_of_rank_one_are_refused():
  with pytest.raises(ValueError, match="rank 2 or more.*'scale'.*\\(4,\\)"):
    parse_structure("fan_in").groups("scale", (4,))


def test_n_of_m_fixes_the_sparsity():
  structure = Structure(2, 8)
  assert structure.sparsity == 0.75
  assert structure.sparse_layers({"a": 0.75, "b": 0.0}) == ["a"]
  with pytest.raises(ValueError, match="2:8 has the sparsity 0.75.*'a'.*0.9"):
    structure.sparse_layers({"a": 0.9})


def test_fan_in_keeps_one_connection_per_output_at_least():
  structure = Structure()
  groups = structure.groups("layer", (10, 3))
  assert structure.sparsity is None
  assert structure.ones_per_group(groups, 0.75) == 3  # 10 - floor(7.5)
  assert structure.ones_per_group(groups, 0.99) == 1
  assert structure.ones_per_group(groups, 0.999999) == 1


@pytest.mark.parametrize("structure", ["2:4", "fan_in"])
def test_random_masks_are_exact_in_every_group(structure):
  shape = (3, 2, 8, 6)
  groups = parse_structure(structure).groups("layer", shape)
  masks = [
    sparse_utils.get_mask_in_groups(shape, groups, 2, seed, name)
    for seed, name in [(0, "a"), (0, "a"), (1, "a"), (0, "b")]
  ]
  for mask in masks:
    assert mask.shape == shape and mask.dtype == np.bool_
    by_group = groups.split(mask.reshape(-1))
    np.testing.assert_array_equal(by_group.sum(0), 2)
  np.testing.assert_array_equal(masks[0], masks[1])
  assert (masks[0] != masks[2]).any() and (masks[0] != masks[3]).any()
  # Not the same places in every group.
  assert len(np.unique(groups.split(masks[0].reshape(-1)).T, axis=0)) > 1


def test_random_masks_refuse_impossible_numbers():
  groups = parse_structure("2:4").groups("layer", (4, 2))
  with pytest.raises(
    ValueError, match=r"`num_ones` must be in \[0, 4\], got 5"
  ):
    sparse_utils.get_mask_in_groups((4, 2), groups, 5, 0)
  with pytest.raises(ValueError, match="`seed` must be .*at least 0, got -1"):
    sparse_utils.get_mask_in_groups((4, 2), groups, 1, -1)
