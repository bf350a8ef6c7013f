# SPDX-License-Identifier: Apache-2.0
"""Loading of checkpoints into a network."""

from __future__ import annotations

from rigl.predict.tasks import Network
from rigl.training import checkpoints, warm_start


def load_weights(network: Network, prefix: str) -> None:
  """Assigns the weights of a checkpoint, multiplied by their masks.

  Args:
    network: the network whose variables are assigned.
    prefix: prefix of a published checkpoint or one of ours.

  Raises:
    ValueError: if there is no such checkpoint, or it does not fit the network.
  """
  try:
    tensors = checkpoints.load(prefix)
  except ValueError as error:
    raise ValueError(f"`checkpoint`: {error}") from error
  weights = warm_start.model_weights(
    f"`checkpoint` {prefix!r}", tensors, network.variables, network.kernels
  )
  checkpoints.restore(weights, network.variables)
