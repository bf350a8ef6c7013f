"""MNIST through a TPUEstimator, `--runner=tpu_estimator`."""

from __future__ import annotations

from collections.abc import Mapping

from rigl.mnist.mnist_learner import make_learner, make_model
from rigl.mnist.mnist_model import MnistTask
from rigl.mnist.mnist_settings import MnistSettings
from rigl.runners.tpu_estimator.executor import EstimatorRun
from rigl.runners.tpu_estimator.specs import (
  EstimatorSettings,
  Evaluated,
  Trained,
)
from rigl.training.train_state import Learner, Wrap
from rigl.training.trainer import Run
from rigl.types import Variable

_EVAL_BATCH_SIZE = 1000


def by_estimator(run: Run, flags: MnistSettings) -> EstimatorRun:
  """Makes what trains a run on MNIST through a TPUEstimator.

  It evaluates where it writes a checkpoint, every `--checkpoint_epochs`.

  Args:
    run: the run, not prepared.
    flags: the settings.

  Raises:
    ValueError: if a setting is one that it cannot follow.
  """
  if flags.mask_record_frequency:
    raise ValueError(
      "`mask_record_frequency` must be 0 with `runner`=tpu_estimator, which "
      f"records no masks, got {flags.mask_record_frequency}."
    )
  if not flags.save_model:
    raise ValueError(
      "`save_model` must be true with `runner`=tpu_estimator, whose "
      "evaluations read checkpoints, got false."
    )
  source, test = run.train_source, run.test_source
  size = min(_EVAL_BATCH_SIZE, test.num_examples)
  num_inputs = source.arrays["images"].shape[1]

  def learner(global_step: Variable, wrap: Wrap) -> Learner:
    return make_learner(
      flags,
      make_model(flags, num_inputs),
      source.batches_per_epoch,
      global_step,
      restored=True,
      wrap=wrap,
    )

  def task() -> tuple[MnistTask, Mapping[str, Variable]]:
    model = make_model(flags, num_inputs)
    names = {v.name.split(":")[0]: v for v in model.variables}
    return MnistTask(model), names

  return EstimatorRun(
    run,
    Trained(learner, lambda: run.loop.iteration, source.dataset),
    Evaluated(task, lambda: test.whole_dataset(size), test.num_examples),
    EstimatorSettings(flags.batch_size, size),
    by_steps=False,
    evaluate_every=run.save_every,
    report_every=source.batches_per_epoch,
    keep=2,
  )
