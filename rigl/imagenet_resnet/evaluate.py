# SPDX-License-Identifier: Apache-2.0
"""Evaluation of checkpoints of ImageNet networks, published ones and ours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rigl import files, sparse_utils
from rigl.distribution.replicas import Replicas
from rigl.imagenet_resnet import evaluation_files, imagenet_estimator
from rigl.imagenet_resnet.evaluation_files import CheckpointResult
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_state import make_task
from rigl.imagenet_resnet.imagenet_trainer import make_evaluation
from rigl.imagenet_resnet.input.imagenet_data import ImagenetData
from rigl.imagenet_resnet.make_model import make_model
from rigl.runners.executors import evaluates_variables
from rigl.runners.program import resolve_jit
from rigl.sparse_optimizers.registry import BASELINE
from rigl.tensor_names import GLOBAL_STEP, mask_of
from rigl.training import checkpoints, warm_start
from rigl.training.evaluation import CheckpointMetrics, evaluate_as_written
from rigl.types import Variable


class Evaluator:
  """A network whose weights come from checkpoints.

  The data is opened when a checkpoint fits the network, or by `open_data`.

  Args:
    flags: the settings.
    replicas: the devices. None: those of the strategy whose scope this is.

  Raises:
    ValueError: if a setting is not as it should be.
  """

  def __init__(
    self, flags: ImagenetSettings, replicas: Replicas | None = None
  ) -> None:
    self.flags, self._replicas = flags, replicas or Replicas()
    self._jit_compile = resolve_jit(
      flags.jit_compile, flags.data_format == "channels_first"
    )
    flags.check_runner()
    self.model = make_model(flags, evaluates=True)
    self._evaluate: Callable[[], dict[str, float]] | None = None

  def open_data(self) -> Callable[[], dict[str, float]]:
    """Opens the data; returns the function that evaluates the network.

    Raises:
      ValueError: if the data is not as it should be.
      OSError: if it cannot be read.
    """
    if self._evaluate is not None:
      return self._evaluate
    flags, data = self.flags, ImagenetData(self.flags)
    data.evaluation_batches()  # Raises early if there are none.
    if flags.uses_estimator:
      self._evaluate = imagenet_estimator.make_evaluation(
        flags, data, self.model.named_variables
      )
    else:
      task = make_task(flags, self.model)
      self._evaluate = evaluates_variables(
        self._replicas,
        self.model.named_variables.values(),
        lambda make: make_evaluation(
          flags, task, self.model, data, self._replicas, self._jit_compile, make
        ),
      )
    return self._evaluate

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
    masks = {name: tensors[mask_of(name)] != 0 for name in kernels}
    metrics = self.open_data()()
    penalty = self._regularization_loss()
    metrics["cross_entropy"] = metrics["loss"]
    metrics["regularization_loss"] = penalty
    metrics["loss"] += penalty
    return CheckpointResult(
      int(tensors.get(GLOBAL_STEP, 0)),
      metrics,
      {name: 1.0 - float(np.mean(mask)) for name, mask in masks.items()},
      sparse_utils.calculate_sparsity(list(masks.values())) if masks else 0.0,
    )

  def _masked(self, tensors: dict[str, np.ndarray]) -> dict[str, Variable]:
    """The kernels that have a mask; those of a dense network may have none."""
    kernels = self.model.kernels
    dense = self.flags.training_method == BASELINE
    if dense and not any(mask_of(name) in tensors for name in kernels):
      return {}
    return kernels

  def _regularization_loss(self) -> float:
    squares = [
      float(np.sum(np.square(variable.numpy(), dtype=np.float64)))
      for variable in self.model.decayed_variables
    ]
    return self.flags.weight_decay * sum(squares) / 2


def evaluate_once(
  flags: ImagenetSettings, replicas: Replicas | None = None
) -> CheckpointResult:
  """Evaluates one checkpoint, prints the result and writes it to files.

  Args:
    flags: the settings.
    replicas: the devices. None: those of the strategy whose scope this is.

  Raises:
    ValueError: if there is no checkpoint, or it does not fit.
    OSError: if data cannot be read.
  """
  prefix = _prefix(flags)
  result = Evaluator(flags, replicas).evaluate(prefix)
  _print(prefix, result)
  place = evaluation_files.write(flags, prefix, result)
  if place is not None:
    print(f"Result: {place}", flush=True)
  return result


def _print(prefix: str, result: CheckpointResult) -> None:
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


def evaluate_all(
  flags: ImagenetSettings, replicas: Replicas | None = None
) -> None:
  """Evaluates the checkpoints of a run as they are written, to the last.

  Args:
    flags: the settings.
    replicas: the devices. None: those of the strategy whose scope this is.

  Raises:
    ValueError: if a checkpoint does not fit.
    OSError: if data cannot be read.
  """
  directory = files.path(flags.directory, "output_dir")
  evaluator = Evaluator(flags, replicas)
  evaluator.open_data()  # Before it waits for checkpoints.

  def evaluate(prefix: str) -> CheckpointMetrics:
    result = evaluator.evaluate_present(prefix)
    metrics = {**result.metrics, "sparsity": result.sparsity}
    return CheckpointMetrics(result.step, result.step, metrics)

  evaluate_as_written(directory, flags.total_steps, evaluate, ["accuracy"])


def _prefix(flags: ImagenetSettings) -> str:
  directory = files.path(flags.directory, "output_dir")
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
