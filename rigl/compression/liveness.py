# SPDX-License-Identifier: Apache-2.0
"""Which channels of a network are dead.

A network is a graph of operations on channels. Two questions decide: does a
channel vary from example to example, and does an output need it?
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from rigl.compression.operations import Flatten, Operation


@dataclasses.dataclass
class Node:
  """An operation and the nodes that it reads.

  Attributes:
    operation: what it computes.
    inputs: where its inputs come from.
    name: name of its layer.
  """

  operation: Operation
  inputs: list[Node]
  name: str = ""


class Liveness:
  """The channels of each node that stay.

  Args:
    nodes: in the order of computation.
    outputs: those whose channels are all needed.
    keeps_one: whether at least one channel of each tensor stays.
  """

  def __init__(
    self, nodes: Sequence[Node], outputs: Sequence[Node], keeps_one: bool = True
  ) -> None:
    self._places = {id(node): place for place, node in enumerate(nodes)}
    self._constant: dict[int, np.ndarray] = {}
    for node in nodes:
      inputs = [self._constant[id(other)] for other in node.inputs]
      self._constant[id(node)] = node.operation.constants(inputs)
    self._groups = self._join(nodes)
    self._needed = {
      group: np.zeros(nodes[group].operation.channels, bool)
      for group in set(self._groups)
    }
    for node in nodes:
      if node.operation.is_fixed:
        self._kept(node)[:] = True
    for node in outputs:
      self._kept(node)[:] = True
    self._spread(nodes)
    self._complete(nodes, keeps_one)

  def kept(self, node: Node) -> np.ndarray:
    """Which channels of a node stay, bool [channels]."""
    return self._kept(node).copy()

  def constant(self, node: Node) -> np.ndarray:
    """The constant channels, float64 [channels]; NaN for others."""
    return self._constant[id(node)]

  def _kept(self, node: Node) -> np.ndarray:
    return self._needed[self._groups[self._places[id(node)]]]

  def _join(self, nodes: Sequence[Node]) -> list[int]:
    """The number of each node's group, which loses the same channels."""
    groups = list(range(len(nodes)))

    def root(place: int) -> int:
      while groups[place] != place:
        place = groups[place]
      return place

    for place, node in enumerate(nodes):
      if node.operation.joins:
        for other in node.inputs:
          groups[root(self._places[id(other)])] = root(place)
    return [root(place) for place in range(len(nodes))]

  def _spread(self, nodes: Sequence[Node]) -> None:
    """Adds what is needed, from the outputs on, until nothing changes."""
    changed = True
    while changed:
      changed = False
      for node in reversed(nodes):
        constants = [self._constant[id(other)] for other in node.inputs]
        wanted = node.operation.needs(self._kept(node), constants)
        for other, needed in zip(node.inputs, wanted, strict=True):
          kept = self._kept(other)
          if np.any(needed & ~kept):
            kept |= needed
            changed = True

  def _complete(self, nodes: Sequence[Node], keeps_one: bool) -> None:
    """Keeps one channel of each, and all places of an image's channel."""
    for node in nodes:
      kept = self._kept(node)
      if keeps_one and len(kept) and not kept.any():
        kept[0] = True
    for node in nodes:
      if isinstance(node.operation, Flatten):
        inside = self._kept(node.inputs[0])
        self._kept(node)[:] = np.tile(inside, node.operation.places)
