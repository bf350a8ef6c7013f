# SPDX-License-Identifier: Apache-2.0
"""Loading of checkpoints into a network."""

from __future__ import annotations

import numpy as np

from rigl.predict.fitting_flags import fitting_flags
from rigl.predict.tasks import Network
from rigl.sparse.checkpoints import compact_names, fitted
from rigl.training import checkpoints, warm_start


def compact_layers(prefix: str) -> dict[str, int]:
  """The layers of which a checkpoint holds only the active connections.

  Args:
    prefix: prefix of a checkpoint; there may be none.

  Returns:
    {layer name: length of its variables}.
  """
  try:
    shapes = checkpoints.shapes(prefix)
  except ValueError:
    return {}  # `load_weights` says why.
  return {n: shapes[f"{n}/positions"][0] for n in compact_names(shapes)}


def load_weights(
  network: Network, task: str, prefix: str
) -> dict[str, np.ndarray]:
  """Assigns the weights of a checkpoint, multiplied by their masks.

  Args:
    network: the network whose variables are assigned.
    task: name of its task, for errors.
    prefix: prefix of a published checkpoint or one of ours, or a compact file.

  Returns:
    All tensors of the checkpoint, in the form that the network has.

  Raises:
    ValueError: if there is no such checkpoint, or it does not fit the network;
      the flags with which it would fit are named.
  """
  try:
    tensors = fitted(checkpoints.load(prefix), network.variables)
  except ValueError as error:
    raise ValueError(f"`checkpoint`: {error}") from error
  try:
    weights = warm_start.model_weights(
      f"`checkpoint` {prefix!r}", tensors, network.variables, network.kernels
    )
  except ValueError as error:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wanted = fitting_flags(task, shapes, network.flags)
    if not wanted:
      raise
    raise ValueError(f"{error} It needs {' '.join(wanted)}.") from error
  checkpoints.restore(weights, network.variables)
  return tensors
