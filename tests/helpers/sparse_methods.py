# SPDX-License-Identifier: Apache-2.0
"""The table of training methods, and a small problem that all of them train.

Both kernels have 96 weights, so that XLA compiles one program for both.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import sparse_optimizers

SIZES = (12, 8, 12)
BATCH = 16
SPARSITY = 0.5
FREQUENCY = 5

v1 = tf.compat.v1.train

INNER = {
  "sgd": lambda: v1.GradientDescentOptimizer(0.1),
  "momentum": lambda: v1.MomentumOptimizer(0.1, 0.9),
  "nesterov": lambda: v1.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
  "adam": lambda: v1.AdamOptimizer(0.01),
  "adagrad": lambda: v1.AdagradOptimizer(0.1),
  "rmsprop": lambda: v1.RMSPropOptimizer(0.01, momentum=0.9),
}


@dataclass(frozen=True)
class Method:
  """A row of the table.

  Attributes:
    make: the class of the optimizer.
    arguments: those of its constructor.
    start: how the first masks are made: `sparse` by `sparsify`, `dense` by
      `create_masks` from nothing else, or `none` at all.
    conserved: whether the number of connections never changes.
    random: whether the seed matters once the masks are given.
    trains_inactive: whether weights off the masks are trained, beside the
      kernel, so that their slots are in use.
    state: names of the variables of the method itself, beside masks and slots;
      `LAYER` stands for each kernel.
  """

  make: Callable[..., sparse_optimizers.SparseOptimizer]
  arguments: dict[str, Any]
  start: str
  conserved: bool = True
  random: bool = False
  trains_inactive: bool = False
  state: tuple[str, ...] = ()


_SCHEDULE_STATE = ("last_mask_update_step",)


def _drop_grow(
  make: Any,
  state: tuple[str, ...] = (),
  conserved: bool = True,
  **arguments: Any,
) -> Method:
  schedule = dict(
    begin_step=0, end_step=100, frequency=FREQUENCY, drop_fraction=0.4
  )
  arguments = {**schedule, "grow_init": "random_normal", **arguments}
  state = (*_SCHEDULE_STATE, *state)
  return Method(make, arguments, "sparse", conserved, random=True, state=state)


_TARGET = dict(default_sparsity=SPARSITY, mask_init_method="random")
METHODS = {
  "set": _drop_grow(
    sparse_optimizers.SparseSETOptimizer,
    state=("LAYER/explored",),
    track_exploration=True,
  ),
  "static": _drop_grow(sparse_optimizers.SparseStaticOptimizer),
  "momentum": _drop_grow(
    sparse_optimizers.SparseMomentumOptimizer,
    state=("LAYER/ExponentialMovingAverage",),
  ),
  "rigl": _drop_grow(
    sparse_optimizers.SparseRigLOptimizer, initial_acc_scale=0.1
  ),
  "snip": Method(
    sparse_optimizers.SparseSnipOptimizer,
    _TARGET,
    "dense",
    conserved=False,
    state=("is_snipped",),
  ),
  "dnw": Method(
    sparse_optimizers.SparseDNWOptimizer,
    _TARGET,
    "dense",
    conserved=False,
    trains_inactive=True,
    state=("LAYER/dense",),
  ),
  "prune": Method(
    sparse_optimizers.SparsePruningOptimizer,
    dict(
      begin_step=0,
      end_step=20,
      frequency=FREQUENCY,
      target_sparsity=SPARSITY,
    ),
    "dense",
    conserved=False,
    state=_SCHEDULE_STATE,
  ),
  "granet": Method(
    sparse_optimizers.SparseGraNetOptimizer,
    dict(
      begin_step=0,
      end_step=20,
      frequency=FREQUENCY,
      target_sparsity=SPARSITY,
      drop_fraction=0.4,
      grow_init="random_normal",
      grow_batches=3,
    ),
    "dense",
    conserved=False,
    random=True,
    state=(
      *_SCHEDULE_STATE,
      "LAYER/grow_gradient",
      "grow_gradient_batches",
    ),
  ),
  "top_kast": Method(
    sparse_optimizers.SparseTopKASTOptimizer,
    dict(
      begin_step=0,
      end_step=100,
      frequency=FREQUENCY,
      default_sparsity=SPARSITY,
      backward_sparsity=0.25,
    ),
    "dense",
    trains_inactive=True,
    state=(*_SCHEDULE_STATE, "LAYER/dense", "LAYER/backward_mask"),
  ),
  # Soft memory, whose last update within 26 iterations drops the surplus.
  "mest": _drop_grow(
    sparse_optimizers.SparseSETOptimizer,
    state=("LAYER/target_connections",),
    conserved=False,
    end_step=22,
    soft_memory=True,
    drop_gradient_weight=0.1,
  ),
  "rigl_across": _drop_grow(
    sparse_optimizers.SparseRigLOptimizer,
    state=("LAYER/target_connections",),
    conserved=False,
    across_layers=True,
  ),
  "chase": _drop_grow(
    sparse_optimizers.SparseRigLOptimizer,
    state=("LAYER/explored", "LAYER/target_connections"),
    conserved=False,
    end_step=22,
    soft_memory=True,
    across_layers=True,
    track_exploration=True,
  ),
  "scratch": Method(sparse_optimizers.SparseFixedMaskOptimizer, {}, "sparse"),
  "baseline": Method(sparse_optimizers.SparseFixedMaskOptimizer, {}, "none"),
}
MASKED = [name for name in METHODS if name != "baseline"]
DROP_GROW = [
  name
  for name, method in METHODS.items()
  if issubclass(method.make, sparse_optimizers.DropGrowOptimizer)
  and method.conserved
]
# Drop and grow whose layers do not keep their number of connections.
BUDGETED = ["mest", "rigl_across", "chase"]
SCHEDULED = [*DROP_GROW, *BUDGETED, "prune", "granet", "top_kast"]


def make(name: str, inner: str = "momentum", /, **options: Any) -> Any:
  """The optimizer of a row, without masks.

  It chooses connections by NumPy unless `mask_engine` says otherwise: XLA would
  compile each optimizer's update, about a second each.
  """
  method = METHODS[name]
  arguments = {"mask_engine": "numpy", **method.arguments, **options}
  return method.make(INNER[inner](), **arguments)


class Model(tf.Module):
  """The variables of two dense layers; `_gradients` is the network."""

  def __init__(self, seed: int = 0, **variable_options: Any) -> None:
    super().__init__()
    rng = np.random.default_rng(seed)
    self.kernels, self.biases = [], []
    for i, shape in enumerate(zip(SIZES, SIZES[1:], strict=False), 1):
      weights = rng.normal(size=shape).astype(np.float32)
      bias = rng.normal(size=shape[1:]).astype(np.float32)
      for values, variables, what in (
        (weights, self.kernels, "weights"),
        (0.1 * bias, self.biases, "biases"),
      ):
        name = f"layer{i}/{what}"
        variables.append(tf.Variable(values, name=name, **variable_options))

  @property
  def all_variables(self) -> list[Any]:
    return [*self.kernels, *self.biases]


_RNG = np.random.default_rng(7)
IMAGES = _RNG.normal(size=(64, BATCH, SIZES[0])).astype(np.float32)
LABELS = _RNG.integers(SIZES[-1], size=(64, BATCH)).astype(np.int32)


@tf.function(autograph=False)
def _gradients(i: Any, replica: Any, parts: int, variables: list[Any]) -> Any:
  """Of a replica's part of the mean loss; one program for the session."""
  x, y = (
    tf.gather(
      tf.reshape(tf.gather(a, i), (parts, BATCH // parts, *a.shape[2:])),
      replica,
    )
    for a in (IMAGES, LABELS)
  )
  with tf.GradientTape() as tape:
    tape.watch(variables)
    w1, w2, b1, b2 = variables
    logits = tf.nn.relu(x @ w1 + b1) @ w2 + b2
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
    loss = tf.reduce_sum(losses) / BATCH
  return tape.gradient(loss, variables)


class Run:
  """A model in training by one method.

  Args:
    name: row of the table.
    inner: the wrapped optimizer.
    model_seed: seed of the initial weights.
    given_masks: whether to take masks that do not depend on `seed`.
    n_sparse: how many of the two kernels are sparse, from the first on.
    aggregation: of the model's variables, under `tf.distribute`.
    **options: arguments of the sparse optimizer.
  """

  def __init__(
    self,
    name: str,
    inner: str = "momentum",
    model_seed: int = 0,
    given_masks: bool = False,
    n_sparse: int = 2,
    aggregation: Any = tf.VariableAggregation.ONLY_FIRST_REPLICA,
    **options: Any,
  ) -> None:
    self.name = name
    self.model = Model(model_seed, aggregation=aggregation)
    self.step = tf.Variable(
      0,
      dtype=tf.int64,
      name="global_step",
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
    self.optimizer = make(name, inner, **options)
    start, kernels = METHODS[name].start, self.model.kernels[:n_sparse]
    if start == "dense":
      self.optimizer.create_masks(kernels)
    elif start == "sparse" and given_masks:
      masks = {"layer1": np.eye(12, 8) == 0, "layer2": np.eye(8, 12) == 0}
      self.optimizer.create_masks(kernels, masks)
    elif start == "sparse":
      self.optimizer.sparsify(kernels, "random", SPARSITY)

  def gradients(self, i: Any) -> list[tuple[Any, Any]]:
    """Gradients of the i-th batch, or a replica's part, with variables."""
    replica = tf.distribute.get_replica_context()
    variables = self.model.all_variables
    gradients = _gradients(
      tf.convert_to_tensor(i),
      tf.convert_to_tensor(replica.replica_id_in_sync_group),
      replica.num_replicas_in_sync,
      [tf.convert_to_tensor(variable) for variable in variables],
    )
    return list(zip(gradients, variables, strict=True))

  def iterate(self, i: Any) -> None:
    """One training iteration."""
    self.optimizer.apply_gradients(self.gradients(i), self.step)

  def train(self, n: int, start: int = 0) -> Run:
    """Iterations with the batches from `start` on."""
    for i in range(start, start + n):
      self.iterate(i)
    return self

  def masks(self) -> list[np.ndarray]:
    return [layer.mask.numpy() for layer in self.optimizer.layers]

  def kernels(self) -> list[np.ndarray]:
    return [kernel.numpy() for kernel in self.model.kernels]

  def slots(self) -> dict[str, list[np.ndarray]]:
    return {
      name: [
        self.optimizer.get_slot(layer.kernel, name).numpy()
        for layer in self.optimizer.layers
      ]
      for name in self.optimizer.get_slot_names()
    }

  def last_update(self) -> int | None:
    """The step of the last update; None where there is no schedule."""
    if self.name not in SCHEDULED:
      return None
    return int(self.optimizer.last_update_step.numpy())

  def state(self) -> dict[str, np.ndarray]:
    """Everything, by name."""
    named = {v.name: v.numpy() for v in (*self.model.all_variables, self.step)}
    return named | {k: v.numpy() for k, v in self.optimizer.state().items()}


def train_by_halves(
  run: Run,
  step_fn: Callable[[int, int], None],
  update_fn: Callable[[int], None],
  n: int,
) -> None:
  """Makes `n` iterations by a loop that plans on the host.

  Args:
    run: what to train.
    step_fn: makes gradient steps with batch `i` and so on, as many as told.
    update_fn: updates masks, with batch `i` where that needs a gradient.
    n: number of iterations.
  """
  optimizer, i = run.optimizer, 0
  while i < n:
    until = optimizer.steps_to_update(int(run.step.numpy()))
    steps = n - i if until is None else min(until, n - i)
    if steps:
      step_fn(i, steps)
      i += steps
    if steps != until:
      continue
    if not optimizer.update_is_iteration:
      update_fn(i - 1)
    elif i < n:
      update_fn(i)
      i += 1


def assert_same_bits(a: dict[str, Any], b: dict[str, Any]) -> None:
  """Two states with the same names, dtypes and bits."""
  assert a.keys() == b.keys()
  for name, value in a.items():
    assert value.dtype == b[name].dtype, name
    np.testing.assert_array_equal(value, b[name], err_msg=name)


def assert_close(a: dict[str, Any], b: dict[str, Any]) -> None:
  """Two states: masks and counters equal, all else up to rounding."""
  assert a.keys() == b.keys()
  for name, value in a.items():
    if value.dtype.kind == "f":
      np.testing.assert_allclose(
        value, b[name], rtol=1e-4, atol=1e-5, err_msg=name
      )
    else:
      np.testing.assert_array_equal(value, b[name], err_msg=name)


def child_environment(**variables: str) -> dict[str, str]:
  """The environment of a process that runs a test file as a script.

  Args:
    **variables: further environment variables.
  """
  path = os.pathsep.join([*sys.path, str(pathlib.Path(__file__).parent)])
  return {**os.environ, "PYTHONPATH": path, **variables}
