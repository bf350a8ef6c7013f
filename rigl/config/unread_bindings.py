# SPDX-License-Identifier: Apache-2.0
"""Unread bindings: what gin was told and nothing of a run has read."""

from __future__ import annotations

import re
from collections.abc import Iterable

import gin
from absl import flags, logging

from rigl.sparse_optimizers import registry

# `scope/module.Name.argument = value` or, for a macro, `NAME = value`.
_BINDING = re.compile(r"^\s*([\w./]+)\s*=", re.MULTILINE)
_OPTIMIZERS = {cls.__name__ for cls in registry.METHODS.values()}


def warn() -> None:
  """Warns of gin's bindings that have no effect; call it in a prepared run.

  It is silent about optimizers of other methods in a file that also binds
  arguments of the optimizer in use: such a file is for several methods.
  """
  values = flags.FLAGS
  typed = values.gin_bindings if "gin_bindings" in values else []
  names = unread(typed)
  if names:
    logging.warning(
      "gin: this run does not read %s; %s no effect.",
      ", ".join(f"`{name}`" for name in names),
      "it has" if len(names) == 1 else "they have",
    )


def unread(typed: Iterable[str] = ()) -> list[str]:
  """The names of bindings that nothing has read so far.

  Args:
    typed: the bindings of the command line, which are never for several
      methods.
  """
  read = set(_names(gin.operative_config_str(10**6)))
  bound = _names(gin.config_str(10**6))
  on_command_line = {_short(n) for text in typed for n in _names(text)}
  in_files = [n for n in bound if _short(n) not in on_command_line]
  is_for_several = any(_optimizer(n) and n in read for n in in_files)
  return [
    name
    for name in bound
    if name not in read
    and not (is_for_several and name in in_files and _optimizer(name))
  ]


def _names(text: str) -> list[str]:
  return _BINDING.findall(text)


def _short(name: str) -> str:
  """The name without its module, which gin leaves out where it can."""
  scope, slash, rest = name.rpartition("/")
  return scope + slash + ".".join(rest.split(".")[-2:])


def _optimizer(name: str) -> str:
  """The optimizer that a binding is for; empty if it is for something else."""
  owner = name.rpartition(".")[0].split("/")[-1].split(".")[-1]
  return owner if owner in _OPTIMIZERS else ""
