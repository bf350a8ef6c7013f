"""A training run on ImageNet."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rigl.config import settings
from rigl.imagenet_resnet.export_model import Exporter
from rigl.imagenet_resnet.imagenet_learner import make_learner
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.input.imagenet_data import ImagenetData
from rigl.imagenet_resnet.make_model import make_model
from rigl.imagenet_resnet.published import published_checkpoints
from rigl.training import checkpoints, warm_start
from rigl.training.base_programs import BasePrograms
from rigl.training.host_programs import HostPrograms
from rigl.training.loop import Report
from rigl.training.run_directory import RunDirectory
from rigl.training.stream_programs import StreamEvaluation, StreamPrograms
from rigl.training.trainer import Run, new_global_step
from rigl.types import Variable


class ImagenetRun(Run):
  """Everything a run on ImageNet is made of.

  A published checkpoint that lies in its directory is gone on from.

  Args:
    flags: the settings.

  Raises:
    ValueError: if a setting or the data is not as it should be.
    OSError: if data cannot be read or the directory not be written.
  """

  def __init__(self, flags: ImagenetSettings) -> None:
    self.flags, self.data = flags, ImagenetData(flags)
    jit_compile = use_jit(flags)
    flags.method_arguments()  # Checks it before anything is made.
    identity = settings.run_identity(flags) | {"data": self.data.name}
    directory = RunDirectory(flags.directory, identity, adopts=True)
    self.model = make_model(flags)
    kernels, masks = self.model.kernels, None
    if not checkpoints.list_numbers(directory.path):
      if flags.initial_value_checkpoint:
        warm_start.load_parameters(
          flags.initial_value_checkpoint, self.model.named_variables
        )
      if flags.load_mask_dir:
        masks = warm_start.load_masks(flags.load_mask_dir, kernels)
    learner = make_learner(flags, self.model, new_global_step(), masks)
    train = self.data.train_source()
    evaluates = flags.mode == "train_and_eval"
    super().__init__(
      task=learner.task,
      variables=(*learner.variables.values(), train.position),
      optimizer=learner.optimizer,
      sources=(train, self.data.evaluation_batches),
      global_step=learner.global_step,
      learning_rate=learner.learning_rate,
      directory=directory,
      total=flags.total_steps,
      report_every=flags.iterations_per_loop,
      evaluate_every=flags.steps_per_eval if evaluates else 0,
      save_every=flags.steps_per_checkpoint,
      keep=flags.keep_checkpoint_max,
      by_steps=True,
      jit_compile=jit_compile,
    )

  _unit = "step"
  _exporter: Exporter | None = None

  def _make_programs(self, jit_compile: bool) -> BasePrograms:
    evaluation = StreamEvaluation(
      self.task,
      self.test_source,
      jit_compile,
      kept_variables(self.flags, self.model),
      self.data.explain_evaluation,
    )
    arguments = (
      self.task,
      self.optimizer,
      self.train_source,
      evaluation,
      self.global_step,
      self.flags.iterations_per_loop,
    )
    if not jit_compile and not self.replicas.is_distributed:
      return HostPrograms(*arguments)
    return StreamPrograms(*arguments, jit_compile, self._averages)

  def _adapt(self, tensors: dict[str, Any]) -> dict[str, Any]:
    return published_checkpoints.adapted(
      tensors, self.optimizer, self.train_source.batches_per_epoch
    )

  def _add_events(self) -> None:
    super()._add_events()
    self.loop.add_event(self.flags.export_model_freq, self.export, at_end=True)

  def export(self, step: int) -> None:
    """Writes the network as it is as a SavedModel."""
    place = self.directory.path / "export"
    if self._exporter is None:
      self._exporter = Exporter(self.model, place, self.flags.image_size)
    self._exporter.export(step)

  def _report(self, found: Report) -> None:
    super()._report(found)
    if self.flags.log_mask_imgs_each_iteration:
      images = {
        layer.name: _picture(layer.mask.numpy())
        for layer in self.optimizer.layers
      }
      self.metrics.write_images(found.iteration, images)

  def _line(
    self, found: Report, train: dict[str, float], test: dict[str, float]
  ) -> str:
    speed = found.timing["steps_per_second"]
    line = (
      f"step {found.step}: train loss {train['loss']:.4f}, train accuracy "
      f"{train['accuracy']:.4f}, {speed:.2f} steps/s, "
      f"{speed * self.flags.train_batch_size:.1f} images/s"
    )
    if "sparsity" in train:
      line += f", sparsity {train['sparsity']:.4f}"
    if test:
      line += (
        f"\nstep {found.step}: test loss {test['loss']:.4f}, test accuracy "
        f"{test['accuracy']:.4f}, top-5 {test['top_5_accuracy']:.4f}"
      )
    return line

  def result(self) -> dict[str, Any]:
    """See the base class; without an evaluation in mode `train`."""
    found = {
      "iteration": self.loop.iteration,
      "step": int(self.global_step.numpy()),
      "sparsity": self._sparsity(),
    }
    if self.flags.mode == "train_and_eval":
      last = self.loop.last
      test = last.test if last else self.programs.evaluate()
      found["test_accuracy"] = test["accuracy"]
      found["test_top_5_accuracy"] = test["top_5_accuracy"]
    return found


def use_jit(flags: ImagenetSettings) -> bool:
  """Whether XLA compiles the steps.

  `auto`: on a CPU the library's convolutions are faster than XLA's, but only
  the latter take channels first.

  Raises:
    ValueError: if the convolutions would be those of neither.
  """
  if tf.config.list_physical_devices("GPU"):
    return flags.jit_compile != "false"
  first = flags.data_format == "channels_first"
  if first and flags.jit_compile == "false":
    raise ValueError(
      "`data_format` channels_first needs a GPU or XLA; got `jit_compile` "
      "false."
    )
  return flags.jit_compile == "true" or first


def kept_variables(flags: ImagenetSettings, model: Any) -> list[Variable]:
  """What evaluations by the statistics of batches would move."""
  if not flags.use_batch_statistics:
    return []
  trained = {id(variable) for variable in model.trainable_variables}
  return [
    variable
    for variable in model.named_variables.values()
    if id(variable) not in trained
  ]


def _picture(mask: np.ndarray) -> np.ndarray:
  """A mask as an image, uint8 [1, inputs, outputs, 1]."""
  flat = mask.reshape(-1, mask.shape[-1])
  return (255 * flat).astype(np.uint8)[None, :, :, None]
