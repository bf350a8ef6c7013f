# SPDX-License-Identifier: Apache-2.0
"""The mask engine: its names, and the same masks in all three ways."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from rigl import mask_ops
from rigl.mask_ops import MaskEngine

SIZES = (1, 1024, 1500)
NAMES = ("xla", "batched", "numpy")


def layers_of_scores(seed):
  rng = np.random.default_rng(seed)
  return [tf.constant(rng.integers(-9, 10, size), tf.float32) for size in SIZES]


def masks_of(density):
  rng = np.random.default_rng(8)
  return [tf.constant(rng.uniform(size=size) < density) for size in SIZES]


@pytest.fixture
def functions_run_eagerly():
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def test_auto_is_xla_on_a_cpu():
  assert MaskEngine().name == "xla"
  assert repr(MaskEngine()) == "MaskEngine('xla')"


def test_auto_compiles_nothing_where_functions_run_eagerly(
  functions_run_eagerly,
):
  assert MaskEngine("auto").name == "numpy"


@pytest.mark.parametrize("kind", ["GPU", "TPU"])
def test_auto_is_batched_with_an_accelerator(kind, monkeypatch):
  for function in ("list_physical_devices", "list_logical_devices"):
    monkeypatch.setattr(
      tf.config, function, lambda wanted: [wanted] if wanted == kind else []
    )
  assert MaskEngine("auto").name == "batched"


def test_other_names_and_numbers_are_refused():
  with pytest.raises(ValueError, match="`mask_engine`.*'xla'.*got 'cuda'"):
    MaskEngine("cuda")
  with pytest.raises(
    ValueError, match="`threads` must be .* at least 1, got 0"
  ):
    MaskEngine("numpy", threads=0)


def test_top_k_is_the_same_in_all_ways():
  scores, candidates = layers_of_scores(1), masks_of(0.5)
  k = [1, 100, 10**6]
  expected = [
    mask_ops.top_k_mask(*layer)
    for layer in zip(scores, k, candidates, strict=True)
  ]
  for name in NAMES:
    masks = MaskEngine(name).top_k(scores, k, candidates)
    for mask, wanted in zip(masks, expected, strict=True):
      np.testing.assert_array_equal(mask, wanted)


def test_top_k_without_candidates_takes_all():
  scores = layers_of_scores(2)
  for name in NAMES:
    masks = MaskEngine(name).top_k(scores, [0, 700, 1500])
    assert [np.count_nonzero(mask) for mask in masks] == [0, 700, 1500]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_drop_and_grow_is_the_same_in_all_ways(fraction):
  layers = (layers_of_scores(3), masks_of(0.4), layers_of_scores(4))
  results = {
    name: MaskEngine(name).drop_and_grow(*layers, fraction) for name in NAMES
  }
  for name in NAMES[1:]:
    for one, other in zip(results["xla"], results[name], strict=True):
      np.testing.assert_array_equal(one.mask, other.mask)
      np.testing.assert_array_equal(one.grown, other.grown)


def test_counts_are_computed_in_float32_and_truncated():
  # 0.7 * 90 is 62 in float64.
  keep, drop = mask_ops.keep_and_drop_counts(tf.constant([90, 0, 3]), 0.7)
  assert (keep.numpy().tolist(), drop.numpy().tolist()) == (
    [27, 0, 1],
    [63, 0, 2],
  )


class Halves:
  """A function to map, which notes how often it runs in Python."""

  def __init__(self, engine):
    self.engine, self.calls, self.threads = engine, [], set()

  def __call__(self, layers, share):
    self.calls.append(len(layers))
    self.threads.add(threading.get_ident())
    counts = [
      tf.cast(share * float(each["scores"].shape[0]), tf.int32)
      for each in layers
    ]
    masks = self.engine.top_k([each["scores"] for each in layers], counts)
    return [
      (mask, each["other"]) for mask, each in zip(masks, layers, strict=True)
    ]


@pytest.mark.parametrize(
  ("name", "calls"), [("xla", [1, 1, 1]), ("batched", [3]), ("numpy", [1] * 6)]
)
def test_map_traces_once_per_shape(name, calls):
  """Two updates: compiled functions are traced in the first alone."""
  engine = MaskEngine(name, threads=1)
  halves = Halves(engine)
  for seed in (5, 6):
    scores = layers_of_scores(seed)
    inputs = [dict(scores=each, other=None) for each in scores]
    results = engine.map(halves, inputs, tf.constant(0.5))
    assert [np.count_nonzero(mask) for mask, _ in results] == [0, 512, 750]
    assert [other for _, other in results] == [None] * 3
  assert halves.calls == calls


def test_numpy_works_on_several_layers_at_a_time():
  engine = MaskEngine("numpy", threads=2)
  halves = Halves(engine)
  inputs = [dict(scores=each, other=None) for each in layers_of_scores(7)]
  before = threading.active_count()
  engine.map(halves, inputs, tf.constant(0.5))
  assert threading.get_ident() not in halves.threads
  assert threading.active_count() == before
