# SPDX-License-Identifier: Apache-2.0
"""Trainer of the ImageNet script.

Training resumes from a published checkpoint found in the run directory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rigl import files
from rigl.config import method_optimizer, settings
from rigl.data.stream_source import StreamSource
from rigl.distribution.replicas import Replicas
from rigl.imagenet_resnet import imagenet_estimator
from rigl.imagenet_resnet.export_model import Exporter
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_state import make_state
from rigl.imagenet_resnet.input.imagenet_data import ImagenetData
from rigl.imagenet_resnet.make_model import make_model
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.imagenet_resnet.published import published_checkpoints
from rigl.runners.evaluations import StreamEvaluation
from rigl.runners.executors import make_executor
from rigl.runners.program import Program, ProgramMaker, resolve_jit
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training import checkpoints, warm_start
from rigl.training.executor import Executor
from rigl.training.loop import STEPS, Event, Intervals
from rigl.training.reporting import Reporter, StepLines
from rigl.training.run_directory import RunDirectory
from rigl.training.task import Task
from rigl.training.train_state import TrainState, new_global_step
from rigl.training.trainer import Trainer
from rigl.types import Variable


def build_trainer(flags: ImagenetSettings) -> Trainer:
  """Builds everything that a run on ImageNet needs.

  Args:
    flags: the settings.

  Raises:
    ValueError: if a setting or the data is not as it should be.
    OSError: if data cannot be read or the directory not be written.
  """
  if flags.uses_estimator:
    imagenet_estimator.make_settings(flags)  # Checks them.
  with flags.scope("train_batch_size") as replicas:
    if replicas.is_tpu and "num_cores" in flags.explicit:
      replicas.check_count(flags.num_cores, "num_cores")
    return _build(flags, replicas)


def _build(flags: ImagenetSettings, replicas: Replicas) -> Trainer:
  """Builds it in the scope of the strategy."""
  path = files.path(flags.directory, "output_dir")
  data, by_estimator = ImagenetData(flags), flags.uses_estimator
  jit_compile = resolve_jit(
    flags.jit_compile, flags.data_format == "channels_first"
  )
  method_optimizer.check_method(flags)
  evaluates = flags.mode == "train_and_eval"
  if evaluates:
    data.check_evaluation()
  identity = settings.run_identity(flags) | {"data": data.name}
  directory = RunDirectory(
    path,
    identity,
    replicas.is_chief,
    adopts=True,
    length=flags.steps_flag,
  )
  model = make_model(flags)
  state, source = _make_state(flags, model, data, replicas)
  evaluate_every = flags.steps_per_eval if evaluates else 0
  intervals = Intervals(
    flags.total_steps,
    flags.iterations_per_loop,
    evaluate_every,
    flags.steps_per_checkpoint,
    STEPS,
  )
  executor: Executor
  if by_estimator:
    executor = estimator = imagenet_estimator.make_executor(
      flags, state, source, data, directory.path, intervals
    )
    intervals = estimator.loop_intervals(evaluate_every)
  else:
    executor = make_executor(
      state,
      source,
      lambda make: make_evaluation(
        flags, state.task, model, data, replicas, jit_compile, make
      ),
      replicas,
      jit_compile=jit_compile,
      norms=True,
      skips=flags.skips_nonfinite,
    )
  export_every = flags.export_model_freq
  if by_estimator and export_every:
    export_every = intervals.total  # Others would each end a graph.
  exporter = Exporter(model, directory.path / "export", flags.image_size)
  return Trainer(
    state,
    executor,
    directory,
    replicas,
    intervals,
    Reporter(
      state.learning_rate,
      lambda iteration: iteration / source.batches_per_epoch,
      StepLines(
        ["accuracy"], flags.train_batch_size, {"top-5": "top_5_accuracy"}
      ),
      images=mask_images(state.optimizer)
      if flags.log_mask_imgs_each_iteration
      else None,
    ),
    events=[
      Event(
        export_every,
        exporter.export,
        at_end=True,
        name="export_model_freq",
        may_break_off=True,
      )
    ],
    keep=flags.keep_checkpoint_max,
    result_metrics=None if evaluates else (),
  )


def _make_state(
  flags: ImagenetSettings,
  model: ImageModel,
  data: ImagenetData,
  replicas: Replicas,
) -> tuple[TrainState, StreamSource]:
  """Makes the train state of a model, and the training batches."""
  masks = None
  if not checkpoints.list_numbers(flags.directory):
    if flags.initial_value_checkpoint:
      warm_start.load_parameters(
        flags.initial_value_checkpoint, model.named_variables
      )
    if flags.load_mask_dir:
      masks = warm_start.load_masks(flags.load_mask_dir, model.kernels)
  state = make_state(flags, model, new_global_step(), masks)
  source = data.train_source(replicas)

  def convert(tensors: dict[str, Any]) -> dict[str, Any]:
    return published_checkpoints.adapted(
      tensors, state.optimizer, source.batches_per_epoch
    )

  state.variables = {**state.variables, **source.variables}
  state.convert_checkpoint = convert
  return state, source


def make_evaluation(
  flags: ImagenetSettings,
  task: Task,
  model: ImageModel,
  data: ImagenetData,
  replicas: Replicas,
  jit_compile: bool,
  make_program: ProgramMaker = Program,
) -> StreamEvaluation:
  """Makes the evaluation of a model on the images that the flags select.

  Args:
    flags: the settings.
    task: the task of the model.
    model: the model.
    data: the images.
    replicas: the devices that evaluate.
    jit_compile: whether XLA compiles the program.
    make_program: makes the program.
  """
  preserve: list[Variable] = []
  if flags.use_batch_statistics:  # Evaluations would move the averages.
    trained = {id(variable) for variable in model.trainable_variables}
    variables = model.named_variables.values()
    preserve = [v for v in variables if id(v) not in trained]
  return StreamEvaluation(
    task,
    data.evaluation_batches,
    replicas,
    jit_compile,
    preserve,
    data.diagnose_evaluation,
    make_program,
  )


def mask_images(
  optimizer: SparseOptimizer,
) -> Callable[[], dict[str, np.ndarray]]:
  """Returns a function that shows the masks as images.

  Args:
    optimizer: the sparse optimizer, with the masks.

  Returns:
    A function that returns uint8 [1, inputs, outputs, 1] by layer name.
  """

  def picture(mask: np.ndarray) -> np.ndarray:
    flat = mask.reshape(-1, mask.shape[-1])
    return (255 * flat).astype(np.uint8)[None, :, :, None]

  return lambda: {la.name: picture(la.mask.numpy()) for la in optimizer.layers}
