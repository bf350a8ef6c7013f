# SPDX-License-Identifier: Apache-2.0
"""Evaluation of checkpoints of ImageNet networks, published ones and ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rigl import files, sparse_utils
from rigl.distribution.replicas import Replicas
from rigl.imagenet_resnet import imagenet_estimator
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_state import make_task
from rigl.imagenet_resnet.imagenet_trainer import make_evaluation
from rigl.imagenet_resnet.input.imagenet_data import ImagenetData
from rigl.imagenet_resnet.make_model import make_model
from rigl.runners.program import resolve_jit
from rigl.training import checkpoints, warm_start
from rigl.training.evaluation import CheckpointMetrics, evaluate_as_written
from rigl.types import Variable

_MASK = "/mask"


class CheckpointResult(NamedTuple):
  """Evaluation of a checkpoint.

  Attributes:
    step: its gradient steps.
    metrics: means over the images.
    sparsities: share of zeros by layer; empty without masks.
    sparsity: share of zeros of all masks.
  """

  step: int
  metrics: dict[str, float]
  sparsities: dict[str, float]
  sparsity: float


class Evaluator:
  """A network whose weights come from checkpoints.

  Args:
    flags: the settings.

  Raises:
    ValueError: if a setting or the data is not as it should be.
    OSError: if data cannot be read.
  """

  def __init__(self, flags: ImagenetSettings) -> None:
    self.flags = flags
    jit_compile = resolve_jit(
      flags.jit_compile, flags.data_format == "channels_first"
    )
    flags.check_runner()
    data = ImagenetData(flags)
    data.evaluation_batches()  # Raises early if there are none.
    self.model = make_model(flags, evaluates=True)
    self._evaluate: Callable[[], dict[str, float]]
    if flags.uses_estimator:
      self._evaluate = imagenet_estimator.make_evaluation(
        flags, data, self.model.named_variables
      )
    else:
      task = make_task(flags, self.model)
      self._evaluate = make_evaluation(
        flags, task, self.model, data, Replicas(), jit_compile
      )

  def evaluate(self, prefix: str) -> CheckpointResult:
    """Evaluates a checkpoint.

    Args:
      prefix: such as `DIR/model.ckpt-32000`.

    Raises:
      ValueError: if it does not exist, is damaged or does not fit.
    """
    return self._evaluate_tensors(checkpoints.load(prefix), prefix)

  def evaluate_present(self, prefix: str) -> CheckpointResult:
    """Evaluates a checkpoint that another process may remove meanwhile.

    Raises:
      FileNotFoundError: if it does not exist.
      ValueError: if it is damaged or does not fit.
    """
    return self._evaluate_tensors(checkpoints.load_present(prefix), prefix)

  def _evaluate_tensors(
    self, tensors: dict[str, np.ndarray], prefix: str
  ) -> CheckpointResult:
    variables, kernels = self.model.named_variables, self._masked(tensors)
    weights = warm_start.model_weights(
      f"`{prefix}`", tensors, variables, kernels
    )
    checkpoints.restore(weights, variables)
    masks = {name: tensors[name + _MASK] != 0 for name in kernels}
    metrics = self._evaluate()
    penalty = self._regularization_loss()
    metrics["cross_entropy"] = metrics["loss"]
    metrics["regularization_loss"] = penalty
    metrics["loss"] += penalty
    return CheckpointResult(
      int(tensors.get("global_step", 0)),
      metrics,
      {name: 1.0 - float(np.mean(mask)) for name, mask in masks.items()},
      sparse_utils.calculate_sparsity(list(masks.values())) if masks else 0.0,
    )

  def _masked(self, tensors: dict[str, np.ndarray]) -> dict[str, Variable]:
    """The kernels that have a mask; those of a dense network may have none."""
    kernels = self.model.kernels
    dense = self.flags.training_method == "baseline"
    if dense and not any(name + _MASK in tensors for name in kernels):
      return {}
    return kernels

  def _regularization_loss(self) -> float:
    squares = [
      float(np.sum(np.square(variable.numpy(), dtype=np.float64)))
      for variable in self.model.decayed_variables
    ]
    return self.flags.weight_decay * sum(squares) / 2


def evaluate_once(flags: ImagenetSettings) -> CheckpointResult:
  """Evaluates one checkpoint and prints the result.

  Raises:
    ValueError: if there is no checkpoint, or it does not fit.
    OSError: if data cannot be read.
  """
  prefix = _prefix(flags)
  result = Evaluator(flags).evaluate(prefix)
  for name, sparsity in result.sparsities.items():
    print(f"{name}: sparsity {sparsity:.4f}")
  print(f"Total sparsity: {result.sparsity:.4f}")
  metrics = result.metrics
  print(
    f"{prefix}, step {result.step}: loss {metrics['loss']:.4f} (cross-entropy "
    f"{metrics['cross_entropy']:.4f}, regularization "
    f"{metrics['regularization_loss']:.4f})"
  )
  print(
    f"Accuracy: {metrics['accuracy']:.4f}, top-5 accuracy: "
    f"{metrics['top_5_accuracy']:.4f}",
    flush=True,
  )
  return result


def evaluate_all(flags: ImagenetSettings) -> None:
  """Evaluates the checkpoints of a run as they are written, to the last.

  Raises:
    ValueError: if a checkpoint does not fit.
    OSError: if data cannot be read.
  """
  evaluator = Evaluator(flags)

  def evaluate(prefix: str) -> CheckpointMetrics:
    result = evaluator.evaluate_present(prefix)
    metrics = {**result.metrics, "sparsity": result.sparsity}
    return CheckpointMetrics(result.step, result.step, metrics)

  evaluate_as_written(
    flags.directory, flags.total_steps, evaluate, ["accuracy"]
  )


def _prefix(flags: ImagenetSettings) -> str:
  directory = files.path(flags.directory)
  if flags.eval_once_ckpt_prefix:
    return str(directory / flags.eval_once_ckpt_prefix)
  numbers = checkpoints.list_numbers(directory)
  if not numbers:
    raise ValueError(
      f"`{directory}` holds no checkpoint model.ckpt-STEP; "
      "`eval_once_ckpt_prefix` gives another name, `use_folder_stub`=false "
      "the directory itself."
    )
  return str(directory / checkpoints.name_of(numbers[-1]))
