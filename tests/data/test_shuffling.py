# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from rigl.data import shuffling
from rigl.data.shuffling import epoch_order, window_length, window_order


@pytest.mark.parametrize(
  ("num_examples", "batch_size"), [(1, 1), (10, 10), (10, 3), (103, 10)]
)
def test_an_epoch_has_whole_batches_of_different_examples(
  num_examples, batch_size
):
  order = epoch_order(0, 0, num_examples, batch_size)
  assert order.dtype == np.int32
  assert order.shape == (num_examples // batch_size, batch_size)
  assert len(np.unique(order)) == order.size
  assert order.min() >= 0 and order.max() < num_examples


def test_what_is_left_over_changes_from_epoch_to_epoch():
  left = [
    set(range(12)) - set(epoch_order(0, epoch, 12, 5).ravel().tolist())
    for epoch in range(40)
  ]
  assert {len(numbers) for numbers in left} == {2}
  assert set.union(*left) == set(range(12))


def test_order_is_a_function_of_seed_and_epoch():
  base = epoch_order(1, 2, 1000, 10)
  np.testing.assert_array_equal(base, epoch_order(1, 2, 1000, 10))
  for other in ((1, 3), (2, 2), (2, 1), (0, 2)):
    assert np.mean(base == epoch_order(*other, 1000, 10)) < 0.02


def test_batch_size_does_not_change_the_order():
  small, large = (epoch_order(5, 6, 60, size) for size in (10, 30))
  np.testing.assert_array_equal(small.ravel(), large.ravel())


@pytest.mark.parametrize(
  ("num_examples", "batch_size", "epochs"),
  [
    (50_000, 128, 1),
    (1000, 10, 1),
    (999, 10, 2),
    (1024, 128, 13),
    (7, 7, 100),
    (50_000, 50_000, 5),  # So that an order stays small.
    (2**19, 2**19, 1),
  ],
)
def test_a_window_has_the_epochs_that_one_call_needs(
  num_examples, batch_size, epochs
):
  per_epoch = num_examples // batch_size
  assert window_length(num_examples, batch_size) == epochs * per_epoch


def test_a_window_is_the_orders_of_its_epochs():
  for window in (0, 3):
    order = window_order(4, window, 70, 20)  # 34 epochs of 3 batches.
    assert order.shape == (102, 20) and order.dtype == np.int32
    for i in (0, 1, 33):
      expected = epoch_order(4, 34 * window + i, 70, 20)
      np.testing.assert_array_equal(order[3 * i : 3 * i + 3], expected)


def test_orders_are_those_of_earlier_versions():
  """Runs in progress must go on with the same data."""
  expected = [[4, 1, 6], [7, 5, 2]]
  assert epoch_order(0, 0, 8, 3).tolist() == expected


def test_orders_need_numpy_alone():
  """An exported folder has a copy, for machines without TensorFlow."""
  place = pathlib.Path(shuffling.__file__).parent
  code = "import sys, shuffling; print('tensorflow' in sys.modules)"
  found = subprocess.run(
    [sys.executable, "-c", code],
    cwd=place,
    capture_output=True,
    text=True,
    check=True,
  )
  assert found.stdout == "False\n"
