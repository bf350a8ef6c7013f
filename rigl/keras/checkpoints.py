# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the scripts, read into and written from Keras models.

Weights, masks, slots and counters are converted; hyperparameters are not: give
the model the optimizer that the script has, or the other way round.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from rigl import files
from rigl.keras import slot_conversion
from rigl.keras.base import SparseOptimizer
from rigl.keras.checkpoint_names import find_names, make_names, mask_name
from rigl.keras.compact_layers import check_ordinary
from rigl.keras.fixed_mask import FixedMask
from rigl.keras.granet import GraNet
from rigl.keras.pruning import GradualPruning
from rigl.keras.rigl import RigL
from rigl.keras.set import SET
from rigl.keras.static import Static
from rigl.keras.wrapped import (
  find_sparse_optimizer,
  number_of,
  sparse_optimizer_of,
)
from rigl.keras.wrapper import parts_of
from rigl.training import checkpoint_masks, checkpoints, warm_start

_STEP, _ITERATION = "global_step", "iteration"
# TensorFlow 1 wrote a threshold of each mask, which the scripts do not read.
_NOT_NEEDED = "/threshold"
# Kernels of the MNIST script, which numbers checkpoints by iterations.
_MNIST = ("layer1/weights", "layer1/kernel")
# What variables of a method start with, as functions of the mask, where a
# checkpoint lacks them.
_STARTS: dict[str, Callable[[np.ndarray], Any]] = {
  "explored": np.asarray,
  "grow_gradient": np.zeros_like,
  "target_connections": np.count_nonzero,
}
_ORDINARY = "`model` must be an ordinary one, not one whose"
_METHODS = (RigL, GraNet, SET, Static, FixedMask, GradualPruning)


def load_checkpoint(
  model: keras.Model,
  path: str | os.PathLike,
  name_map: Mapping[str, str] | None = None,
) -> None:
  """Loads a checkpoint of a script, or a published one, into a Keras model.

  The model gets the weights times their masks. If it was compiled with a sparse
  optimizer, that one gets the masks, `iterations`, the step of the last mask
  update, and the slots of SGD with momentum or Adam, so that training
  continues. Slots that the checkpoint lacks start anew, averages as the
  weights.

  Args:
    model: a built Keras model of the same network, such as one of
      `rigl.keras.networks`.
    path: prefix of a checkpoint, such as `DIR/model.ckpt-1200`, or a directory,
      whose newest checkpoint is read.
    name_map: {name or path of a layer in Keras: its scope in the checkpoint}.
      Layers that are not in it have the same name in both, in any scope.

  Raises:
    ValueError: if there is no checkpoint, it does not fit the model, or masks
      and sparse variables differ. Nothing has changed then.
  """
  check_ordinary(model, _ORDINARY)
  tensors = _read(path)
  names = find_names(model.weights, tensors, name_map)
  wanted = {names[v.path]: v for v in model.weights}
  parameters = filter(warm_start.is_parameter, tensors)
  what = f"The checkpoint `{os.fspath(path)}`"
  checkpoints.check_fits(what, tensors, wanted, sorted(parameters))
  optimizer = find_sparse_optimizer(model)
  if optimizer is not None:
    _check_method(optimizer)
    if optimizer.structure is not None:
      raise ValueError(
        "`model` must have an optimizer without a `structure`, because masks "
        f"of a checkpoint may have another, got {optimizer.structure}."
      )
    paths = optimizer.sparse_paths(model.trainable_variables)
    _check_masks(paths, tensors, names)
  checkpoint_masks.disagree(what, tensors, _masked(tensors, wanted))
  if optimizer is not None:
    optimizer.build(model.trainable_variables)
  weights = warm_start.effective_weights(tensors)
  for variable in model.weights:
    variable.assign(weights[names[variable.path]])
  if optimizer is not None:
    _load_state(optimizer, tensors, names)


def save_checkpoint(
  model: keras.Model,
  directory: str | os.PathLike,
  name_map: Mapping[str, str] | None = None,
) -> str:
  """Writes a checkpoint that the scripts read and continue.

  If the directory holds a checkpoint already, as that of a run of a script
  does, the new one has the same names; the same command of the script then
  continues from it. If not, names are `LAYER/weights`, `LAYER/biases` and
  `LAYER/mask`.

  Args:
    model: a model compiled with a sparse optimizer, which has trained.
    directory: directory of the checkpoints.
    name_map: as for `load_checkpoint`.

  Returns:
    The prefix of the checkpoint, `DIRECTORY/model.ckpt-NUMBER`. The number is
    that of gradient steps; for the network of the MNIST script, which counts
    so, that of iterations.

  Raises:
    ValueError: if the optimizer has state that the scripts do not have in this
      form, a checkpoint there has tensors that the model does not give, or is
      further than the model. Nothing is written then.
  """
  check_ordinary(model, _ORDINARY)
  optimizer = sparse_optimizer_of(model)
  if not optimizer.built:
    raise ValueError("`model` must have trained: its optimizer has no masks.")
  _check_method(optimizer)
  there = checkpoints.load_latest(directory)
  if there is None:
    names = make_names(model.weights, name_map)
  else:
    names = find_names(model.weights, there, name_map)
  tensors = _tensors(model, optimizer, names, there or {})
  is_mnist = any(name in tensors for name in _MNIST)
  number = int(tensors[_ITERATION if is_mnist else _STEP])
  if there is not None:
    _check_successor(files.path(directory), number, tensors, there)
  files.path(directory).mkdir(parents=True, exist_ok=True)
  return checkpoints.save(directory, number, tensors, keep=0)


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  if checkpoints.exists(os.fspath(path)) or not files.path(path).is_dir():
    return checkpoints.load(os.fspath(path))
  tensors = checkpoints.load_latest(path)
  if tensors is None:
    raise ValueError(f"`path` must hold a checkpoint, got {os.fspath(path)!r}.")
  return tensors


def _masked(
  tensors: Mapping[str, np.ndarray], names: Iterable[str]
) -> dict[str, str]:
  """The kernels among variables of a checkpoint, by the names of the masks."""
  found = {}
  for name in names:
    mask = tensors.get(mask_name(name))
    if mask is not None and mask.shape == tensors[name].shape:
      found[mask_name(name)] = name
  return found


def _check_method(optimizer: SparseOptimizer) -> None:
  """Raises ValueError if the method has variables that are not converted."""
  if not isinstance(optimizer, _METHODS):
    names = ", ".join(method.__name__ for method in _METHODS)
    raise ValueError(
      f"`model` must be compiled with one of {names}, whose state is masks and "
      f"counters, got {type(optimizer).__name__}."
    )


def _check_masks(
  sparse: set[str],
  tensors: Mapping[str, np.ndarray],
  names: Mapping[str, str],
) -> None:
  """Raises ValueError unless the masks are those of the sparse variables."""
  for path, name in names.items():
    mask = tensors.get(mask_name(name))
    has_mask = mask is not None and mask.shape == tensors[name].shape
    if path in sparse and not has_mask:
      raise ValueError(
        f"`path` must hold masks of all sparse variables, got none of {path}: "
        "load the checkpoint before `compile`, or leave the variable out by "
        "`filters`."
      )
    if has_mask and path not in sparse and not np.all(mask):
      raise ValueError(
        f"`path` must hold masks of sparse variables only, got one of {path}, "
        "which the optimizer trains densely: choose it by `filters`."
      )


def _load_state(
  optimizer: SparseOptimizer,
  tensors: Mapping[str, np.ndarray],
  names: Mapping[str, str],
) -> None:
  """Assigns masks, counters and slots; those that are not there start anew."""
  inner = optimizer.inner_optimizer
  for path, mask in optimizer.masks.items():
    mask.assign(tensors[mask_name(names[path])] != 0)
  optimizer.start_slots_anew()
  step = int(tensors.get(_STEP, 0))
  for each in [inner, *parts_of(inner)]:
    each._iterations.assign(step * (each.gradient_accumulation_steps or 1))
  counts: dict[str, Any] = {_ITERATION: step, **tensors}
  for name, counter in optimizer.counters.items():
    if name in counts:
      counter.assign(int(counts[name]))
  for suffix, variables in _of_kernels(optimizer).items():
    for path, variable in variables.items():
      mask = tensors[mask_name(names[path])] != 0
      start = _STARTS[suffix](mask)
      variable.assign(tensors.get(f"{names[path]}/{suffix}", start))
  values = slot_conversion.read_tensors(inner, tensors, names)
  for slot in inner.variables:
    if id(slot) in values:
      slot.assign(values[id(slot)])


def _of_kernels(
  optimizer: SparseOptimizer,
) -> dict[str, dict[str, keras.Variable]]:
  """{last part of the name in checkpoints: {path: variable of the method}}."""
  return {
    "explored": getattr(optimizer, "explored", {}),
    "grow_gradient": getattr(optimizer, "grow_gradients", {}),
    "target_connections": getattr(optimizer, "target_connections", {}),
  }


def _tensors(
  model: keras.Model,
  optimizer: SparseOptimizer,
  names: Mapping[str, str],
  there: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """The tensors of the new checkpoint by name."""
  inner, masks = optimizer.inner_optimizer, optimizer.masks
  tensors = {names[v.path]: v.numpy() for v in model.weights}
  for path, name in names.items():
    mask, shape = mask_name(name), tensors[name].shape
    if path in masks:
      tensors[mask] = masks[path].numpy().astype(np.float32)
    elif mask in there and there[mask].shape == shape:
      tensors[mask] = np.ones(shape, np.float32)  # Trained densely.
  tensors |= slot_conversion.to_tensors(inner, names)
  tensors[_STEP] = np.int64(number_of(optimizer.iterations))
  for name, counter in optimizer.counters.items():
    tensors[name] = np.int64(number_of(counter))
  for suffix, variables in _of_kernels(optimizer).items():
    for path, variable in variables.items():
      tensors[f"{names[path]}/{suffix}"] = variable.numpy()
  return tensors


def _check_successor(
  directory: files.AnyPath,
  number: int,
  tensors: Mapping[str, np.ndarray],
  there: Mapping[str, np.ndarray],
) -> None:
  """Raises ValueError unless a checkpoint can follow the one that is there."""
  missing = [
    name
    for name in sorted(set(there) - set(tensors))
    if not name.endswith(_NOT_NEEDED)
  ]
  if missing:
    raise ValueError(
      f"`directory` holds a checkpoint with {', '.join(missing[:3])}, which "
      "the model and its optimizer do not have."
    )
  newest = checkpoints.list_numbers(directory)[-1]
  if number <= newest:
    raise ValueError(
      f"`directory` must hold no checkpoint at or after {number}, that of the "
      f"model, got {checkpoints.name_of(newest)}: train the model further, or "
      "choose another directory."
    )
