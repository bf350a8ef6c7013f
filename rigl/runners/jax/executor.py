# SPDX-License-Identifier: Apache-2.0
"""JAX executor: trains on the devices that JAX sees.

TensorFlow builds the programs and JAX's client compiles and runs them. Weights,
masks and slots stay on the devices between calls. If the examples are in
memory, one call makes many steps; the batches of a stream are put on the
devices ahead, and every step is a call that the host does not wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from rigl.data.array_source import ArraySource
from rigl.data.source import Source
from rigl.data.stream_source import StreamSource
from rigl.distribution.jax_replicas import JaxReplicas
from rigl.runners.evaluations import Evaluation
from rigl.runners.jax.batch_feed import BatchFeed
from rigl.runners.jax.device_program import DeviceProgram
from rigl.runners.jax.device_state import DeviceState
from rigl.runners.pace import Pace
from rigl.runners.program import Lowerable, ProgramMaker, int64
from rigl.runners.train_step import (
  TrainStep,
  add_metrics,
  measure_state,
  note_update,
  state_metrics,
  step_loop,
)
from rigl.training.executor import Progress, StoppedError, never, next_stretch
from rigl.training.train_state import TrainState
from rigl.types import Batch, Metrics, Tensor, Variable

MakeEvaluation: TypeAlias = Callable[[ProgramMaker], Evaluation]

# The most steps of the first calls, whose speed is not known.
_FIRST_STEPS = 10
_FINITE = "finite/"


def evaluation_programs(state: DeviceState) -> ProgramMaker:
  """Makes programs that read the variables of a state and change none.

  Args:
    state: the variables on the devices.
  """
  return lambda function, _: DeviceProgram(function, state, writes=False)


class JaxExecutor:
  """Executes training on the devices of JAX.

  Attributes:
    state: the train state, whose variables are old until `synchronize`.
    source: the training batches.
    evaluation: evaluates the task.
    is_stopped: whether the run shall stop; an evaluation asks it.
    device_state: the variables on the devices.
    is_ahead: whether `advance` makes steps that the state does not count yet.

  Args:
    state: the train state.
    source: the training batches.
    make_evaluation: makes the evaluation, of programs that this executor
      makes.
    replicas: the devices.
    norms: whether the norms of gradient and weights are measured.
    skips: whether a step or a mask update whose numbers are not finite changes
      nothing.
  """

  def __init__(
    self,
    state: TrainState,
    source: Source,
    make_evaluation: MakeEvaluation,
    replicas: JaxReplicas,
    *,
    norms: bool = False,
    skips: bool = False,
  ) -> None:
    self.state, self._optimizer = state, state.optimizer
    self.source, self._replicas = source, replicas
    self._norms = norms
    self.is_stopped: Callable[[], bool] = never
    self.is_ahead = False
    state.optimizer.create_slots(state.task.trainable_variables)
    state.optimizer.use_mask_engine("batched")
    on_host = {id(v) for v in source.variables.values()}
    self._variables = [
      v for v in state.all_variables.values() if id(v) not in on_host
    ]
    self.device_state = DeviceState(replicas, self._variables)
    # What schedules read on the host.
    self._numbers = [
      v
      for v in (state.global_step, *state.optimizer.state().values())
      if v.shape.rank == 0
    ]
    self._restored = state.num_restored
    self._measured: dict[str, float] | None = None
    on_read = tf.VariableSynchronization.ON_READ
    # Means at every step, and not only in checkpoints, so that a run that was
    # stopped anywhere resumes with the same bits.
    self._step = TrainStep(
      state,
      source,
      norms=norms,
      skips=skips,
      averages=[v for v in self._variables if v.synchronization == on_read],
    )
    # TPUs have no float64.
    self._sums_dtype = tf.float32 if replicas.is_tpu else tf.float64
    self._pace = Pace(_FIRST_STEPS)
    self._feed: BatchFeed | None = None
    if isinstance(source, StreamSource):
      self._feed = BatchFeed(source, replicas)
    self.evaluation = make_evaluation(evaluation_programs(self.device_state))
    self._make_programs()

  def _make_programs(self) -> None:
    def program(function: Callable[..., Any]) -> DeviceProgram:
      return DeviceProgram(function, self.device_state)

    step = self._step
    if self._feed is None:
      self._train = program(
        step_loop(step.step, self.source.take, self._zero_sums)
      )
    else:
      self._train = program(self._one_step)
    if self._optimizer.update_is_iteration:
      self._update = program(step.update)
    else:
      self._update = program(lambda iteration: step.update(None, iteration))
    self._inspect = program(self._inspect_graph)

  def _zero_sums(self) -> dict[str, Tensor]:
    return self._step.zero_sums(self._sums_dtype)

  def _one_step(
    self, sums: dict[str, Tensor], batch: Batch, iteration: Tensor
  ) -> dict[str, Tensor]:
    return add_metrics(sums, self._step.step(batch, iteration))

  def advance(self, iteration: int, limit: int) -> Progress:
    """Makes gradient steps up to the next mask update, and the update.

    Args:
      iteration: number of iterations before.
      limit: the most gradient steps, at least 1.

    Raises:
      DataError: if the data is damaged.
    """
    self._notice_restored()
    self.is_ahead = True
    try:
      return self._advance(iteration, limit)
    finally:
      self.is_ahead = False

  def _advance(self, iteration: int, limit: int) -> Progress:
    limit = min(limit, self.source.steps_left(iteration) or limit)
    if self._feed is None and self._replicas.num_hosts == 1:
      limit = min(limit, self._pace.limit)
    stretch = next_stretch(self._optimizer, self.state.step, limit)
    metrics: Metrics = {}
    steps, changed = 0, 0.0
    if stretch.steps:
      began, before = time.monotonic(), self.state.step
      sums = self._make_steps(iteration, stretch.steps)
      metrics = {name: float(value) for name, value in sums.items()}
      self.device_state.store(self._numbers)
      steps = self.state.step - before
      self._pace.note(steps, time.monotonic() - began)
    if stretch.updates_masks and steps == stretch.steps:
      changed = self._update_at(stretch.update_iteration(iteration))
    self._measured = None
    return Progress(max(steps, 1), steps, metrics, changed)

  def _make_steps(self, iteration: int, count: int) -> dict[str, Any]:
    """Makes gradient steps; returns the sums of the metrics."""
    if self._feed is None:
      return self._train(
        *self._taken(iteration), np.int64(iteration), np.int64(count)
      )
    sums: dict[str, Any] = {n: v.numpy() for n, v in self._zero_sums().items()}
    for i in range(iteration, iteration + count):
      is_alone = self._replicas.num_hosts == 1
      if is_alone and i > iteration and self.is_stopped():
        break
      sums = self._train(sums, self._feed.take(), np.int64(i))
    return sums

  def _taken(self, iteration: int) -> tuple[Any, ...]:
    """What the program of an iteration takes: an order or a batch."""
    if self._feed is not None:
      return (self._feed.take(),)
    with self.source.examples(iteration) as order:
      return (order,)

  def _update_at(self, iteration: int) -> float:
    """Updates the masks; returns the share of connections that changed."""
    arguments: tuple[Any, ...] = (np.int64(iteration),)
    if self._optimizer.update_is_iteration:
      arguments = (*self._taken(iteration), *arguments)
    changed = self._update(*arguments)
    self.device_state.store(self._numbers)
    return note_update(changed, self._optimizer)

  def evaluate(self) -> Metrics:
    """Returns the means of the metrics over all test examples.

    Raises:
      StoppedError: if the run shall stop.
    """
    self._notice_restored()
    return self.evaluation(self._raise_if_stopped)

  def _raise_if_stopped(self) -> None:
    if self.is_stopped():
      raise StoppedError

  def state_metrics(self) -> Metrics:
    """Returns the metrics that need no data."""
    return state_metrics(self._measure(), self._optimizer)

  def non_finite(self) -> str | None:
    """The name of the first variable with a value that is not finite."""
    for name, value in self._measure().items():
      if name.startswith(_FINITE) and not value:
        return name.removeprefix(_FINITE)
    return None

  def synchronize(self) -> None:
    """Gives the variables of the train state their present values."""
    self._notice_restored()
    self.device_state.store()
    if self._feed is not None:
      self._feed.store_cursor()

  def _measure(self) -> dict[str, float]:
    """Measures the state, unless it was measured before."""
    self._notice_restored()
    if self._measured is None:
      found = self._inspect()
      self._measured = {name: float(value) for name, value in found.items()}
    return self._measured

  def _inspect_graph(self) -> dict[str, Tensor]:
    finite = {
      _FINITE + name: tf.reduce_all(tf.math.is_finite(variable.read_value()))
      for name, variable in self.state.all_variables.items()
      if variable.dtype.is_floating
    }
    return {**measure_state(self.state, self._norms), **finite}

  def _notice_restored(self) -> None:
    """Gives up what is on the devices if a checkpoint was restored."""
    if self._restored == self.state.num_restored:
      return
    self._restored, self._measured = self.state.num_restored, None
    self.device_state.forget()
    if self._feed is not None:
      self._feed.restart()

  def lowerable(self) -> dict[str, Lowerable]:
    """The programs by kind: `train`, `update`, `evaluate` and `inspect`."""
    number = int64(0)
    if isinstance(self.source, ArraySource):
      taken: tuple[Any, ...] = (self.source.order(0),)
      train = self._train.lowerable(*taken, number, number)
    else:
      taken = (self.source.zeros(),)
      train = self._train.lowerable(self._zero_sums(), *taken, number)
    if not self._optimizer.update_is_iteration:
      taken = ()
    return {
      "train": train,
      "update": self._update.lowerable(*taken, number),
      "evaluate": self.evaluation.lowerable(),
      "inspect": self._inspect.lowerable(),
    }

  def replica_values(self, variable: Variable) -> list[np.ndarray]:
    """The values of a variable on the devices of this process."""
    return self.device_state.values(variable)

  def unequal_variables(self) -> list[str]:
    """Names of the variables that differ between the devices of this process.

    Bits are compared, those of weights, slots, masks and averages alike.
    """
    own = {id(variable) for variable in self._variables}
    return [
      name
      for name, variable in self.state.all_variables.items()
      if id(variable) in own
      and len({v.tobytes() for v in self.replica_values(variable)}) > 1
    ]

  def compiled_step(self) -> str:
    """The compiled training program as XLA's own text; see `DeviceProgram`."""
    return self._train.compiled_text()
