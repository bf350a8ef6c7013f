"""CIFAR-10 through a TPUEstimator, `--runner=tpu_estimator`."""

from __future__ import annotations

from collections.abc import Mapping

from rigl.cifar_resnet.cifar_learner import make_learner, make_task
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.cifar_task import CifarTask
from rigl.runners.tpu_estimator.executor import (
  EstimatorRun,
  evaluate_by_estimator,
)
from rigl.runners.tpu_estimator.specs import (
  EstimatorSettings,
  Evaluated,
  Trained,
)
from rigl.training.train_state import Learner, Wrap
from rigl.training.trainer import Run
from rigl.types import Variable

_EVAL_BATCH_SIZE = 1000


def by_estimator(run: Run, flags: CifarSettings) -> EstimatorRun:
  """Makes what trains a run on CIFAR-10 through a TPUEstimator.

  Args:
    run: the run, not prepared.
    flags: the settings.
  """

  def learner(global_step: Variable, wrap: Wrap) -> Learner:
    model = flags.create_model()
    return make_learner(flags, model, global_step, restored=True, wrap=wrap)

  source = run.train_source
  return EstimatorRun(
    run,
    Trained(learner, lambda: run.loop.iteration, source.dataset),
    *_evaluated(run, flags),
    by_steps=True,
    evaluate_every=0 if flags.mode == "train" else flags.checkpoint_steps,
    report_every=flags.summaries_steps,
    keep=flags.keep_checkpoint_max,
  )


def evaluate(run: Run, flags: CifarSettings) -> None:
  """Makes a run on CIFAR-10 evaluate through a TPUEstimator.

  Args:
    run: the run, not prepared.
    flags: the settings.
  """
  evaluate_by_estimator(run, *_evaluated(run, flags))


def _evaluated(
  run: Run, flags: CifarSettings
) -> tuple[Evaluated, EstimatorSettings]:
  source = run.test_source
  size = min(_EVAL_BATCH_SIZE, source.num_examples)

  def task() -> tuple[CifarTask, Mapping[str, Variable]]:
    model = flags.create_model()
    names = {v.name.split(":")[0]: v for v in model.variables}
    return make_task(flags, model), names

  return (
    Evaluated(task, lambda: source.whole_dataset(size), source.num_examples),
    EstimatorSettings(flags.batch_size, size),
  )
