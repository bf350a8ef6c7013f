# SPDX-License-Identifier: Apache-2.0
"""Nodes of a graph by name: which are needed, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rigl.types import Tensor

_OLD_LOOPS = ("Enter", "NextIteration", "RefEnter")


def needed(nodes: Sequence[Any], results: Iterable[str]) -> list[Any]:
  """The nodes that results depend on."""
  by_name = {node.name: node for node in nodes}
  todo, seen = list(results), set()
  while todo:
    name = todo.pop()
    if name not in seen and name in by_name:
      seen.add(name)
      todo += [n.lstrip("^").split(":")[0] for n in by_name[name].input]
  return [node for node in nodes if node.name in seen]


def ordered(nodes: Sequence[Any], known: Mapping[str, Tensor]) -> list[Any]:
  """Nodes after all those that they depend on, otherwise in their order.

  Args:
    nodes: the nodes of a graph.
    known: tensors by name; the nodes that compute them are left out.

  Raises:
    ValueError: if there is a loop of TensorFlow 1.
  """
  by_name = {n.name: n for n in nodes if f"{n.name}:0" not in known}
  result: dict[str, Any] = {}
  for start in by_name.values():
    if start.op in _OLD_LOOPS:
      raise ValueError(
        "`model` must not have loops of TensorFlow 1, whose length is not "
        f"known, got {start.name!r}."
      )
    todo = [start]
    while todo:
      node = todo[-1]
      names = (n.split(":")[0] for n in node.input if not n.startswith("^"))
      missing = [by_name[n] for n in names if n in by_name and n not in result]
      todo += reversed(missing)
      if not missing:
        todo.pop()
        result[node.name] = node
  return list(result.values())


def full(name: str) -> str:
  """Name of a tensor: `node` is its first output."""
  return name if ":" in name else f"{name}:0"
