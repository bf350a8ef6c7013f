"""Runs a script and then writes the state of every replica of this process.

  python replica_states.py SCRIPT OUTPUT FLAG...

SCRIPT is mnist, cifar10 or imagenet. OUTPUT-HOST.npz gets `REPLICA|NAME` of
every variable, and `masks|ITERATION|NAME` after every mask update.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from rigl.cifar_resnet import resnet_train_eval
from rigl.config import app
from rigl.imagenet_resnet import imagenet_train_eval
from rigl.mnist import mnist_train_eval
from rigl.training.trainer import Run

SCRIPTS: dict[str, Any] = {
  "mnist": mnist_train_eval,
  "cifar10": resnet_train_eval,
  "imagenet": imagenet_train_eval,
}


def note_states(output: str) -> None:
  """Makes every run write its states when it is over."""
  train_to_end = Run.train_to_end

  def train_and_note(run: Run) -> dict[str, Any]:
    update, found = run.programs.update_masks, {}

    def update_and_note(iteration: int) -> float:
      changed = update(iteration)
      for layer in run.optimizer.layers:
        found[f"masks|{iteration}|{layer.name}"] = layer.mask.numpy()
      return changed

    run.programs.update_masks = update_and_note  # type: ignore
    result = train_to_end(run)
    for name, variable in run.all_variables.items():
      for number, value in enumerate(run.replicas.local(variable)):
        found[f"{number}|{name}"] = value.numpy()
    np.savez(f"{output}-{run.replicas.host}.npz", **found)
    return result

  Run.train_to_end = train_and_note  # type: ignore


if __name__ == "__main__":
  script = SCRIPTS[sys.argv[1]]
  note_states(sys.argv[2])
  sys.argv = [script.__file__, *sys.argv[3:]]
  app.run(script.main, script.define_flags)
