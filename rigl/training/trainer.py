"""A run: everything that is trained, and what is written of it.

What a run is made of is said by the task's script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from rigl import sparse_utils
from rigl.distribution import replicas
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.base_programs import BasePrograms, Task
from rigl.training.loop import Loop, Report
from rigl.training.metrics import MetricsWriter, NoMetrics
from rigl.training.preemption import Notice, PreemptedError
from rigl.training.programs import Programs
from rigl.training.progress import Progress
from rigl.training.run_directory import RunDirectory
from rigl.types import Variable


class Run:
  """Trains a task to its end; the base of the tasks' own runs.

  A task says `_line`, what is printed of a report, and may extend the others.

  Args:
    task: what is trained.
    variables: all variables of the model, of which a checkpoint consists
      together with those of the optimizer.
    optimizer: the sparse optimizer, with its masks.
    sources: training and test examples, as `_make_programs` takes them.
    global_step: int64 variable that gradient steps advance.
    learning_rate: has `at(step)`, the learning rate.
    directory: where everything is written.
    total: where the run ends; see `Loop` for what positions count.
    report_every: see `Loop`.
    evaluate_every: see `Loop`.
    save_every: how far checkpoints are apart; one more is written at the end.
    keep: how many checkpoints to keep; 0 keeps all.
    by_steps: see `Loop`.
    jit_compile: whether XLA compiles the programs.
  """

  def __init__(
    self,
    task: Task,
    variables: tuple[Variable, ...],
    optimizer: SparseOptimizer,
    sources: tuple[Any, Any],
    global_step: Variable,
    learning_rate: Any,
    directory: RunDirectory,
    total: int,
    report_every: int,
    evaluate_every: int | None = None,
    save_every: int = 0,
    keep: int = 2,
    by_steps: bool = False,
    jit_compile: bool = True,
  ) -> None:
    self.task, self.optimizer = task, optimizer
    self.train_source, self.test_source = sources
    self.global_step, self.learning_rate = global_step, learning_rate
    self.directory, self.total = directory, total
    self.save_every, self._keep = save_every, keep
    self.variables = {v.name.split(":")[0]: v for v in variables}
    self.replicas, self.notice = replicas.Replicas(), Notice()
    self.programs = self._make_programs(jit_compile)
    self._rhythm = (report_every, evaluate_every, by_steps)
    self._report_also = save_every
    self.loop = self.make_loop(self.programs, self._report)

  def _make_programs(self, jit_compile: bool) -> BasePrograms:
    """Hook: makes the programs, of examples in memory."""
    return Programs(
      self.task,
      self.optimizer,
      self.train_source,
      self.test_source,
      self.global_step,
      jit_compile=jit_compile,
      averages=self._averages,
    )

  @property
  def _averages(self) -> list[Variable]:
    """The variables that every replica moves by itself."""
    on_read = tf.VariableSynchronization.ON_READ
    return [v for v in self.variables.values() if v.synchronization == on_read]

  def _adapt(self, tensors: dict[str, Any]) -> dict[str, Any]:
    """Hook: see `Loop`."""
    return tensors

  def make_loop(
    self, programs: Any, on_report: Callable[[Report], None]
  ) -> Loop:
    """The loop of this run over programs.

    Args:
      programs: `Programs`, or what stands in for them.
      on_report: gets what is reported.
    """
    report_every, evaluate_every, by_steps = self._rhythm
    loop = Loop(
      programs,
      self.optimizer,
      self.global_step,
      self.variables,
      report_every,
      on_report,
      evaluate_every,
      by_steps,
      self._adapt,
      self._is_stopped,
    )
    # A checkpoint does not hold what is added up for the next report.
    loop.report_also(self._report_also)
    return loop

  def use(self, programs: Any) -> None:
    """Makes the run call something that stands in for its programs."""
    self.programs = programs
    self.loop = self.make_loop(programs, self._report)

  @property
  def all_variables(self) -> dict[str, Variable]:
    """The variables by name: of the model, of the optimizer, and the step."""
    return {
      **self.variables,
      **self.optimizer.state(),
      "global_step": self.global_step,
    }

  def prepare(self) -> None:
    """Restores the newest checkpoint, if there is one, and opens the files.

    Raises:
      ValueError: if a file of the run is damaged.
      OSError: if a file cannot be read or written.
    """
    is_resumed = self.loop.restore(self.directory.path)
    places = self.replicas.all_gather_scalar(self.loop.iteration)
    if len(set(places)) > 1:
      raise ValueError(
        f"`{self.directory.path}` must be the same directory for all workers, "
        f"got checkpoints of the iterations {places}."
      )
    self.directory.start()
    self.metrics: MetricsWriter | NoMetrics = NoMetrics()
    if self.replicas.is_chief:
      self.metrics = MetricsWriter(self.directory.path, self.loop.iteration)
      if is_resumed:
        print(f"Resumed at {self._unit} {self.loop.position}.", flush=True)
    self._add_events()

  def _is_stopped(self) -> bool:
    """Whether somebody wants one of the hosts to stop."""
    return any(self.replicas.all_gather_scalar(int(self.notice.is_given)))

  def check_exportable(self) -> None:
    """Hook: checks that nothing needs the weights or masks on the way.

    An exported run brings back metrics and the state of the end.

    Raises:
      ValueError: naming the setting that does.
    """

  _unit = "iteration"

  def _add_events(self) -> None:
    """Hook: adds what happens besides reports."""
    self.loop.add_event(self.save_every, lambda _: self.save(), at_end=True)

  def train_to_end(self) -> dict[str, Any]:
    """Trains to the end; `prepare` it first.

    Returns:
      The result, which `result.json` then holds.

    Raises:
      PreemptedError: if it was stopped before, by `notice`; it is saved then.
    """
    self.train(self.total)
    if self.loop.position < self.total:
      self.save()
      self.metrics.close()
      self.directory.close()
      raise PreemptedError(
        f"Stopped at {self._unit} {self.loop.position} by "
        f"{self.notice.reason or 'another worker'}."
      )
    self.metrics.close()
    result = self.result()
    self.directory.finish(result)
    return result

  def train(self, total: int) -> None:
    """Trains up to a position."""
    self.progress = Progress(total, self.loop.position, self.replicas.is_chief)
    self.loop.run(total, self.progress)
    self.progress.close()

  def _report(self, found: Report) -> None:
    """Writes and prints what the loop found."""
    train = dict(found.train)
    train["loss"] += train["regularization_loss"]
    test = self._test_metrics(found.test, train) if found.test else {}
    train["learning_rate"] = float(self.learning_rate.at(found.step))
    position = {
      "iteration": found.iteration,
      "step": found.step,
      "epoch": self._epoch(found.iteration),
    }
    self.metrics.write(
      found.iteration,
      position,
      {**train, **found.timing},
      test,
    )
    self.progress.say(self._line(found, train, test))

  def test_metrics(self) -> dict[str, float]:
    """Evaluates the network as it is, the regularization in the loss."""
    return self._test_metrics(self.programs.evaluate(), self.programs.inspect())

  def _test_metrics(
    self, found: Mapping[str, float], state: Mapping[str, float]
  ) -> dict[str, float]:
    """Makes what is reported of what an evaluation found."""
    test = dict(found)
    test["loss"] += state["regularization_loss"]
    return test

  def _epoch(self, iteration: int) -> float:
    return iteration / self.train_source.batches_per_epoch

  def _line(
    self, found: Report, train: dict[str, float], test: dict[str, float]
  ) -> str:
    raise NotImplementedError

  def save(self) -> None:
    """Writes a checkpoint."""
    self.loop.save(self.directory.path, self._keep)

  def result(self) -> dict[str, Any]:
    """What `result.json` holds of a finished run."""
    # Nothing was evaluated if the run was killed right after its last save.
    test = self.loop.last.test if self.loop.last else self.programs.evaluate()
    return {
      "iteration": self.loop.iteration,
      "step": int(self.global_step.numpy()),
      "test_accuracy": test["accuracy"],
      "sparsity": self._sparsity(),
    }

  def _sparsity(self) -> float:
    masks = [layer.mask.numpy() for layer in self.optimizer.layers]
    return sparse_utils.calculate_sparsity(masks) if masks else 0.0


def new_global_step() -> Variable:
  """The variable that gradient steps advance."""
  return tf.Variable(0, dtype=tf.int64, name="global_step")
