# SPDX-License-Identifier: Apache-2.0
"""Top-KAST's backward sparsity: its default, its ratio and its limits."""

import pytest

from rigl.sparse_utils import backward_sets


@pytest.mark.parametrize(
  ("flag", "forward", "overall", "ratio"),
  [
    (-1.0, 0.9, 0.8, 8 / 9),
    (-0.001, 0.75, 0.5, 2 / 3),
    (-1.0, 0.3, 0.0, 0.0),  # Twice the weights would be more than all.
    (-1.0, 0.0, 0.0, 0.0),
    (0.0, 0.9, 0.0, 0.0),
    (-0.0, 0.9, 0.0, 0.0),
    (0.45, 0.9, 0.45, 0.5),
    (0.9, 0.9, 0.9, 1.0),
    (0, 0, 0.0, 0.0),
  ],
)
def test_a_negative_flag_trains_twice_the_weights(
  flag, forward, overall, ratio
):
  given = backward_sets.value_of_flag(flag)
  found = backward_sets.chosen_backward_sparsity(given, forward)
  assert found == pytest.approx((overall, ratio))
  assert type(found.overall) is type(found.ratio) is float


@pytest.mark.parametrize("method", ["random", "erdos_renyi_kernel"])
def test_layers_get_the_distribution_or_the_ratio_of_their_own(method):
  shapes = {"a": (20, 30), "b": (30, 40), "c": (40, 10)}
  arguments = (shapes, method, 0.8, {"c": 0.4}, 1.0)
  found = backward_sets.backward_sparsities(*arguments, None)
  assert found == backward_sets.backward_sparsities(*arguments, 0.8 * 2 - 1)
  assert found["c"] == pytest.approx(0.3)
  trained = (1 - found["a"]) * 600 + (1 - found["b"]) * 1200
  assert trained == pytest.approx(0.4 * 1800, abs=2)


@pytest.mark.parametrize("given", [0.91, -0.1, float("nan"), "0.5"])
def test_a_wrong_backward_sparsity_is_refused(given):
  with pytest.raises(ValueError, match=f"`backward_sparsity` .*{given}"):
    backward_sets.chosen_backward_sparsity(given, 0.9)
