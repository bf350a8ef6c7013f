# SPDX-License-Identifier: Apache-2.0
"""Topologies by their names."""

import pytest

from rigl.tpu_check import chips


@pytest.mark.parametrize("chip", chips.CHIPS.values(), ids=lambda c: c.name)
def test_example_of_a_chip_is_a_topology_of_it(chip):
  assert chips.parse(chip.example) == chip
  assert 0 < chip.hbm_gib < 200


@pytest.mark.parametrize(
  "topology",
  ["", "v5e", "v5e:", "v5e:4", "v5e:2x", "v5e:0x2", "v5e:axb", "v9:2x2",
   "v5e:2x2x2x2", "v5e:2x2 "],
)  # fmt: skip
def test_wrong_topology_is_named_with_the_right_ones(topology):
  with pytest.raises(ValueError, match="`topology` must be") as found:
    chips.parse(topology)
  assert repr(topology) in str(found.value)
  assert all(chip.example in str(found.value) for chip in chips.CHIPS.values())
