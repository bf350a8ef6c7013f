# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of sparse and masked layers are converted bit for bit."""

import numpy as np
import pytest
import tensorflow as tf

from rigl import sparse_optimizers
from rigl.sparse import BlockSparseDense, SparseDense
from rigl.sparse.block_checkpoints import masked_to_blocks
from rigl.sparse.checkpoints import (
  compact_names,
  fitted,
  to_compact,
  to_masked,
)
from rigl.sparse.connections import digest_of
from rigl.sparse_optimizers.sparse_layer import NO_POSITION

SLOTS = ("Momentum", "Adam", "Adam_1")


def masked(shape=(7, 5), density=0.4, slots=SLOTS, seed=0, name="layer1"):
  """A masked layer with odd values: zeros, negative zeros, tiny numbers."""
  rng = np.random.default_rng(seed)
  mask = (rng.uniform(size=shape) < density).astype(np.float32)
  tensors = {f"{name}/mask": mask}
  for kind in ("", *(f"/{slot}" for slot in slots)):
    value = rng.normal(size=shape).astype(np.float32)
    value[rng.uniform(size=shape) < 0.1] = -0.0
    value[rng.uniform(size=shape) < 0.1] = 1e-42
    tensors[f"{name}/weights{kind}"] = np.where(mask != 0, value, 0)
  others = {
    f"{name}/biases": rng.normal(size=shape[1:]).astype(np.float32),
    "global_step": np.int64(7),
    "beta1_power": np.float32(0.9),
  }
  return tensors | others


def assert_same(a, b):
  assert a.keys() == b.keys()
  for name, value in a.items():
    other = np.asarray(b[name])
    assert np.asarray(value).dtype == other.dtype, name
    assert np.asarray(value).tobytes() == other.tobytes(), name


@pytest.mark.parametrize("room", [None, 35, 30])
@pytest.mark.parametrize("density", [0.0, 0.4])
@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (1, 30), (30, 1)])
def test_masked_to_compact_and_back(shape, density, room):
  if room is not None and room < shape[0] * shape[1] * density:
    pytest.skip("fewer than the connections")
  tensors = masked(shape, density)
  compact = to_compact(tensors, {"layer1": room})
  number = int(tensors["layer1/mask"].sum())
  length = number if room is None else room
  for name in ("positions", "values", "values/Adam_1", "in_use"):
    assert compact[f"layer1/{name}"].shape == (length,), name
  assert compact["layer1/in_use"].sum() == number
  assert "layer1/mask" not in compact and "layer1/weights" not in compact
  assert_same(to_masked(compact), tensors)
  again = to_compact(to_masked(compact), {"layer1": room})
  assert_same(again, compact)


def test_a_network_of_both_forms_is_fitted_to_any_other():
  tensors = masked() | masked((5, 4), name="layer2", seed=1)
  halves = [to_compact(tensors, {name: None}) for name in ("layer1", "layer2")]
  both = to_compact(tensors, {"layer1": None, "layer2": None})
  forms = [tensors, *halves, both]
  for given in forms:
    for wanted in forms:
      assert_same(fitted(given, wanted), wanted)
  assert sorted(compact_names(both)) == ["layer1", "layer2"]


def test_a_layer_that_is_not_named_stays():
  both = to_compact(
    masked() | masked((5, 4), name="layer2"), {"layer1": None, "layer2": None}
  )
  found = to_masked(both, ["layer2"])
  assert compact_names(found) == ["layer1"]
  assert found["layer2/mask"].shape == (5, 4)


@pytest.mark.parametrize("name", ["ExponentialMovingAverage", "explored"])
def test_what_is_kept_of_every_connection_stays_whole(name):
  tensors = masked()
  average = np.random.default_rng(5).normal(size=(7, 5)).astype(np.float32)
  value = average > 0 if name == "explored" else average
  tensors[f"layer1/weights/{name}"] = value
  compact = to_compact(tensors, {"layer1": 30})
  np.testing.assert_array_equal(compact[f"layer1/values/{name}"], value)
  assert_same(to_masked(compact), tensors)


def test_a_real_layer_has_these_tensors():
  layer = SparseDense(6, 4, 0.5, name="layer1")
  optimizer = sparse_optimizers.SparseSETOptimizer(
    tf.compat.v1.train.AdamOptimizer(0.1), 0, 10, 1
  )
  optimizer.create_masks([layer])
  variables = {v.name.split(":")[0]: v for v in layer.variables}
  tensors = {
    name: np.asarray(value)
    for name, value in (variables | optimizer.checkpoint_state()).items()
  }
  found = to_masked(tensors)
  np.testing.assert_array_equal(found["layer1/weights"], layer.kernel())
  np.testing.assert_array_equal(found["layer1/mask"], layer.mask())
  assert found["layer1/weights/Adam_1"].shape == (6, 4)
  assert_same(to_compact(found, {"layer1": 12}), tensors)


def test_positions_know_their_digest_with_and_without_padding():
  compact = to_compact(masked(), {"layer1": 35})
  positions = compact["layer1/positions"]
  assert positions[-1] == NO_POSITION
  assert compact["layer1/digest"] == digest_of(positions)


@pytest.mark.parametrize(
  ("lost", "message"),
  [
    ("mask", "must hold kernel and mask of 'layer1'"),
    ("weights", "must hold kernel and mask of 'layer1'"),
  ],
)
def test_a_layer_without_kernel_or_mask_is_refused(lost, message):
  tensors = masked()
  del tensors[f"layer1/{lost}"]
  with pytest.raises(ValueError, match=message):
    to_compact(tensors, {"layer1": None})


def test_more_connections_than_fit_are_refused():
  with pytest.raises(ValueError, match="has room for 3"):
    to_compact(masked(), {"layer1": 3})


def test_a_kernel_of_a_convolution_is_refused():
  tensors = {
    "conv/weights": np.ones((3, 3, 2, 2), np.float32),
    "conv/mask": np.ones((3, 3, 2, 2), np.float32),
  }
  with pytest.raises(ValueError, match="must have two axes"):
    to_compact(tensors, {"conv": None})


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("shape", None, "must hold shape, positions and values"),
    ("values", np.zeros(3, np.float32), "must hold shape, positions"),
    ("shape", np.array([2, 2]), r"ascending, below 2 \* 2"),
    ("digest", None, "those of its digest"),
    ("digest", np.int64(1), "those of its digest"),
    ("positions", np.arange(30, dtype=np.int32), "must hold shape, positions"),
  ],
)
def test_damaged_layers_are_refused(name, value, message):
  compact = to_compact(masked(), {"layer1": None})
  compact.pop(f"layer1/{name}")
  if value is not None:
    compact[f"layer1/{name}"] = value
  with pytest.raises(ValueError, match=message):
    to_masked(compact)


@pytest.mark.parametrize(
  "change", ["float", "reversed", "repeated", "negative"]
)
def test_positions_that_are_none_are_refused(change):
  compact = to_compact(masked(), {"layer1": None})
  positions = compact["layer1/positions"].copy()
  if change == "float":
    positions = positions.astype(np.float32)
  elif change == "reversed":
    positions = positions[::-1].copy()
  else:
    positions[0] = {"repeated": positions[1], "negative": -1}[change]
  compact["layer1/positions"] = positions
  compact["layer1/digest"] = np.array(digest_of(positions))
  for convert in (to_masked, lambda t: fitted(t, t)):
    with pytest.raises(ValueError, match="must be ascending"):
      convert(compact)


def blocks(slots=("Momentum",), layer="layer1"):
  made = BlockSparseDense(12, 8, 0.5, block=2, name=layer)
  rng = np.random.default_rng(1)
  tensors = {
    f"{layer}/outputs_of": made.outputs_of.numpy(),
    f"{layer}/numbers_of": made.numbers_of.numpy(),
    f"{layer}/in_use": np.ones(made.values.shape, bool),
    f"{layer}/shape": np.array([12, 8]),
  }
  for kind in ("", *(f"/{slot}" for slot in slots)):
    value = rng.normal(size=made.values.shape).astype(np.float32)
    tensors[f"{layer}/values{kind}"] = value
  made.values.assign(tensors[f"{layer}/values"])
  return tensors, made


def test_blocks_to_masked_and_back():
  tensors, layer = blocks()
  found = to_masked(tensors)
  np.testing.assert_array_equal(found["layer1/weights"], layer.kernel())
  np.testing.assert_array_equal(found["layer1/mask"], layer.mask())
  assert_same(masked_to_blocks(found, "layer1", 2), tensors)
  for wanted in (found, tensors):
    for given in (found, tensors):
      assert_same(fitted(given, wanted), wanted)


def test_explored_connections_stay_whole_in_blocks():
  tensors, layer = blocks()
  explored = np.random.default_rng(5).uniform(size=(12, 8)) < 0.5
  tensors["layer1/values/explored"] = explored | layer.mask()
  found = to_masked(tensors)
  assert found["layer1/weights/explored"].shape == (12, 8)
  assert_same(masked_to_blocks(found, "layer1", 2), tensors)


def test_a_kernel_of_more_axes_has_no_blocks():
  kernel = np.ones((3, 3, 4, 4), np.float32)
  tensors = {"conv/weights": kernel, "conv/mask": kernel}
  with pytest.raises(ValueError, match=r"two axes, got \(3, 3, 4, 4\)"):
    masked_to_blocks(tensors, "conv", 2)


def test_a_mask_of_no_blocks_is_refused():
  found = to_masked(blocks()[0])
  mask = found["layer1/mask"]
  mask[tuple(np.argwhere(mask)[0])] = 0
  with pytest.raises(ValueError, match="must consist of whole blocks"):
    masked_to_blocks(found, "layer1", 2)
  with pytest.raises(ValueError, match="must hold kernel and mask"):
    masked_to_blocks({}, "layer1", 2)


@pytest.mark.parametrize("name", ["values", "outputs_of", "numbers_of"])
def test_damaged_blocks_are_refused(name):
  tensors, _ = blocks()
  if name != "outputs_of":  # By which blocks are known.
    with pytest.raises(ValueError, match="must hold values and numbers_of"):
      to_masked({n: v for n, v in tensors.items() if n != f"layer1/{name}"})
  tensors[f"layer1/{name}"] = tensors[f"layer1/{name}"][:-1]
  with pytest.raises(ValueError, match="do not belong together"):
    to_masked(tensors)
