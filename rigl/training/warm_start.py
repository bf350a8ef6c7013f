# SPDX-License-Identifier: Apache-2.0
"""Warm start: the masks or the parameters of another run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import numpy as np

from rigl import files
from rigl.tensor_names import is_mask, mask_of, weights_of
from rigl.training import checkpoint_masks, checkpoints
from rigl.types import Variable

# Last parts of the names of parameters.
_PARAMETERS = (
  "weights",
  "depthwise_weights",
  "biases",
  "kernel",
  "bias",
  "gamma",
  "beta",
  "moving_mean",
  "moving_variance",
)
# How many variables a message names.
_NAMED = 3


def load_masks(place: str, layers: Iterable[str]) -> dict[str, np.ndarray]:
  """Reads the masks of another run.

  Args:
    place: its directory, or the prefix of a checkpoint.
    layers: names of the layers that need a mask.

  Returns:
    Bool masks by layer name.

  Raises:
    ValueError: if there is no checkpoint, or it lacks masks.
  """
  tensors = _load(place)
  missing = [name for name in layers if mask_of(name) not in tensors]
  if missing:
    raise ValueError(
      f"`{place}` has no masks of {', '.join(missing[:_NAMED])}."
    )
  return {name: tensors[mask_of(name)] != 0 for name in layers}


def load_parameters(place: str, variables: Mapping[str, Variable]) -> None:
  """Assigns the parameters of another run, as they are in its checkpoint.

  Inactive weights have the values that the checkpoint has: what the masks of
  this run make of them is not decided here. Parameters that it lacks keep their
  values, which a warning says in one line.

  Args:
    place: its directory, or the prefix of a checkpoint.
    variables: the variables of the model by name. Those that are no parameters,
      such as a step, keep their values.

  Raises:
    ValueError: if there is no checkpoint, it holds no parameter of the model,
      or one of another shape.
  """
  tensors = _load(place)
  names = [name for name in variables if is_parameter(name)]
  missing = [name for name in names if name not in tensors]
  if len(missing) == len(names):
    raise ValueError(
      f"`{place}` holds no parameter of the model, such as {names[0]}."
    )
  checkpoints.restore(tensors, {n: variables[n] for n in names if n in tensors})
  if missing:
    logging.warning(
      "`%s` lacks %d of %d parameters, which keep their initial values: %s.",
      place,
      len(missing),
      len(names),
      ", ".join(missing[:_NAMED]) + (", ..." if missing[_NAMED:] else ""),
    )


def model_weights(
  what: str,
  tensors: Mapping[str, np.ndarray],
  variables: Mapping[str, Variable],
  kernels: Mapping[str, Variable],
) -> dict[str, np.ndarray]:
  """Returns the weights of a network from a whole checkpoint.

  Args:
    what: name of the checkpoint in errors.
    tensors: the checkpoint, arrays by name.
    variables: the variables of the network by name.
    kernels: the kernels that must have a mask, by the names of their layers.

  Returns:
    Arrays for `variables`, weights times masks.

  Raises:
    ValueError: naming the first variables that only one of the two has or
      that differ in shape, with both shapes; or a mask of other values than 0
      and 1.
  """
  masks = {mask_of(layer): kernel for layer, kernel in kernels.items()}
  parameters = sorted(filter(is_parameter, tensors))
  checkpoints.check_fits(what, tensors, {**variables, **masks}, parameters)
  names = {id(variable): name for name, variable in variables.items()}
  checkpoint_masks.disagree(
    what,
    tensors,
    {mask: names.get(id(kernel), "") for mask, kernel in masks.items()},
  )
  effective = effective_weights(tensors)
  return {name: effective[name] for name in variables}


def is_parameter(name: str) -> bool:
  """Whether a variable of a checkpoint is a parameter of its model.

  >>> is_parameter('conv/weights'), is_parameter('conv/weights/Momentum')
  (True, False)
  """
  return name.rsplit("/", 1)[-1] in _PARAMETERS


def effective_weights(
  tensors: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """Multiplies the weights of a checkpoint by their masks.

  It is needed because inactive weights are not zero in published checkpoints.

  Args:
    tensors: arrays by name.

  Returns:
    The same, with every `LAYER/weights` that has a `LAYER/mask` multiplied.
  """
  found = dict(tensors)
  for name, mask in tensors.items():
    weights = weights_of(name)
    if is_mask(name) and weights in found:
      found[weights] = np.where(mask != 0, found[weights], 0)
  return found


def _load(place: str) -> dict[str, np.ndarray]:
  if checkpoints.exists(place) or not files.path(place).is_dir():
    return checkpoints.load(place)
  tensors = checkpoints.load_latest(place)
  if tensors is None:
    raise ValueError(f"`{place}` holds no checkpoint.")
  return tensors
