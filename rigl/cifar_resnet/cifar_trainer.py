# SPDX-License-Identifier: Apache-2.0
"""Trainer of the CIFAR-10 script."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

from rigl import files
from rigl.cifar_resnet import cifar_data, cifar_estimator
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.cifar_state import make_state
from rigl.cifar_resnet.cifar_task import with_precision_and_recall
from rigl.config import method_optimizer, settings
from rigl.data.array_source import ArraySource, fingerprint
from rigl.runners.evaluations import ArrayEvaluation
from rigl.runners.executors import make_executor
from rigl.runners.program import resolve_jit
from rigl.sparse_optimizers import registry
from rigl.training import checkpoints, warm_start
from rigl.training.executor import Executor
from rigl.training.loop import STEPS, Intervals
from rigl.training.reporting import Reporter, StepLines
from rigl.training.run_directory import RunDirectory
from rigl.training.run_identity import default_directory
from rigl.training.train_state import new_global_step
from rigl.training.trainer import Trainer

_RUNS = pathlib.Path("rigl_runs") / "cifar10"


def build_trainer(flags: CifarSettings) -> Trainer:
  """Builds everything that a run on CIFAR-10 needs.

  Args:
    flags: the settings.

  Raises:
    ValueError: if a setting or the data is not as it should be.
    OSError: if data cannot be read or the directory not be written.
  """
  by_estimator = flags.uses_estimator
  with flags.scope("batch_size") as replicas:
    method_optimizer.check_method(flags)
    data = _load_data(flags)
    identity = settings.run_identity(flags) | {"data": fingerprint(data)}
    path = _directory(flags, identity)
    writes = replicas.is_chief and flags.mode != "eval"
    directory = RunDirectory(path, identity, writes, length=flags.steps_flag)
    model, masks = flags.create_model(), None
    is_new = not checkpoints.list_numbers(path)
    if flags.initial_value_checkpoint and is_new:
      warm_start.load_parameters(
        flags.initial_value_checkpoint, model.named_variables
      )
    if flags.load_mask_dir and is_new:
      masks = warm_start.load_masks(flags.load_mask_dir, model.kernels)
    state = make_state(flags, model, new_global_step(), masks)
    source, test_source = _sources(flags, data)
    evaluate_every = 0 if flags.mode == "train" else flags.checkpoint_steps
    intervals = Intervals(
      flags.total_steps,
      flags.summaries_steps,
      evaluate_every,
      flags.checkpoint_steps,
      STEPS,
    )
    executor: Executor
    if by_estimator:
      executor = estimator = cifar_estimator.make_executor(
        flags, state, source, test_source, path, intervals
      )
      intervals = estimator.loop_intervals(evaluate_every)
    else:
      jit_compile = resolve_jit(flags.jit_compile)
      executor = make_executor(
        state,
        source,
        lambda make: ArrayEvaluation(
          state.task,
          test_source,
          replicas,
          jit_compile=jit_compile,
          make_program=make,
        ),
        replicas,
        jit_compile=jit_compile,
        skips=flags.skips_nonfinite,
      )
    return Trainer(
      state,
      executor,
      directory,
      replicas,
      intervals,
      Reporter(
        state.learning_rate,
        lambda iteration: iteration / source.batches_per_epoch,
        StepLines(["accuracy"]),
        functools.partial(
          with_precision_and_recall,
          class_names=cifar_data.VERSIONS[flags.dataset].class_names,
        ),
      ),
      keep=flags.keep_checkpoint_max,
    )


def _directory(flags: CifarSettings, identity: dict[str, Any]) -> files.AnyPath:
  """The published place of a run below `--train_dir`, or our own."""
  method = flags.training_method
  if flags.train_dir:
    numbers: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    arguments = flags.method_arguments()
    if "frequency" in arguments:  # It updates masks by a schedule.
      window = (arguments[n] for n in ("begin_step", "end_step", "frequency"))
      numbers = (flags.end_sparsity, *window)
    names = [method, *(str(number) for number in numbers)]
    return files.path(flags.train_dir, "train_dir").joinpath(*names)
  sparsity = f"_{flags.end_sparsity:g}" if method != registry.BASELINE else ""
  name = (
    f"wrn_{flags.resnet_depth}_{flags.resnet_width}_{method}"
    f"{sparsity}_seed{flags.seed}"
  )
  return default_directory(_RUNS, name, identity, flags.steps_flag)


def _load_data(flags: CifarSettings) -> cifar_data.CifarData:
  if flags.use_synthetic_data:
    data = cifar_data.synthetic_cifar(seed=flags.seed, dataset=flags.dataset)
  else:
    data = cifar_data.load_cifar(flags.data_directory, flags.dataset)
  size = flags.dataset_size
  return data._replace(
    train_images=data.train_images[:size], train_labels=data.train_labels[:size]
  )


def _sources(
  flags: CifarSettings, data: cifar_data.CifarData
) -> tuple[ArraySource, ArraySource]:
  train = {"images": data.train_images, "labels": data.train_labels}
  test = {"images": data.test_images, "labels": data.test_labels}
  return (
    ArraySource(train, flags.batch_size, flags.seed),
    ArraySource(test, 1, flags.seed),
  )
