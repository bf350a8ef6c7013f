"""Gives a network the weights of a checkpoint, if it is one of this network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rigl.predict.tasks import Network
from rigl.training import checkpoints, warm_start

# How many differing variables of each side a message names.
_NAMED = 2


def load_weights(network: Network, prefix: str) -> None:
  """Gives the network the weights of a checkpoint, times their masks.

  Args:
    network: its variables are assigned.
    prefix: of a published name-based checkpoint or of our own.

  Raises:
    ValueError: if there is no such checkpoint, or it is not of this network.
  """
  try:
    tensors = checkpoints.load(prefix)
  except ValueError as error:
    raise ValueError(f"`checkpoint`: {error}") from error
  problems = _differences(network, tensors)
  if problems:
    raise ValueError(
      f"`checkpoint` {prefix!r} does not fit the flags of the model: "
      f"{'; '.join(problems)}."
    )
  effective = warm_start.effective_weights(tensors)
  checkpoints.restore(effective, network.variables)


def _differences(
  network: Network, tensors: Mapping[str, np.ndarray]
) -> list[str]:
  """The first variables that differ, with the shapes on both sides."""
  wanted = {name: tuple(v.shape) for name, v in network.variables.items()}
  for layer, kernel in network.kernels.items():
    wanted[f"{layer}/mask"] = tuple(kernel.shape)
  shapes, lacking = [], []
  for name, shape in wanted.items():
    if name not in tensors:
      lacking.append(f"{name} of shape {shape} is not in the checkpoint")
    elif tensors[name].shape != shape:
      shapes.append(
        f"{name} has the shape {tensors[name].shape} in the checkpoint and "
        f"{shape} in the model"
      )
  others = [
    f"{name} of shape {tensor.shape} is not in the model"
    for name, tensor in sorted(tensors.items())
    if name not in wanted and warm_start.is_parameter(name)
  ]
  return [*shapes[:_NAMED], *lacking[:_NAMED], *others[:_NAMED]]
