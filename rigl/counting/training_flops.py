# SPDX-License-Identifier: Apache-2.0
"""FLOPs of training with each method, derived from FLOPs of inference.

Evci et al., 2020, https://arxiv.org/abs/1911.11134, appendix H: a training
step costs three times the forward pass: one forward pass, the gradient with
respect to the activations and the gradient with respect to the weights. Let f_S
and f_D be the FLOPs of the sparse and the dense forward pass of one example. A
step costs

* dense (`baseline`): 3 f_D,
* `scratch`, `static`, `set` and `snip`: 3 f_S,
* SNFS (`momentum`): 2 f_S + f_D, as all weights have a gradient,
* `rigl`: (3 f_S T + 2 f_S + f_D) / (T + 1), with a mask update every T steps,
* `prune`: 3 times the mean of f_S over the schedule,
* GraNet (`granet`, not in that paper): that of `rigl` with the mean of f_S over
  the schedule, which does not know where global pruning will leave connections
  and lets every layer keep its share,
* Top-KAST (`top_kast`, not in that paper): 2 f_S + f_B, where f_B are the FLOPs
  of a forward pass with the weights that are trained (Jayakumar et al., 2020,
  https://arxiv.org/abs/2106.03517, section 2.2): both passes through the
  activations have the weights that compute alone.

An update of `set` that drops by gradients as well (`drop_gradient_weight`)
takes the place of a step and needs the gradient of all weights: as `rigl`.

With soft memory, `set` and `rigl` have the mean of f_S over training in the
place of f_S; `counting.soft_memory` computes it.

With `grow_batches` n > 1, the last n - 1 steps before an update of `rigl` and
`granet` need the gradient of all weights as well: of each T steps and an
update, T - n + 1 cost 3 f_S and n cost 2 f_S + f_D.

DNW is not in the paper; all its weights have a gradient, as with SNFS. One-time
and small costs are left out, in the paper and here: SNIP's dense gradient,
random masks, top-k, batch normalization, the optimizer, and the end of training
without mask updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rigl.schedules import PruningSchedule

_SPARSE = ("scratch", "static", "set", "snip")
_DENSE_WEIGHT_GRADIENT = ("momentum", "dnw")
BASELINE, PRUNE = "baseline", "prune"
GRANET, TOP_KAST = "granet", "top_kast"
# Methods with soft memory, those whose drop scores may have the gradient, and
# those whose growth scores may come from several batches.
WITH_SURPLUS = ("set", "rigl")
DROP_BY_GRADIENTS = ("set", "rigl")
GROW_BY_BATCHES = ("rigl", GRANET)
TRAINING_METHODS = (
  BASELINE,
  *_SPARSE,
  *_DENSE_WEIGHT_GRADIENT,
  "rigl",
  PRUNE,
  GRANET,
  TOP_KAST,
)

# The published runs: 32,000 steps of 4096 images are 1x.
PUBLISHED_STEPS = 32_000
PUBLISHED_BATCH = 4096
PUBLISHED_PERIOD = 100


class TrainingCost(NamedTuple):
  """Cost of a training run.

  Attributes:
    step_flops: FLOPs of a step for one example.
    total_flops: FLOPs of the whole run.
    fraction: `total_flops` divided by the FLOPs of dense training of length
      1x.
    inference_fraction: FLOPs of the trained network divided by those of the
      dense network.
  """

  step_flops: float
  total_flops: float
  fraction: float
  inference_fraction: float


def step_flops(
  method: str,
  dense: float,
  sparse: float,
  period: int = PUBLISHED_PERIOD,
  pruning_mean: float | None = None,
  grow_batches: int = 1,
  backward: float | None = None,
  surplus_mean: float | None = None,
  drop_gradient_weight: float = 0.0,
) -> float:
  """FLOPs of an average training step for one example.

  >>> step_flops('rigl', dense=1000, sparse=100, period=100)
  308.91089108910893

  Args:
    method: one of `TRAINING_METHODS`.
    dense: FLOPs of the dense forward pass of one example, more than 0.
    sparse: FLOPs of the trained network's forward pass, in [0, dense].
    period: steps between two mask updates, for `rigl`, `granet` and `set` with
      `drop_gradient_weight`; at least 1.
    pruning_mean: for `prune` and `granet`, the mean of `sparse` over training,
      as `mean_over_pruning` computes it.
    grow_batches: for `rigl` and `granet`, batches whose dense gradients choose
      what grows, in [1, period].
    backward: for `top_kast`, FLOPs of a forward pass with all weights that are
      trained, in [sparse, dense].
    surplus_mean: for `set` and `rigl` with soft memory, the mean of `sparse`
      over training, as `soft_memory.mean_over_surplus` computes it. None:
      without.
    drop_gradient_weight: for `set` and `rigl`, at least 0; above 0 updates of
      `set` cost what those of `rigl` do.

  Raises:
    ValueError: if an argument is not as described.
  """
  if method not in TRAINING_METHODS:
    raise ValueError(f"`method` must be in {TRAINING_METHODS}, got {method!r}.")
  if not 0 < dense < math.inf:
    raise ValueError(f"`dense` must be positive and finite, got {dense}.")
  if not 0 <= sparse <= dense:
    raise ValueError(
      f"`sparse` must be in [0, `dense`] = [0, {dense}], got {sparse}."
    )
  if period < 1:
    raise ValueError(f"`period` must be at least 1, got {period}.")
  if not 1 <= grow_batches <= period:
    raise ValueError(
      f"`grow_batches` must be in [1, `period`] = [1, {period}], got "
      f"{grow_batches}."
    )
  if not 0 <= drop_gradient_weight < math.inf:
    raise ValueError(
      "`drop_gradient_weight` must be at least 0 and finite, got "
      f"{drop_gradient_weight}."
    )
  if drop_gradient_weight and method not in DROP_BY_GRADIENTS:
    raise ValueError(
      f"`drop_gradient_weight` must be 0 for {method!r}, {DROP_BY_GRADIENTS} "
      f"drop by gradients, got {drop_gradient_weight}."
    )
  if surplus_mean is not None:
    if method not in WITH_SURPLUS:
      raise ValueError(
        f"`surplus_mean` must be None for {method!r}, {WITH_SURPLUS} have "
        f"soft memory, got {surplus_mean}."
      )
    if not sparse <= surplus_mean <= dense:
      raise ValueError(
        f"`surplus_mean` must be in [`sparse`, `dense`] = [{sparse}, {dense}], "
        f"got {surplus_mean}."
      )
    sparse = surplus_mean
  if method == BASELINE:
    return 3 * dense
  if method == "set" and drop_gradient_weight:
    return _mean_step(dense, sparse, period, 1)
  if method in _SPARSE:
    return 3 * sparse
  if method in _DENSE_WEIGHT_GRADIENT:
    return 2 * sparse + dense
  if method == TOP_KAST:
    if backward is None or not sparse <= backward <= dense:
      raise ValueError(
        f"`backward` must be in [`sparse`, `dense`] = [{sparse}, {dense}] for "
        f"{method!r}, got {backward}."
      )
    return 2 * sparse + backward
  if method == "rigl":
    return _mean_step(dense, sparse, period, grow_batches)
  if pruning_mean is None:
    raise ValueError(f"`pruning_mean` must be given for {method!r}, got None.")
  if method == GRANET:
    return _mean_step(dense, pruning_mean, period, grow_batches)
  return 3 * pruning_mean


def _mean_step(
  dense: float, sparse: float, period: int, grow_batches: int
) -> float:
  """The mean of `period` steps and an update, some with dense gradients."""
  with_dense = (2 * sparse + dense) * grow_batches
  return (3 * sparse * (period + 1 - grow_batches) + with_dense) / (period + 1)


def training_cost(
  method: str,
  dense: float,
  sparse: float,
  steps: int = PUBLISHED_STEPS,
  batch_size: int = PUBLISHED_BATCH,
  multiplier: float = 1.0,
  period: int = PUBLISHED_PERIOD,
  pruning_mean: float | None = None,
  grow_batches: int = 1,
  backward: float | None = None,
  surplus_mean: float | None = None,
  drop_gradient_weight: float = 0.0,
) -> TrainingCost:
  """FLOPs of a training run, and its share of dense training.

  >>> cost = training_cost('set', dense=1000, sparse=200, multiplier=5)
  >>> cost.fraction, cost.inference_fraction
  (1.0, 0.2)

  Args:
    method: one of `TRAINING_METHODS`.
    dense: FLOPs of the dense forward pass of one example, more than 0.
    sparse: FLOPs of the trained network's forward pass, in [0, dense].
    steps: training steps of a run of length 1x, at least 1.
    batch_size: examples per step, at least 1.
    multiplier: how much longer the run is (5 for 5x); positive.
    period: steps between two mask updates, as for `step_flops`.
    pruning_mean: for `prune` and `granet`, the mean of `sparse` over training.
    grow_batches: for `rigl` and `granet`, as for `step_flops`.
    backward: for `top_kast`, as for `step_flops`.
    surplus_mean: for `set` and `rigl` with soft memory, as for `step_flops`.
    drop_gradient_weight: for `set` and `rigl`, as for `step_flops`.

  Raises:
    ValueError: if an argument is not as described.
  """
  for name, value in (("steps", steps), ("batch_size", batch_size)):
    if value < 1:
      raise ValueError(f"`{name}` must be at least 1, got {value}.")
  if not 0 < multiplier < math.inf:
    raise ValueError(
      f"`multiplier` must be positive and finite, got {multiplier}."
    )
  step = step_flops(
    method,
    dense,
    sparse,
    period,
    pruning_mean,
    grow_batches,
    backward=backward,
    surplus_mean=surplus_mean,
    drop_gradient_weight=drop_gradient_weight,
  )
  inference = 1.0 if method == BASELINE else sparse / dense
  return TrainingCost(
    step,
    step * steps * multiplier * batch_size,
    step * multiplier / (3 * dense),
    inference,
  )


def pruning_phases(
  schedule: PruningSchedule, steps: int, start_sparsity: float = 0.0
) -> Iterator[tuple[int, float]]:
  """Phases of gradual pruning: number of steps and sparsity of each.

  >>> schedule = PruningSchedule(10, 30, 10, 0.8)
  >>> [(n, round(s, 2)) for n, s in pruning_phases(schedule, 40)]
  [(10, 0.0), (10, 0.0), (10, 0.7), (10, 0.8)]

  Args:
    schedule: when masks are made, and how sparse.
    steps: training steps, at least 1.
    start_sparsity: sparsity before the first update.

  Yields:
    (number of steps, sparsity in [0, 1)), `steps` steps in all;
    `start_sparsity` before the first update, and constant between two.

  Raises:
    ValueError: if `steps` is out of its range.
  """
  if steps < 1:
    raise ValueError(f"`steps` must be at least 1, got {steps}.")
  step, sparsity = 0, start_sparsity
  last = schedule.initial_last_update_step
  while step < steps:
    update = schedule.next_update_step(step, last)
    if update is None or update >= steps:
      yield steps - step, sparsity
      return
    if update > step:
      yield update - step, sparsity
    step = last = update
    sparsity = float(schedule.sparsity_at(update))
    following = schedule.next_update_step(update + 1, last)
    end = steps if following is None else min(following, steps)
    yield end - step, sparsity
    step = end


def mean_over_pruning(
  flops_at: Callable[[float], float],
  schedule: PruningSchedule,
  steps: int,
  start_sparsity: float = 0.0,
) -> float:
  """Mean over training of the FLOPs of a network that is gradually pruned.

  Args:
    flops_at: FLOPs of the network with a given overall sparsity.
    schedule: when masks are made, and how sparse.
    steps: training steps, at least 1.
    start_sparsity: sparsity before the first update.
  """
  phases = pruning_phases(schedule, steps, start_sparsity)
  return sum(length * flops_at(s) for length, s in phases) / steps
