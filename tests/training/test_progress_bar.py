# SPDX-License-Identifier: Apache-2.0
import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
import types

import pytest

from rigl.training import reporting
from rigl.training.reporting import ProgressBar

END = "<end of the screen>"


@pytest.fixture
def clock(monkeypatch):
  now = types.SimpleNamespace(seconds=100.0)
  fake = types.SimpleNamespace(monotonic=lambda: now.seconds)
  monkeypatch.setattr(reporting, "time", fake)
  return now


@contextlib.contextmanager
def terminal(monkeypatch):
  """Makes the standard error a terminal; its screen shows what was written."""
  master, slave = pty.openpty()
  size = struct.pack("HHHH", 24, 80, 0, 0)  # A fresh one has no columns.
  fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
  screen = io.StringIO()
  with os.fdopen(slave, "w") as stderr, monkeypatch.context() as patch:
    patch.setattr(sys, "stderr", stderr)
    yield screen
    print(END, end="", file=stderr, flush=True)
    shown = ""
    while not shown.endswith(END):  # A read may bring only a part.
      shown += os.read(master, 10**6).decode()
    screen.write(shown.removesuffix(END))
  os.close(master)


def test_without_a_terminal_lines_are_plain(capsys):
  shown = ProgressBar(20)
  shown.advance(5)
  shown.say("epoch 1")
  shown.close()
  out, err = capsys.readouterr()
  assert re.fullmatch(r"epoch 1  \[\d\d:\d\d left\]\n", out)
  assert err == ""


def test_without_a_terminal_lines_tell_the_remaining_time(capsys, clock):
  shown = ProgressBar(20)
  shown.advance(5)
  clock.seconds += 10  # Two seconds an iteration, 15 to go.
  shown.say("epoch 1")
  shown.advance(15)
  shown.say("epoch 4")
  assert capsys.readouterr().out == (
    "epoch 1  [00:30 left]\nepoch 4  [00:00 left]\n"
  )


def test_resumed_run_estimates_by_its_own_iterations(capsys, clock):
  shown = ProgressBar(1000, initial=900)
  shown.advance(10)
  clock.seconds += 20
  shown.say("line")
  assert capsys.readouterr().out == "line  [03:00 left]\n"


def test_nothing_done_yet_gives_an_estimate_as_well(capsys):
  ProgressBar(10, initial=10).say("line")
  assert "[00:00 left]" in capsys.readouterr().out


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
  with terminal(monkeypatch) as screen:
    shown = ProgressBar(20, initial=5)
    shown.advance(5)
    shown.say("epoch 1")
    shown.advance(10)
    shown.close()
  for part in ("\r", "100%", "20/20", "25%"):  # It began at 25 %.
    assert part in screen.getvalue()
  assert capsys.readouterr().out == "epoch 1\n"
