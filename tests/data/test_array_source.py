# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from rigl.data.array_source import ArraySource


def make(num_examples=23, batch_size=5, seed=0):
  numbers = np.arange(num_examples)
  arrays = {
    "images": (numbers[:, None] * [1, 10]).astype(np.uint8),
    "labels": numbers.astype(np.int32),
  }
  return ArraySource(arrays, batch_size, seed)


def epoch(source, number):
  """The order of an epoch, out of that of its window."""
  batches = source.batches_per_epoch
  order = source.order(number * batches).numpy()
  first = number * batches % len(order)
  return order[first : first + batches]


@pytest.mark.parametrize("batch_size", [1, 5, 23])
def test_no_example_comes_twice_in_an_epoch(batch_size):
  source = make(batch_size=batch_size)
  assert source.batches_per_epoch == 23 // batch_size
  for number in range(4):
    order = epoch(source, number)
    assert order.shape == (23 // batch_size, batch_size)
    assert order.dtype == np.int32
    assert len(np.unique(order)) == order.size
    assert order.min() >= 0 and order.max() < 23


def test_epoch_is_a_permutation_if_the_batches_divide_the_examples():
  source = make(num_examples=20)
  for number in range(3):
    assert sorted(epoch(source, number).ravel()) == list(range(20))


def test_what_is_left_over_changes_from_epoch_to_epoch():
  source = make()
  left = {
    frozenset(range(23)) - frozenset(epoch(source, number).ravel().tolist())
    for number in range(10)
  }
  assert len(left) > 1
  assert all(len(numbers) == 3 for numbers in left)


def test_every_example_is_as_likely_to_come_first():
  source = make(num_examples=4, batch_size=4)
  firsts = [epoch(source, number)[0, 0] for number in range(2000)]
  counts = np.bincount(firsts, minlength=4)
  # Five standard deviations of a binomial distribution.
  assert np.all(np.abs(counts - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75))


def test_order_differs_between_epochs_and_seeds():
  orders = [epoch(make(seed=seed), n) for seed in (0, 1, 2) for n in (0, 1, 2)]
  assert len({order.tobytes() for order in orders}) == 9


def test_order_is_a_function_of_seed_and_epoch_alone():
  used = make()
  for number in (3, 0, 7):
    epoch(used, number)
  np.random.seed(5)
  tf.random.set_seed(5)
  for number in (0, 2, 5):
    np.testing.assert_array_equal(epoch(used, number), epoch(make(), number))


@pytest.mark.parametrize("iteration", [0, 3, 4, 99, 100, 4001])
def test_any_iteration_finds_its_row_of_its_epoch(iteration):
  source = make()
  numbers = source.numbers(source.order(iteration), tf.constant(iteration))
  number, row = divmod(iteration, 4)
  np.testing.assert_array_equal(numbers, epoch(make(), number)[row])


def test_steps_left_end_with_the_window():
  small = make()  # 25 epochs of 4 batches.
  assert [small.steps_left(i) for i in (0, 1, 99, 100)] == [100, 99, 1, 100]
  large = make(num_examples=505)  # One epoch.
  assert [large.steps_left(i) for i in (0, 100, 101)] == [101, 1, 101]


def test_batch_holds_the_examples_of_its_numbers():
  source = make()
  batch = source.batch(tf.constant([3, 0, 22]))
  assert batch["labels"].numpy().tolist() == [3, 0, 22]
  assert batch["images"].numpy().tolist() == [[3, 30], [0, 0], [22, 220]]
  assert batch["images"].dtype == tf.uint8


@pytest.mark.parametrize("batch_size", [0, 24, -1])
def test_batch_size_out_of_range_names_range_and_value(batch_size):
  expected = rf"`batch_size` must be in \[1, 23\].*got {batch_size}"
  with pytest.raises(ValueError, match=expected):
    make(batch_size=batch_size)


def test_arrays_of_different_lengths_are_refused():
  arrays = {"images": np.zeros([3, 2]), "labels": np.zeros([4])}
  with pytest.raises(ValueError, match="'images': 3, 'labels': 4"):
    ArraySource(arrays, 1, 0)


@pytest.mark.parametrize("iteration", (0, 2, 3, 7))
def test_the_dataset_has_the_batches_that_follow(iteration):
  source = ArraySource(
    {"images": np.arange(10, dtype=np.uint8)[:, None]}, batch_size=3, seed=1
  )
  batches = source.dataset(iteration).take(5).as_numpy_iterator()
  for i, batch in enumerate(batches, iteration):
    numbers = source.numbers(source.order(i), tf.constant(i, tf.int64))
    expected = source.batch(numbers)["images"]
    np.testing.assert_array_equal(batch["images"], expected)
    assert batch["images"].dtype == np.uint8


@pytest.mark.parametrize("batch_size", (3, 5, 20))
def test_the_whole_dataset_has_every_example_once(batch_size):
  source = ArraySource({"images": np.arange(1, 11)}, batch_size=1, seed=1)
  batches = list(source.whole_dataset(batch_size).as_numpy_iterator())
  assert {len(batch["valid"]) for batch in batches} == {batch_size}
  valid = np.concatenate([batch["valid"] for batch in batches]) > 0
  images = np.concatenate([batch["images"] for batch in batches])
  np.testing.assert_array_equal(images[valid], np.arange(1, 11))
  assert not images[~valid].any()
