"""Gives a network the weights of a checkpoint, if it is one of this network."""

from __future__ import annotations

from rigl.predict.tasks import Network
from rigl.training import checkpoints, warm_start


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
  weights = warm_start.model_weights(
    f"`checkpoint` {prefix!r}", tensors, network.variables, network.kernels
  )
  checkpoints.restore(weights, network.variables)
