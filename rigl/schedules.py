"""Schedules: which step updates masks, by how much, at which learning rate.

They are pure functions of the step, answered with NumPy on the host or, with
`ops=tf`, inside a TensorFlow graph; what an update does lives elsewhere.
"""

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

KNOWN_ANNEALS = ("constant", "cosine", "exponential", "exponential_K")

# float32 on the host too, whatever the promotion rules of this NumPy.
_ONE = np.float32(1)
_ZERO = np.float32(0)
_HALF = np.float32(0.5)
_PI = np.float32(math.pi)


@dataclass(frozen=True)
class _Window:
  """Steps `begin_step`, ..., `end_step`, at least `frequency` apart.

  Steps may be Python or NumPy numbers, arrays, or tensors.
  """

  begin_step: int
  end_step: int
  frequency: int

  def __post_init__(self) -> None:
    _check_integer("begin_step", self.begin_step, 0)
    _check_integer("end_step", self.end_step, -math.inf)
    _check_integer("frequency", self.frequency, 1)
    if 0 <= self.end_step < self.begin_step:
      raise ValueError(
        f"`end_step` must be negative or at least `begin_step` "
        f"({self.begin_step}), got {self.end_step}."
      )

  @property
  def initial_last_update_step(self) -> int:
    """The last update step before any update, so that the first may come."""
    return -self.frequency

  def is_update_step(self, step: Any, last_update_step: Any) -> Any:
    """Whether the masks are updated at `step`.

    Args:
      step: the current step (integers; int64 in a graph).
      last_update_step: step of the last update, or `initial_last_update_step`.

    Returns:
      A boolean of the kind of the arguments: `begin_step <= step <= end_step`
      (no upper end if `end_step` is negative) and `last_update_step +
      frequency <= step`.
    """
    due = last_update_step + self.frequency <= step
    return self._contains(step) & due

  def next_update_step(self, step: int, last_update_step: int) -> int | None:
    """The first update step that is not before `step`; None if there is none.

    Args:
      step: the current step, on the host.
      last_update_step: step of the last update, or `initial_last_update_step`.
    """
    due = max(step, self.begin_step, last_update_step + self.frequency)
    return due if self.end_step < 0 or due <= self.end_step else None

  def _contains(self, step: Any) -> Any:
    started = self.begin_step <= step
    if self.end_step < 0:
      return started
    return started & (step <= self.end_step)

  def _progress(self, step: Any, ops: Any) -> Any:
    """Share of the window that has passed, in [0, 1]; 0 without an end."""
    # Times the reciprocal: graph compilers turn the quotient into that, so
    # that only this gives the host the same bits (and the published numbers).
    n_steps = self.end_step - self.begin_step
    reciprocal = _ONE / np.float32(n_steps) if n_steps > 0 else _ZERO
    passed = _float32(step - self.begin_step, ops) * reciprocal
    return ops.minimum(ops.maximum(passed, _ZERO), _ONE)


@dataclass(frozen=True)
class UpdateSchedule(_Window):
  """When connections are dropped and grown, and how many.

  Evci et al., 2020, https://arxiv.org/abs/1911.11134, section 3: "Update
  schedule". With p = (step - begin_step) / (end_step - begin_step), the share
  of the active connections that is dropped is, inside the window,

  * `constant`: drop_fraction,
  * `cosine`: drop_fraction * (1 + cos(pi * p)) / 2,
  * `exponential_K`: drop_fraction * (1 - p) ** K; `exponential` is K = 1,

  and 0 outside.

  >>> schedule = UpdateSchedule(0, 100, 10, 0.5, 'exponential')
  >>> [float(schedule.drop_fraction_at(step)) for step in (0, 50, 100, 101)]
  [0.5, 0.25, 0.0, 0.0]

  Note:
    In the published code cosine annealing counts from step 0 whatever
    `begin_step` is. Without an end it drops nothing, and the exponential one
    drops ever more; here an endless schedule keeps the initial fraction.

  Args:
    begin_step: first step that may update, at least 0.
    end_step: last step that may update; negative for no end.
    frequency: least number of steps between two updates, at least 1.
    drop_fraction: initial share of the active connections to drop, in [0, 1].
    drop_fraction_anneal: `constant`, `cosine`, `exponential` or
      `exponential_K` with a number K > 0, such as `exponential_3`.

  Raises:
    ValueError: if an argument is not as described.
  """

  drop_fraction: float = 0.1
  drop_fraction_anneal: str = "constant"

  def __post_init__(self) -> None:
    super().__post_init__()
    if not 0 <= self.drop_fraction <= 1:
      raise ValueError(
        f"`drop_fraction` must be in [0, 1], got {self.drop_fraction}."
      )
    _parse_anneal(self.drop_fraction_anneal)

  def drop_fraction_at(self, step: Any, ops: Any = np) -> Any:
    """Share of the active connections to drop in an update at `step`.

    Args:
      step: the step: numbers, or tensors together with `ops=tf`.
      ops: module with `cos`, `minimum`, `maximum` and `where`.

    Returns:
      float32 in [0, drop_fraction], of the shape of `step`.
    """
    kind, power = _parse_anneal(self.drop_fraction_anneal)
    fraction = np.float32(self.drop_fraction)
    if kind == "cosine":
      cosine = ops.cos(_PI * self._progress(step, ops))
      fraction = fraction * (_HALF + _HALF * cosine)
    elif kind == "exponential":
      fraction = fraction * (_ONE - self._progress(step, ops)) ** power
    return _unwrap(ops.where(self._contains(step), fraction, _ZERO))


@dataclass(frozen=True)
class PruningSchedule(_Window):
  """Gradual pruning: when masks are made, and how sparse.

  Zhu & Gupta, 2017, https://arxiv.org/abs/1710.01878, section 3. With p as in
  `UpdateSchedule`, kept in [0, 1], the sparsity is

    target_sparsity + (initial_sparsity - target_sparsity) * (1 - p) ** exponent

  before, in and after the window.

  >>> schedule = PruningSchedule(0, 100, 10, 0.5)
  >>> [float(schedule.sparsity_at(step)) for step in (0, 50, 100, 101)]
  [0.0, 0.4375, 0.5, 0.5]

  Args:
    begin_step: first step that may update, at least 0.
    end_step: last step that may update, more than `begin_step`.
    frequency: least number of steps between two updates, at least 1.
    target_sparsity: final share of zeros, in [0, 1).
    initial_sparsity: first share of zeros, in [0, target_sparsity].
    exponent: positive; 3 as in the paper.

  Raises:
    ValueError: if an argument is not as described.
  """

  target_sparsity: float
  initial_sparsity: float = 0.0
  exponent: float = 3.0

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.end_step <= self.begin_step:
      raise ValueError(
        f"`end_step` must be more than `begin_step` ({self.begin_step}), got "
        f"{self.end_step}."
      )
    _check_sparsity(self.target_sparsity)
    if not 0 <= self.initial_sparsity <= self.target_sparsity:
      raise ValueError(
        "`initial_sparsity` must be in [0, `target_sparsity`] = "
        f"[0, {self.target_sparsity}], got {self.initial_sparsity}."
      )
    if not 0 < self.exponent < math.inf:
      raise ValueError(
        f"`exponent` must be positive and finite, got {self.exponent}."
      )

  def sparsity_at(
    self, step: Any, ops: Any = np, target_sparsity: float | None = None
  ) -> Any:
    """Share of zeros that a mask made at `step` has.

    Args:
      step: the step: numbers, or tensors together with `ops=tf`.
      ops: module with `minimum` and `maximum`.
      target_sparsity: final sparsity of one layer, in [0, 1). Its sparsity is
        that of the schedule times `target_sparsity / self.target_sparsity`.
        None for the schedule's own.

    Returns:
      float32 in [0, 1), of the shape of `step`.

    Raises:
      ValueError: if `target_sparsity` is out of its range, or is not 0 while
        the schedule's is.
    """
    target = np.float32(self.target_sparsity)
    missing = np.float32(self.initial_sparsity) - target
    remaining = _ONE - self._progress(step, ops)
    sparsity = missing * remaining ** np.float32(self.exponent) + target
    if target_sparsity is not None:
      sparsity = sparsity * self._layer_scale(target_sparsity)
    return _unwrap(sparsity)

  def _layer_scale(self, target_sparsity: float) -> np.float32:
    _check_sparsity(target_sparsity)
    if self.target_sparsity == 0 < target_sparsity:
      raise ValueError(
        "`target_sparsity` of a layer must be 0 where the schedule's is, got "
        f"{target_sparsity}."
      )
    return np.float32(target_sparsity / (self.target_sparsity or 1))


@dataclass(frozen=True)
class PiecewiseConstant:
  """A value that changes after given steps, such as a learning rate.

  >>> rate = PiecewiseConstant((100, 200), (1.0, 0.5, 0.25))
  >>> [float(rate.at(step)) for step in (0, 100, 101, 201)]
  [1.0, 1.0, 0.5, 0.25]

  Args:
    boundaries: increasing steps; a boundary still has the value before it.
    values: finite, one more than there are boundaries.

  Raises:
    ValueError: if an argument is not as described.
  """

  boundaries: tuple[float, ...]
  values: tuple[float, ...]

  def __post_init__(self) -> None:
    # A configuration file may bring lists, which would not hash.
    object.__setattr__(self, "boundaries", tuple(self.boundaries))
    object.__setattr__(self, "values", tuple(self.values))
    pairs = zip(self.boundaries, self.boundaries[1:], strict=False)
    if not all(a < b for a, b in pairs):
      raise ValueError(f"`boundaries` must increase, got {self.boundaries}.")
    if len(self.values) != len(self.boundaries) + 1:
      raise ValueError(
        "`values` must be one more than the boundaries "
        f"({len(self.boundaries)}), got {len(self.values)}."
      )
    if not all(math.isfinite(value) for value in self.values):
      raise ValueError(f"`values` must be finite, got {self.values}.")

  def at(self, step: Any, ops: Any = np) -> Any:
    """The value at `step`.

    Args:
      step: the step: numbers, or tensors together with `ops=tf`.
      ops: module with `where`.

    Returns:
      float32 of the shape of `step`: `values[i]` for the first i with
      `step <= boundaries[i]`, else the last value.
    """
    result = np.float32(self.values[-1])
    for i in reversed(range(len(self.boundaries))):
      value = np.float32(self.values[i])
      result = ops.where(step <= self.boundaries[i], value, result)
    return _unwrap(result)


def _float32(value: Any, ops: Any) -> Any:
  # Only TensorFlow has no `asarray`.
  if hasattr(ops, "asarray"):
    return ops.asarray(value, "float32")
  return ops.cast(value, "float32")


def _unwrap(value: Any) -> Any:
  """NumPy scalars for 0-d arrays; all else as it is."""
  return value[()] if isinstance(value, np.ndarray) else value


def _parse_anneal(name: str) -> tuple[str, np.float32]:
  """Kind of annealing, and its power (1 where it has none)."""
  if name in ("constant", "cosine", "exponential"):
    return name, _ONE
  kind, _, power = name.partition("_")
  try:
    parsed = float(power)
  except ValueError:
    parsed = math.nan
  if kind != "exponential" or not 0 < parsed < math.inf:
    raise ValueError(
      f"`drop_fraction_anneal` must be in {KNOWN_ANNEALS} with a number K > 0, "
      f"got {name!r}."
    )
  return kind, np.float32(parsed)


def _check_integer(name: str, value: Any, minimum: float) -> None:
  if not isinstance(value, numbers.Integral) or value < minimum:
    bound = f" of at least {minimum}" if minimum > -math.inf else ""
    raise ValueError(f"`{name}` must be an integer{bound}, got {value!r}.")


def _check_sparsity(value: float) -> None:
  if not 0 <= value < 1:
    raise ValueError(f"`target_sparsity` must be in [0, 1), got {value}.")
