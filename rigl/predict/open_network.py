# SPDX-License-Identifier: Apache-2.0
"""Opens the network of a checkpoint, a run or a compact file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rigl.config.gin_files import applied, current_bindings
from rigl.predict.run_flags import RunFlags, read_run
from rigl.predict.tasks import TASKS, Network, PredictTask
from rigl.predict.weights import compact_layers, load_weights


class Opened(NamedTuple):
  """A network, and what belongs to it.

  Attributes:
    name: name of its task.
    task: its task.
    network: the network; its weights are initial ones until `load`.
    run: what is known of the run that trained it.
    gin_bindings: all bindings of gin that the network was made with.
  """

  name: str
  task: PredictTask
  network: Network
  run: RunFlags
  gin_bindings: tuple[str, ...] = ()

  def load(self) -> dict[str, Any]:
    """Assigns the weights of the checkpoint; returns all its tensors.

    Raises:
      ValueError: if it is damaged or does not fit the network.
    """
    return load_weights(self.network, self.name, self.run.prefix)


def read_task(checkpoint: str, task: str | None) -> tuple[str, RunFlags]:
  """The name of a checkpoint's task, and what its run says.

  Args:
    checkpoint: the prefix of a checkpoint, the directory of a run, or a compact
      file.
    task: name of its task; None: that of the run or file.

  Raises:
    ValueError: if there is no such run, or the task is not known.
  """
  if task not in (*TASKS, None):
    raise ValueError(f"`task` must be one of {[*TASKS]}, got {task!r}.")
  run = read_run(checkpoint)
  name = task or run.task
  if name is None:
    raise ValueError(f"`task` must be one of {[*TASKS]}, got None.")
  if run.task not in (None, name):
    raise ValueError(f"`task` must be {run.task} for this run, got {name!r}.")
  return name, run


def make_network(
  name: str,
  run: RunFlags,
  flags: Mapping[str, Any],
  gin_config: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  gin_imports: bool = False,
  keeps_compact: bool = False,
) -> Opened:
  """Makes the network of a run, whose weights are initial ones.

  Gin files and bindings count for this network alone.

  Args:
    name: name of its task.
    run: the flags and gin bindings in its `run.json`.
    flags: values of flags that win over those of the run.
    gin_config: gin files.
    gin_bindings: gin bindings.
    gin_imports: whether they may import modules outside of this package.
    keeps_compact: whether layers of which the checkpoint holds only the active
      connections have no dense kernel in the network either.

  Raises:
    ValueError: if a flag or a binding is invalid.
  """
  task = TASKS[name]
  compact = compact_layers(run.prefix) if keeps_compact else {}
  with applied(gin_config, gin_bindings, gin_imports, run.gin_bindings):
    network = task.network({**run.values, **flags}, compact)
    # Flags of the network are known besides.
    bindings = current_bindings(without=task.settings.__name__)
  return Opened(name, task, network, run, tuple(bindings))
