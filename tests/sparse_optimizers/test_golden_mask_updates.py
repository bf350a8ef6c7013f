# SPDX-License-Identifier: Apache-2.0
"""Every optimizer against two recorded calls of the published code.

180 recorded cases: most are replayed as they are, those that draw weights at
random with our statistics, and the declared differences as ours.
"""

import functools
import gzip
import json
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from rigl import mask_ops, sparse_optimizers

_FOLDER = pathlib.Path(__file__).parents[1] / "golden"
_LAYERS = ("fc", "conv")
_LEARNING_RATE, _MOMENTUM = 0.1, 0.9

# Where we differ on purpose (docs/differences.md):
# case -> the share of connections that the first call drops here, and why.
_OTHER_FRACTION = {
  "c051": (0.3, "endless schedules keep their share; published: 3.8e7"),
  "c105": (0.3, "endless schedules keep their share; published: 0"),
  "c106": (0.3, "endless schedules keep their share; published: 3.8e7"),
  "c161": (0.3, "endless schedules keep their share; published: 3.8e7"),
  "c084": (
    0.25 * (1 + math.cos(math.pi * (601 - 300) / (1000 - 300))),
    "cosine annealing starts at begin_step; published: at step 0",
  ),
}
# An active weight of exactly 0 ties with the inactive ones. The published code
# may keep one of those in its place, which brings back a frozen raw weight.
_TIES_WITH_INACTIVE = ("c040",)


@functools.cache
def _golden():
  with np.load(_FOLDER / "mask_updates.npz") as file:
    data, index = file["data"], json.loads(file["index"].tobytes())
  arrays = {
    name: data[start : start + int(np.prod(shape))].reshape(shape)
    for name, (start, shape) in index["arrays"].items()
  }
  return index["cases"], index["errors"], arrays


class _Recorded:
  """Has the random numbers of the recording in place of its own."""

  def _random_normal(self, size, key, positions=None):
    return _recorded("normal", size)

  def _random_uniform(self, size, key, positions=None):
    return _recorded("uniform", size)


def _recorded(kind, size):
  arrays = [_golden()[2][f"inject/{layer}_{kind}"] for layer in _LAYERS]
  (found,) = (array for array in arrays if array.size == size)
  return tf.constant(found.ravel())


def _inner(kind):
  v1 = tf.compat.v1.train
  return {
    "sgd": lambda: v1.GradientDescentOptimizer(_LEARNING_RATE),
    "momentum": lambda: v1.MomentumOptimizer(_LEARNING_RATE, _MOMENTUM),
    "nesterov": lambda: v1.MomentumOptimizer(
      _LEARNING_RATE, _MOMENTUM, use_nesterov=True
    ),
    "adam": lambda: v1.AdamOptimizer(_LEARNING_RATE),
  }[kind]()


def _build(method, config):
  inner = _inner(config["inner"])
  method_class = getattr(sparse_optimizers, f"Sparse{method}Optimizer")
  make = type(method_class.__name__, (_Recorded, method_class), {})
  if method in ("Snip", "DNW"):
    return make(
      inner,
      config["default_sparsity"],
      config["mask_init_method"],
      config["custom_sparsity_map"],
      weight_decay=config["l2"],
      mask_engine="numpy",
    )
  extra = {}
  if method == "RigL":
    extra["initial_acc_scale"] = config["initial_acc_scale"]
  if method == "Momentum":
    extra["momentum"] = config["s_momentum"]
  return make(
    inner,
    config["begin"],
    config["end"],
    config["freq"],
    config["drop_fraction"],
    config["anneal"],
    grow_init=config["grow_init"],
    noise_std=0.0,
    weight_decay=config["l2"],
    mask_engine="numpy",
    **extra,
  )


class _Replay:
  """One recorded case on our optimizer.

  Attributes:
    shift: {layer: array}, what to add to the recorded weights.
    elsewhere: {layer: bool array}, where weights and slots are not compared.
  """

  def __init__(self, case):
    self.case, self.arrays = case, _golden()[2]
    self.shift = dict.fromkeys(_LAYERS, 0.0)
    self.elsewhere = dict.fromkeys(_LAYERS, False)
    self.variables = {
      name: tf.Variable(self.get(f"before/{key}"), name=name)
      for name, key in (
        ("fc/weights", "fc_w"),
        ("conv/weights", "conv_w"),
        ("fc/biases", "fc_bias"),
      )
    }
    self.step = tf.Variable(case["before"]["global_step"], dtype=tf.int64)
    self.optimizer = _build(case["optimizer"], case["config"])
    kernels = [self.variables["fc/weights"], self.variables["conv/weights"]]
    masks = {layer: self.get(f"before/{layer}_mask") for layer in _LAYERS}
    self.optimizer.create_masks(kernels, masks)
    self.optimizer.create_slots(list(self.variables.values()))
    self._set_slots()
    if "last_mask_update_step" in case["before"]:
      self.optimizer.last_update_step.assign(
        case["before"]["last_mask_update_step"]
      )
    for layer in _LAYERS:
      name = f"before/{layer}_ema"
      if self.has(name):
        self.optimizer._averages[layer].assign(self.get(name))

  def has(self, name):
    return f"{self.case['id']}/{name}" in self.arrays

  def get(self, name):
    return self.arrays[f"{self.case['id']}/{name}"]

  def layer(self, name):
    return next(la for la in self.optimizer.layers if la.name == name)

  def _set_slots(self):
    for slot in self.case["slots"]:
      for layer in _LAYERS:
        mask = self.get(f"before/{layer}_mask")
        if self.case["optimizer"] == "DNW":
          mask = 1.0
        variable = self.optimizer.get_slot(self.layer(layer).kernel, slot)
        variable.assign(self.get(f"before/{layer}_slot_{slot}") * mask)
      bias = self.optimizer.get_slot(self.variables["fc/biases"], slot)
      bias.assign(self.get(f"before/fc_bias_slot_{slot}"))

  def call(self, run):
    gradients = [
      (self.get(f"run{run}/fc_grad_masked"), self.variables["fc/weights"]),
      (self.get(f"run{run}/conv_grad_masked"), self.variables["conv/weights"]),
      (self.get(f"run{run}/fc_bias_grad"), self.variables["fc/biases"]),
    ]
    gradients = [(tf.constant(g), v) for g, v in gradients]
    self.optimizer.apply_gradients(gradients, self.step)

  def check(self, run):
    recorded = self.case["runs"][run]
    assert int(self.step.numpy()) == recorded["global_step"]
    if "last_mask_update_step" in recorded:
      last = int(self.optimizer.last_update_step.numpy())
      assert last == recorded["last_mask_update_step"]
    if "is_snipped" in recorded:
      snipped = bool(self.optimizer.is_snipped.numpy())
      assert snipped == recorded["is_snipped"]
    for layer in _LAYERS:
      self._check_layer(layer, f"after{run}/{layer}")
    np.testing.assert_allclose(
      self.variables["fc/biases"],
      self.get(f"after{run}/fc_bias"),
      rtol=0,
      atol=1e-6,
    )

  def _check_layer(self, name, prefix):
    layer = self.layer(name)
    mask = self.get(f"{prefix}_mask") != 0
    np.testing.assert_array_equal(layer.mask.numpy(), mask)
    if self.case["optimizer"] == "DNW":
      dense = self.optimizer.dense_weights(layer).numpy()
      np.testing.assert_allclose(
        dense, self.get(f"{prefix}_w"), rtol=1e-6, atol=1e-6
      )
    np.testing.assert_array_equal(layer.kernel.numpy()[~mask], 0.0)
    compared = mask & ~np.asarray(self.elsewhere[name])
    pairs = [(layer.kernel, self.get(f"{prefix}_w") + self.shift[name])]
    for slot in self.case["slots"]:
      variable = self.optimizer.get_slot(layer.kernel, slot)
      pairs.append((variable, self.get(f"{prefix}_slot_{slot}")))
    for variable, expected in pairs:
      np.testing.assert_allclose(
        variable.numpy()[compared], expected[compared], rtol=1e-6, atol=1e-6
      )


# --- Oracle -------------------------------------------------------------------


def _highest(scores, k, candidates):
  order = np.argsort(-scores.ravel().astype(np.float64), kind="stable")
  order = order[candidates.ravel()[order]]
  mask = np.zeros(scores.size, bool)
  mask[order[:k]] = True
  return mask.reshape(scores.shape)


def _oracle_step(replay, layer):
  """The layer's weights just before the update of the first call."""
  config = replay.case["config"]
  mask = replay.get(f"before/{layer}_mask") != 0
  weights = replay.get(f"before/{layer}_w") * mask
  if replay.case["optimizer"] == "RigL":
    return weights
  assert config["inner"] in ("momentum", "nesterov") and not config["l2"]
  gradient = replay.get(f"run0/{layer}_grad_masked") * mask
  slot = replay.get(f"before/{layer}_slot_momentum") * mask
  slot = _MOMENTUM * slot + gradient
  if config["inner"] == "nesterov":
    return weights - _LEARNING_RATE * (gradient + _MOMENTUM * slot)
  return weights - _LEARNING_RATE * slot


def _oracle_update(replay, layer, fraction):
  """Mask, new connections and weights before: of the first call."""
  config, method = replay.case["config"], replay.case["optimizer"]
  mask = replay.get(f"before/{layer}_mask") != 0
  weights = _oracle_step(replay, layer)
  gradient = replay.get(f"run0/{layer}_grad_masked")
  if method == "RigL":
    scores = np.abs(gradient)
  elif method == "Momentum":
    decay = config["s_momentum"]
    average = replay.get(f"before/{layer}_ema")
    scores = np.abs(decay * average + (1 - decay) * gradient)
  elif method == "SET":
    scores = replay.arrays[f"inject/{layer}_uniform"]
  else:
    scores = mask.astype(np.float32)
  num_ones = np.count_nonzero(mask)
  num_prune = int(np.float32(num_ones) * np.float32(fraction))
  kept = _highest(np.abs(weights), num_ones - num_prune, mask)
  grown = _highest(scores, num_prune, ~kept)
  new = grown if method == "Static" else grown & ~mask
  return kept | grown, new, weights


# --- Tests --------------------------------------------------------------------


def _case(name):
  return next(case for case in _golden()[0] if case["id"] == name)


def _ids(prefix):
  return [
    case["id"]
    for case in _golden()[0]
    if case["config"]["grow_init"].startswith(prefix)
  ]


_RANDOM, _INITIAL = _ids("random_"), _ids("initial_dist")
_OURS = {*_RANDOM, *_INITIAL, *_OTHER_FRACTION, *_TIES_WITH_INACTIVE}
_AS_RECORDED = [c["id"] for c in _golden()[0] if c["id"] not in _OURS]


def _divisor(grow_init):
  last = grow_init.split("_")[-1]
  return float(last) if last.isdigit() else 1.0


def test_every_recorded_case_is_replayed():
  assert len(_golden()[0]) == len(_AS_RECORDED) + len(_OURS) == 180
  assert (len(_RANDOM), len(_INITIAL)) == (11, 2)


@pytest.mark.parametrize("name", _AS_RECORDED)
def test_two_calls_give_the_recorded_state(name):
  replay = _Replay(_case(name))
  for run in range(2):
    replay.call(run)
    replay.check(run)


@pytest.mark.parametrize("name", _RANDOM)
def test_random_new_weights_scale_with_the_active_weights(name):
  """The published code takes the statistics of all raw weights."""
  replay = _Replay(_case(name))
  config = replay.case["config"]
  for layer in _LAYERS:
    fraction = config["drop_fraction"]
    _, new, weights = _oracle_update(replay, layer, fraction)
    assert new.any()
    active = weights[replay.get(f"before/{layer}_mask") != 0]
    if config["grow_init"].startswith("random_normal"):
      start = replay.arrays[f"inject/{layer}_normal"] * np.std(active)
    else:
      uniform = replay.arrays[f"inject/{layer}_uniform"]
      start = (2 * uniform - 1) * np.mean(np.abs(active))
    start = start / _divisor(config["grow_init"])
    recorded = replay.get(f"after0/{layer}_w")
    replay.shift[layer] = np.where(new, start - recorded, 0.0)
  for run in range(2):
    replay.call(run)
    replay.check(run)


@pytest.mark.parametrize("name", _INITIAL)
def test_initial_dist_draws_from_the_weights_before_training(name):
  replay = _Replay(_case(name))
  config = replay.case["config"]
  replay.call(0)
  for layer in _LAYERS:
    before = replay.get(f"before/{layer}_mask") != 0
    new = (replay.get(f"after0/{layer}_mask") != 0) & ~before
    drawn = replay.layer(layer).kernel.numpy()[new]
    initial = replay.get(f"before/{layer}_w") / _divisor(config["grow_init"])
    assert drawn.size and np.isin(drawn, initial.astype(np.float32)).all()
    shift = np.zeros(new.shape, np.float32)
    shift[new] = drawn - replay.get(f"after0/{layer}_w")[new]
    replay.shift[layer] = shift
  replay.check(0)
  replay.call(1)
  replay.check(1)


@pytest.mark.parametrize("name", _OTHER_FRACTION)
def test_declared_difference_of_the_share_that_is_dropped(name):
  replay = _Replay(_case(name))
  fraction, _ = _OTHER_FRACTION[name]
  expected = {la: _oracle_update(replay, la, fraction) for la in _LAYERS}
  replay.call(0)
  step = int(replay.step.numpy())
  assert replay.optimizer.drop_fraction_at(step) == pytest.approx(fraction)
  recorded = replay.case["runs"][0]
  assert recorded["drop_fraction_fetched_with_train_op"] != pytest.approx(
    fraction, abs=0.1
  )
  for layer, (mask, new, weights) in expected.items():
    before = replay.get(f"before/{layer}_mask") != 0
    ours = replay.layer(layer)
    assert np.count_nonzero(ours.mask) == np.count_nonzero(before)
    assert new.any()
    np.testing.assert_array_equal(ours.mask.numpy(), mask)
    weights = np.where(mask & ~new, weights, 0.0)
    np.testing.assert_allclose(ours.kernel.numpy(), weights, atol=1e-6)


@pytest.mark.parametrize("name", _TIES_WITH_INACTIVE)
def test_declared_difference_of_active_weights_that_are_zero(name):
  replay = _Replay(_case(name))
  revived = {}
  for layer in _LAYERS:
    before = replay.get(f"before/{layer}_mask") != 0
    new = (replay.get(f"after0/{layer}_mask") != 0) & ~before
    revived[layer] = new & (replay.get(f"after0/{layer}_w") != 0)
  assert sum(np.count_nonzero(where) for where in revived.values()) == 1
  replay.elsewhere = revived
  replay.call(0)
  replay.check(0)
  for layer, where in revived.items():
    np.testing.assert_array_equal(replay.layer(layer).kernel.numpy()[where], 0)
  replay.call(1)
  replay.check(1)


def _error_id(error):
  return f"{error['optimizer']}-{error['config']['grow_init']}"


@pytest.mark.parametrize("error", _golden()[1], ids=_error_id)
def test_what_the_published_code_refuses_is_refused(error):
  config = {**_golden()[0][0]["config"], **error["config"]}
  with pytest.raises(ValueError, match="`grow_init`"):
    _build(error["optimizer"], config)


def test_the_number_dropped_is_counted_in_float32():
  path = _FOLDER / "mask_update_steps.json.gz"
  by_fraction = json.loads(gzip.decompress(path.read_bytes()))
  size, checked = 5000, 0
  scores = tf.range(size, dtype=tf.int32)
  for fraction, entry in by_fraction["n_prune_float32"].items():
    key = "examples_[n_ones, tf_float32, python_float64]"
    for num_ones, expected, _ in entry[key][:4]:
      mask = tf.range(size) < num_ones
      fraction32 = tf.constant(float(fraction), tf.float32)
      result = mask_ops.drop_and_grow(scores, mask, scores, fraction32)
      assert np.count_nonzero(result.grown) == expected
      checked += 1
  assert checked
