# SPDX-License-Identifier: Apache-2.0
"""Runs a script and then writes the state of every replica of this process.

  python replica_states.py SCRIPT OUTPUT FLAG...

SCRIPT is mnist, cifar10 or imagenet. OUTPUT-HOST.npz gets `REPLICA|NAME` of
every variable, and `masks|ITERATION|NAME` after every mask update. With
`RIGL_TEST_END=SIGNAL:ITERATION` in the environment, the process gets the signal
after that iteration.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from rigl.cifar_resnet import resnet_train_eval
from rigl.config import app
from rigl.imagenet_resnet import imagenet_train_eval
from rigl.mnist import mnist_train_eval
from rigl.runners.jax.executor import JaxExecutor
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.training.executor import Progress
from rigl.training.trainer import Trainer

SCRIPTS: dict[str, Any] = {
  "mnist": mnist_train_eval,
  "cifar10": resnet_train_eval,
  "imagenet": imagenet_train_eval,
}


def _swapped(executor: Any, note: Any, advance: Any, *args: int) -> Progress:
  return note(advance, executor, *args)


def values_of(trainer: Trainer, variable: Any) -> list[np.ndarray]:
  """The values of a variable on the replicas of this process."""
  executor = trainer.executor
  if not isinstance(executor, JaxExecutor):
    return [value.numpy() for value in trainer.replicas.local(variable)]
  cursors = executor.source.variables.values()
  if any(variable is cursor for cursor in cursors):  # It is on the host.
    return [variable.numpy()] * executor.device_state.replicas.client.num_local
  return executor.replica_values(variable)


def note_states(output: str) -> None:
  """Makes every run write its states when it is over."""
  finish = Trainer.finish
  found: dict[str, Any] = {}

  def advance_and_note(
    advance: Callable[..., Progress],
    executor: TensorFlowExecutor | JaxExecutor,
    iteration: int,
    limit: int,
  ) -> Progress:
    progress = advance(executor, iteration, limit)
    name, _, last = os.environ.get("RIGL_TEST_END", "").partition(":")
    if name and iteration + progress.iterations >= int(last):
      os.kill(os.getpid(), signal.Signals[name])
    if progress.mask_changed:
      executor.synchronize()
      last = iteration + progress.iterations - 1
      for layer in executor.state.optimizer.layers:
        found[f"masks|{last}|{layer.name}"] = layer.mask.numpy()
    return progress

  def finish_and_note(trainer: Trainer) -> dict[str, Any]:
    result = finish(trainer)
    for name, variable in trainer.state.all_variables.items():
      for number, value in enumerate(values_of(trainer, variable)):
        found[f"{number}|{name}"] = value
    np.savez(f"{output}-{trainer.replicas.host}.npz", **found)
    return result

  for kind in (TensorFlowExecutor, JaxExecutor):
    kind.advance = functools.partialmethod(  # type: ignore
      _swapped, advance_and_note, kind.advance
    )
  Trainer.finish = finish_and_note  # type: ignore


if __name__ == "__main__":
  script = SCRIPTS[sys.argv[1]]
  note_states(sys.argv[2])
  sys.argv = [script.__file__, *sys.argv[3:]]
  app.run(script.main, script.define_flags)
