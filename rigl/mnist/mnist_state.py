# SPDX-License-Identifier: Apache-2.0
"""Model and train state of the MNIST script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from rigl.config.method_optimizer import planned_sparsities
from rigl.mnist import layer_forms
from rigl.mnist.mnist_layers import Layer, make_blocks, make_sparse
from rigl.mnist.mnist_model import MnistFc, MnistTask
from rigl.mnist.mnist_settings import BLOCK, CSR, NONE, MnistSettings
from rigl.schedules import (
  MNIST_BASELINE_DROPS,
  ConstantRate,
  LearningRate,
  mnist_learning_rate,
)
from rigl.sparse.checkpoints import fitted
from rigl.sparse_optimizers import registry
from rigl.training.build_state import make_train_state
from rigl.training.train_state import OptimizerWrapper, TrainState, identity
from rigl.types import Variable

# (shapes, sparsities), both by layer name -> the form of every sparse layer.
ChooseForms: TypeAlias = Callable[
  [Mapping[str, tuple[int, int]], Mapping[str, float]], layer_forms.Forms
]


def make_model(
  flags: MnistSettings, num_inputs: int, choose: ChooseForms | None = None
) -> MnistFc:
  """Makes the network with its initial weights.

  Args:
    flags: the settings.
    num_inputs: number of pixels.
    choose: chooses the form of every layer, if `sparse_compute` leaves a
      choice. None: all are masked.
  """
  masked = flags.training_method != registry.BASELINE
  if choose is None or flags.sparse_compute == NONE:
    return MnistFc(num_inputs, flags.seed, masked)
  chosen = choose

  def sparse_layers(shapes: Mapping[str, tuple[int, int]]) -> dict[str, Layer]:
    sparsities = planned_sparsities(flags, shapes) if masked else {}
    forms = chosen(shapes, sparsities)
    starts_sparse = flags.training_method in registry.SPARSE_START
    made: dict[str, Layer] = {}
    for name, form in forms.items():
      arguments = (
        shapes[name],
        name,
        sparsities[name] if starts_sparse else 0.0,
        flags.seed,
      )
      if form == CSR:
        is_first = name == next(iter(shapes))
        threads = layer_forms.threads(flags)
        made[name] = make_sparse(*arguments, threads, is_first)
      elif form == BLOCK:
        made[name] = make_blocks(*arguments, flags.block_size)
    return made

  return MnistFc(num_inputs, flags.seed, masked, sparse_layers=sparse_layers)


def make_state(
  flags: MnistSettings,
  model: MnistFc,
  steps_per_epoch: int,
  global_step: Variable,
  init_masks: bool = True,
  optimizer_wrapper: OptimizerWrapper = identity,
) -> TrainState:
  """Makes the train state of a network.

  Args:
    flags: the settings.
    model: the network.
    steps_per_epoch: training steps per epoch.
    global_step: int64 variable that gradient steps advance.
    init_masks: whether to make initial masks. False where they will come from
      a checkpoint.
    optimizer_wrapper: wraps the optimizer that makes the steps.

  Raises:
    ValueError: if a setting is outside its range.
  """
  state = make_train_state(
    flags,
    MnistTask(model),
    model.kernels,
    model.named_variables,
    make_learning_rate(flags, steps_per_epoch),
    global_step,
    inner=flags.optimizer,
    momentum=flags.momentum,
    use_nesterov=flags.use_nesterov,
    init_masks=init_masks,
    optimizer_wrapper=optimizer_wrapper,
  )
  # A checkpoint may have layers in another form than this network.
  state.convert_checkpoint = lambda t: fitted(t, state.all_variables)
  return state


def make_learning_rate(
  flags: MnistSettings, steps_per_epoch: int
) -> LearningRate:
  """Makes the learning rate of the flags; that of Adam is constant.

  Args:
    flags: the settings.
    steps_per_epoch: training steps per epoch.
  """
  names = {
    "rate": "learning_rate",
    "base": "learning_rate",
    "drop_epochs": "lr_drop_epoch",
  }
  if flags.optimizer == "adam":
    return flags.configure(ConstantRate, names, rate=flags.learning_rate)
  drops = (flags.lr_drop_epoch, flags.lr_drop_epoch + 20)
  is_dense = flags.training_method == registry.BASELINE
  return flags.configure(
    mnist_learning_rate,
    names,
    base=flags.learning_rate,
    drop_epochs=MNIST_BASELINE_DROPS if is_dense else drops,
    steps_per_epoch=steps_per_epoch,
  )
