# SPDX-License-Identifier: Apache-2.0
"""What a run saves with its checkpoints, in which order and on which host."""

import types

import pytest

from rigl.training import unreported
from rigl.training.saving import Saver
from rigl.training.unreported import Unreported


class Run:
  """A saver, and what it did to a train state and a companion."""

  def __init__(self, path, is_chief=True, writes_checkpoints=True):
    self.path, self.done, self.iteration = path, [], 7
    self.saver = Saver(
      self,
      path,
      types.SimpleNamespace(is_chief=is_chief),
      [types.SimpleNamespace(save=self.note, restore=self.done.append)],
      keep=2,
      writes_checkpoints=writes_checkpoints,
    )

  def note(self):
    self.done.append("companion")

  def save(self, path, position, keep, writes):
    assert path == self.path
    kept = not unreported.load(path, self.iteration).is_empty
    self.done.append((position, keep, writes, kept))


@pytest.mark.parametrize("is_reported", [True, False])
def test_files_of_a_checkpoint_are_right_before_it_is_written(
  tmp_path, is_reported
):
  run = Run(tmp_path)
  run.saver.save_unreported(Unreported(steps=3, metrics={"loss": 1.5}))
  run.saver.save(position=20, is_reported=is_reported)
  assert run.done == ["companion", (20, 2, True, not is_reported)]


def test_the_chief_alone_writes(tmp_path):
  run = Run(tmp_path, is_chief=False)
  run.saver.save_unreported(Unreported(steps=3))
  run.saver.save(position=20)
  # All hosts take part in a checkpoint.
  assert run.done == [(20, 2, False, False)]
  assert not [*tmp_path.iterdir()]


def test_without_checkpoints_only_the_companions_are_saved(tmp_path):
  run = Run(tmp_path, writes_checkpoints=False)
  run.saver.save_unreported(Unreported(steps=3))
  run.saver.save(position=20)
  assert run.done == ["companion"]
  assert not [*tmp_path.iterdir()]


def test_the_state_is_saved_until_it_is_trained_on(tmp_path):
  run = Run(tmp_path)
  assert not run.saver.has_state
  for keep in (run.saver.note_restored, lambda: run.saver.save(20)):
    keep()
    assert run.saver.has_state
    run.iteration += 1
    assert not run.saver.has_state
  run.done.clear()
  run.saver.restore_companions()
  assert run.done == [9]
