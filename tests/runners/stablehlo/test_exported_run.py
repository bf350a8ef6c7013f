# SPDX-License-Identifier: Apache-2.0
"""Stops of an exported run."""

import os
import signal

import pytest

pytest.importorskip("jax")

from rigl.runners.stablehlo.exported_run import ExportedRun  # noqa: E402


class FakeRun(ExportedRun):
  """Makes calls that do nothing but raise a signal in the third one."""

  def __init__(self, folder, number, count=9):
    self._folder, self._done, self.saved_at = folder, 0, []
    self._plan = {"calls": [["train", i, 1] for i in range(count)]}
    self._number = number
    (folder / "state-now.npz").touch()

  def _call(self, call):
    if call[1] == 2:
      os.kill(os.getpid(), self._number)

  def _save(self):
    self.saved_at.append(self._done)


@pytest.mark.parametrize(
  "number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_stops_after_the_call_and_saves(
  tmp_path, capsys, number, code
):
  run, before = FakeRun(tmp_path, number), signal.getsignal(number)
  with pytest.raises(SystemExit) as stop:
    run.run()
  assert stop.value.code == code
  assert run.saved_at == [3]
  assert "Stopped after 3 calls. The same command resumes it." in (
    capsys.readouterr().out
  )
  assert signal.getsignal(number) == before


def test_a_signal_in_the_last_call_finishes_the_run(tmp_path):
  run = FakeRun(tmp_path, signal.SIGTERM, count=3)
  run.run()
  assert run.is_finished
  assert (tmp_path / "state-end.npz").exists()
