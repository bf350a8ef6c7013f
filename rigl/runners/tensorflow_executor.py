# SPDX-License-Identifier: Apache-2.0
"""TensorFlow executor: trains on the devices of a `tf.distribute` strategy.

It has three modes. FUSED: the examples are in memory, and one program makes
many steps; with XLA it is compiled as a whole. PER_STEP: the examples are a
stream; XLA compiles the single step, and TensorFlow's own loop around it takes
the batches out of the pipeline. HOST: on a CPU without XLA the host takes the
batches and calls one gradient program, which steps and mask updates share.
This halves the time from start to the first step, and the calls cost nothing
where a step takes a second.
"""

from __future__ import annotations

import contextlib
import enum
import os
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from rigl.data.source import Source
from rigl.distribution.replicas import Replicas
from rigl.runners.evaluations import Evaluation
from rigl.runners.pace import Pace
from rigl.runners.program import Lowerable, Program, int64
from rigl.runners.train_step import (
  TrainStep,
  add_metrics,
  measure_state,
  note_update,
  state_metrics,
  step_loop,
)
from rigl.training.executor import (
  Progress,
  StateInVariables,
  StoppedError,
  never,
  next_stretch,
)
from rigl.training.train_state import TrainState
from rigl.types import Metrics, Tensor


class Mode(enum.Enum):
  """How the steps up to the next event are executed."""

  FUSED = enum.auto()
  PER_STEP = enum.auto()
  HOST = enum.auto()


# The most steps of the first calls, whose speed is not known.
_FIRST_STEPS = 10


class TensorFlowExecutor(StateInVariables):
  """Executes training in TensorFlow; create it in the strategy's scope.

  Attributes:
    state: the train state.
    source: the training batches.
    evaluation: evaluates the task.
    is_stopped: whether the run shall stop; an evaluation asks it.
    is_ahead: whether `advance` has made steps that the state does not count.
    skips: the argument.

  Args:
    state: the train state.
    source: the training batches. A stream has to be asked for iterations in
      their order, because each takes the next batch.
    evaluation: evaluates the task.
    replicas: the devices.
    jit_compile: whether XLA compiles the programs. Under a strategy it only
      compiles the gradients, because reductions are TensorFlow's.
    norms: whether the norms of gradient and weights are measured.
    mode: how steps are executed. None: FUSED for a source in memory, HOST for
      a stream on one device without XLA, else PER_STEP.
    skips: whether a step or a mask update whose numbers are not finite changes
      nothing. The mode HOST does not do that.
  """

  def __init__(
    self,
    state: TrainState,
    source: Source,
    evaluation: Evaluation,
    replicas: Replicas,
    *,
    jit_compile: bool = True,
    norms: bool = False,
    mode: Mode | None = None,
    skips: bool = False,
  ) -> None:
    self.state, self._optimizer = state, state.optimizer
    self.source, self.evaluation = source, evaluation
    self.is_stopped: Callable[[], bool] = never
    self.is_ahead = False
    self._replicas, self._norms = replicas, norms
    distributed = replicas.is_distributed
    if mode is None:
      on_host = not (jit_compile or distributed or skips)
      mode = Mode.HOST if on_host else Mode.PER_STEP
      mode = Mode.FUSED if source.in_memory else mode
    # Every replica updates these by itself.
    on_read = tf.VariableSynchronization.ON_READ
    self._replica_variables = [
      v for v in state.variables.values() if v.synchronization == on_read
    ]
    state.optimizer.create_slots(state.task.trainable_variables)
    self._step = TrainStep(
      state,
      source,
      jit_gradients=jit_compile and distributed and not replicas.is_tpu,
      norms=norms,
      skips=skips,
    )
    self.skips = skips
    self._jit_whole = jit_compile and not distributed
    self._mode, self._sums_dtype = mode, tf.float64
    if replicas.is_tpu:
      self._sums_dtype = tf.float32
    self._pace = Pace(_FIRST_STEPS)
    programs = self._make_programs(mode, self._sums_dtype)
    self._train: Callable[..., dict[str, Tensor]] = programs["train"]
    self._update: Callable[..., dict[str, Any]] = programs["update"]
    self._measure_state: Callable[[], dict[str, Tensor]] = programs["inspect"]
    if mode is Mode.HOST:
      self._use_host()

  def _make_programs(self, mode: Mode, dtype: tf.DType) -> dict[str, Program]:
    """Makes the programs by kind; they are traced at their first call.

    Args:
      mode: how steps are executed.
      dtype: that of the sums of the metrics.
    """
    fused = self._jit_whole and mode is Mode.FUSED
    by_step = self._jit_whole and mode is Mode.PER_STEP
    step = self._on_replicas(self._step.step, by_step)
    update = self._on_replicas(self._step.update, by_step)

    train_steps = step_loop(
      step, self.source.take, lambda: self._step.zero_sums(dtype)
    )

    def update_with_batch(examples: Any, iteration: Tensor) -> Any:
      return update(self.source.take(examples), iteration)

    def update_alone(iteration: Tensor) -> Any:
      return self._on_replicas(self._step.update)(None, iteration)

    with_batch = self._optimizer.update_is_iteration
    return {
      "train": Program(train_steps, fused),
      "update": Program(update_with_batch, fused)
      if with_batch
      else Program(update_alone, self._jit_whole),
      "inspect": Program(self._measure_state_graph, self._jit_whole),
    }

  def _use_host(self) -> None:
    """Replaces programs by calls from the host."""
    self._gradients = tf.function(self._step.gradients, autograph=False)
    self._apply = Program(self._step.apply, False)
    self._train = self._train_on_host
    # Operation by operation, without a graph.
    self._measure_state = self._measure_state_graph
    # XLA would compile for half a minute before the first step.
    self._optimizer.use_mask_engine("numpy", os.cpu_count())
    self._update = self._update_on_host

  def _on_replicas(
    self, function: Callable[..., Any], jit_compile: bool = False
  ) -> Callable[..., Any]:
    """Turns a function of one replica into one of all; called in a graph."""
    if jit_compile:
      function = tf.function(function, jit_compile=True, autograph=False)
    if not self._replicas.is_distributed:
      return function
    return lambda *arguments: self._replicas.run(function, arguments)

  def advance(self, iteration: int, limit: int) -> Progress:
    """Makes gradient steps up to the next mask update, and the update.

    Args:
      iteration: number of iterations before.
      limit: the most gradient steps, at least 1.

    Raises:
      DataError: if the data is damaged.
    """
    try:
      return self._advance(iteration, limit)
    finally:
      self.is_ahead = False

  def _advance(self, iteration: int, limit: int) -> Progress:
    limit = min(limit, self.source.steps_left(iteration) or limit)
    # Hosts measure different speeds, and the mode HOST stops at any step.
    if self._replicas.num_hosts == 1 and self._mode is not Mode.HOST:
      limit = min(limit, self._pace.limit)
    stretch = next_stretch(self._optimizer, self.state.step, limit)
    metrics: Metrics = {}
    steps, changed = stretch.steps, 0.0
    if steps:
      began, before = time.monotonic(), self.state.step
      with self.source.examples(iteration) as examples:
        sums = self._train(examples, int64(iteration), int64(steps))
      self.is_ahead = True
      metrics = {name: float(value) for name, value in sums.items()}
      self._pace.note(steps, time.monotonic() - began)
      steps = self.state.step - before
    if stretch.updates_masks and steps == stretch.steps:
      changed = self._update_at(stretch.update_iteration(iteration))
    return Progress(max(steps, 1), steps, metrics, changed)

  def _update_at(self, iteration: int) -> float:
    """Updates the masks; returns the share of connections that changed."""
    arguments: tuple[Any, ...] = (int64(iteration),)
    source: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if self._optimizer.update_is_iteration:
      source = self.source.examples(iteration)
    with source as examples:
      if examples is not None:
        arguments = (examples, *arguments)
      return note_update(self._update(*arguments), self._optimizer)

  def evaluate(self) -> Metrics:
    """Returns the means of the metrics over all test examples.

    Raises:
      StoppedError: if the run shall stop.
    """
    self._synchronize()
    return self.evaluation(self._raise_if_stopped)

  def _raise_if_stopped(self) -> None:
    if self.is_stopped():
      raise StoppedError

  def state_metrics(self) -> Metrics:
    """Returns the metrics that need no data."""
    self._synchronize()
    measured = {n: float(v) for n, v in self._measure_state().items()}
    return state_metrics(measured, self._optimizer)

  def _measure_state_graph(self) -> dict[str, Tensor]:
    return measure_state(self.state, self._norms)

  def _synchronize(self) -> None:
    """Sets variables that each replica updates by itself to their mean."""
    if self._replicas.count > 1:
      for variable in self._replica_variables:
        variable.assign(variable.read_value())

  def _train_on_host(
    self, examples: Any, first: Tensor, count: Tensor
  ) -> dict[str, Tensor]:
    sums = self._step.zero_sums(self._sums_dtype)
    for i in range(int(first), int(first + count)):
      if i > int(first) and self.is_stopped():
        break
      metrics = self._apply(*self._next_gradients(examples, int64(i)))
      sums = add_metrics(sums, metrics)
      self.is_ahead = True
    return sums

  def _update_on_host(self, *arguments: Any) -> dict[str, int]:
    *examples, iteration = arguments
    gradients = None
    if examples:
      found = self._next_gradients(examples[0], iteration)
      _, gradients = self._step.reduce(*found)
    step = self.state.global_step
    self._optimizer.update_masks(gradients, step, reduced=True)
    return self._optimizer.changed_in_last_update() or {}

  def _next_gradients(
    self, examples: Any, iteration: Tensor
  ) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Means of the metrics and gradients over the batch that comes next."""
    taken = self.source.take(examples)
    return self._gradients(self.source.batch_of(taken, iteration), iteration)

  def lowerable(self) -> dict[str, Lowerable]:
    """The programs that XLA compiles for a device.

    Returns:
      {kind: (program, example arguments)}. The kinds are `train`, `update` and
      `evaluate`. Programs of a source in memory hold the whole loop, and there
      is `inspect` for the state; those of a stream take one batch.
    """
    number = {"iteration": int64(0)}
    programs = self._make_programs(self._mode, tf.float32)
    if self.source.in_memory:
      with self.source.examples(0) as order:
        taken = {"order": order}
      return {
        "train": (programs["train"], {**taken, **number, "count": int64(0)}),
        "update": (programs["update"], self._update_arguments(taken)),
        "evaluate": self.evaluation.lowerable(),
        "inspect": (programs["inspect"], {}),
      }
    taken = {"batch": self.source.zeros()}
    update = programs["update"]
    if self._optimizer.update_is_iteration:
      update = Program(self._step.update, True)
    return {
      "train": (Program(self._step.step, True), {**taken, **number}),
      "update": (update, self._update_arguments(taken)),
      "evaluate": self.evaluation.lowerable(),
    }

  def _update_arguments(self, taken: dict[str, Any]) -> dict[str, Any]:
    """The example arguments of a mask update."""
    takes_batch = self._optimizer.update_is_iteration
    return {**(taken if takes_batch else {}), "iteration": int64(0)}
