# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from rigl.sparse import timing


@pytest.mark.parametrize("is_first", [False, True])
def test_every_form_is_timed(monkeypatch, is_first):
  monkeypatch.setattr(timing, "_SECONDS", 0.0)
  found = timing.time_steps(20, 12, 0.5, 4, is_first=is_first)
  assert all(0 < each < math.inf for each in found)


def test_of_a_large_layer_a_part_of_the_outputs_is_timed(monkeypatch):
  made = []
  monkeypatch.setattr(timing, "_SECONDS", 0.0)
  monkeypatch.setattr(timing, "_LARGEST", 60)
  monkeypatch.setattr(timing, "_seconds", lambda step: 1.0 * bool(step()))
  layer = timing.SparseDense
  monkeypatch.setattr(
    timing,
    "SparseDense",
    lambda *args, **options: made.append(args) or layer(*args, **options),
  )
  found = timing.time_steps(20, 12, 0.5, 4)
  assert made == [(20, 3, 0.5)]
  np.testing.assert_allclose(found, 4.0)
