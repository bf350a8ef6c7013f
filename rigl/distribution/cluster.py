# SPDX-License-Identifier: Apache-2.0
"""Cluster: the processes that `TF_CONFIG` names, and the role of this one.

`TF_CONFIG` is read as TensorFlow's Estimators read it. `master` is another name
of `chief`. An `evaluator` evaluates the checkpoints of a run and is not part of
the training. Parameter servers, and tasks of unknown types, are not needed.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from collections.abc import Mapping
from typing import Any

from rigl import addresses

TF_CONFIG = "TF_CONFIG"
CHIEF, WORKER = "chief", "worker"
_MASTER, _EVALUATOR = "master", "evaluator"


class Role(enum.Enum):
  """What a process of a cluster has to do."""

  TRAINS = enum.auto()
  EVALUATES = enum.auto()
  IS_NOT_NEEDED = enum.auto()


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The processes that train together, and the role of this process.

  Attributes:
    addresses: `HOST:PORT` of the processes by type: at most one `chief`, any
      number of `worker`s. Empty: this process is alone.
    task_type: type of this process, such as `worker`.
    index: its index among the processes of that type.
    ignored: other types that `TF_CONFIG` names, which training does not need.
    rpc_layer: protocol between the processes.
  """

  addresses: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
  task_type: str = WORKER
  index: int = 0
  ignored: tuple[str, ...] = ()
  rpc_layer: str = "grpc"

  @property
  def workers(self) -> list[str]:
    """The addresses of the processes that train together, the chief first.

    The list is empty in a process that does not train.
    """
    if self.role is not Role.TRAINS:
      return []
    return [a for kind in (CHIEF, WORKER) for a in self.addresses.get(kind, [])]

  @property
  def own_address(self) -> str:
    """The address of this process; only of one that trains with others."""
    return self.addresses[self.task_type][self.index]

  @property
  def role(self) -> Role:
    """What this process has to do."""
    if self.task_type == _EVALUATOR:
      return Role.EVALUATES
    trains = self.task_type in (CHIEF, WORKER)
    return Role.TRAINS if trains else Role.IS_NOT_NEEDED


def read() -> Cluster:
  """Reads the environment variable `TF_CONFIG`.

  Returns:
    The cluster. Without the variable, or where it names no process, this
    process is alone.

  Raises:
    ValueError: if the variable is not as TensorFlow defines it, saying what is
      wrong.
  """
  text = os.environ.get(TF_CONFIG, "").strip()
  if not text:
    return Cluster()
  try:
    return _cluster(json.loads(text))
  except (json.JSONDecodeError, RecursionError) as error:
    raise _error(f"no JSON: {error}", text) from error
  except ValueError as error:
    raise _error(str(error), text) from error


def _error(problem: str, text: str) -> ValueError:
  return ValueError(
    f"The environment variable {TF_CONFIG} is wrong: {problem}. It must be as "
    '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", '
    f'"index": 0}}}}, got {text!r}.'
  )


def _cluster(config: Any) -> Cluster:
  config = _object(config, "it")
  cluster = _object(config.get("cluster"), "`cluster`")
  found = {kind: _addresses(kind, listed) for kind, listed in cluster.items()}
  found = {kind: listed for kind, listed in found.items() if listed}
  if CHIEF in found and _MASTER in found:
    raise ValueError("`cluster` has both a `chief` and a `master`")
  if _MASTER in found:
    found = {CHIEF: found.pop(_MASTER), **found}
  for kind in (CHIEF, _EVALUATOR):
    if len(found.get(kind, [])) > 1:
      raise ValueError(f"`cluster` has {len(found[kind])} of the type `{kind}`")
  training = {k: found[k] for k in (CHIEF, WORKER) if k in found}
  every = [address for listed in training.values() for address in listed]
  twice = sorted({a for a in every if every.count(a) > 1})
  if twice:
    raise ValueError(f"`cluster` has {twice[0]!r} twice")
  task_type, index = _task(config.get("task"), found)
  rest = [k for k in found if k not in (*training, _EVALUATOR)]
  return Cluster(
    training, task_type, index, tuple(rest), config.get("rpc_layer") or "grpc"
  )


def _object(value: Any, name: str) -> dict[str, Any]:
  """A JSON object; null stands for an empty one."""
  if value is None:
    return {}
  if not isinstance(value, dict):
    raise ValueError(f"{name} must be an object, got {value!r}")
  return value


def _addresses(kind: str, listed: Any) -> list[str]:
  """The addresses of one type, from a list or from an object by index."""
  name = f"`cluster`.`{kind}`"
  if isinstance(listed, dict):
    by_index = {_index(key, name): value for key, value in listed.items()}
    if sorted(by_index) != list(range(len(listed))):
      raise ValueError(f"{name} must have the indices 0, 1, ..., got {listed}")
    listed = [by_index[index] for index in range(len(listed))]
  if not isinstance(listed, list):
    raise ValueError(f"{name} must be a list of HOST:PORT, got {listed!r}")
  for address in listed:
    if not isinstance(address, str):
      raise ValueError(f"{name} must be a list of HOST:PORT, got {address!r}")
    try:
      addresses.split(address)
    except ValueError as error:
      raise ValueError(f"{name}: {error}") from error
  return listed


def _task(value: Any, found: Mapping[str, list[str]]) -> tuple[str, int]:
  """Type and index of this process.

  Args:
    value: the entry `task`.
    found: the addresses of the cluster by type.
  """
  task = _object(value, "`task`")
  if found:
    for name in ("type", "index"):
      if task.get(name) is None:
        raise ValueError(
          f"`task`.`{name}` is missing, so this process does not know which "
          "one of the cluster it is"
        )
  kind = task.get("type") or WORKER
  index = _index(task.get("index") or 0, "`task`.`index`")
  if not isinstance(kind, str):
    raise ValueError(f"`task`.`type` must be a string, got {kind!r}")
  if kind == _EVALUATOR:
    if index:
      raise ValueError(f"`task`: there is one evaluator, 0, got {index}")
    return kind, index
  if kind == _MASTER:
    kind = CHIEF
  if not found and kind in (CHIEF, WORKER) and not index:
    return kind, index
  count = len(found.get(kind, []))
  if not count:
    raise ValueError(
      f"`task`.`type` is {kind!r}, which `cluster` does not have"
    )
  if index >= count:
    raise ValueError(
      f"`task`.`index` must be in [0, {count}), the number of {kind!r} in "
      f"`cluster`, got {index}"
    )
  return kind, index


def _index(value: Any, name: str) -> int:
  """A number from 0, also one that is written as a string."""
  is_number = isinstance(value, int) and not isinstance(value, bool)
  if is_number and value >= 0:
    return int(value)
  if isinstance(value, str) and value.strip().isdecimal():
    return int(value)
  raise ValueError(f"{name} must be a number from 0, got {value!r}")
