# SPDX-License-Identifier: Apache-2.0
"""Stop signals end a process in one line, wherever it is."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from rigl.config import stop_signals

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALL = pytest.mark.parametrize(
  "number",
  [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
  ids=["SIGINT", "SIGTERM", "SIGHUP"],
)


def heed(hangup=signal.SIG_DFL):
  """What a process does first: `nohup` may have started these tests."""
  return lambda: signal.signal(signal.SIGHUP, hangup)


# What a process does while the signal comes.
COMPUTING = "while True: pass"
SLEEPING = "import time; time.sleep(60)"
# A call that does not return to Python: its handlers do not run.
CALLING = """
import ctypes
libc = ctypes.CDLL(None)
while True: libc.sleep(60)
"""
SWALLOWING = """
while True:
  try:
    while True: pass
  except BaseException: pass
"""
DEFERRING = """
import time
from rigl.config import stop_signals
def note(number): print("noted", number, flush=True)
with stop_signals.deferred(note):
  print("ready", flush=True)
  while True: time.sleep(60)
"""


# A call that lets no thread of Python run.
HOLDING = """
import ctypes
from rigl.config import stop_signals
with stop_signals.undelayed():
  print("ready", flush=True)
  ctypes.PyDLL(None).sleep(60)
"""


def start(code, hangup=signal.SIG_DFL):
  ready = 'print("ready", flush=True)\n' if "ready" not in code else ""
  code = "from rigl.config import stop_signals\nstop_signals.install()\n" + (
    ready + code
  )
  process = subprocess.Popen(
    [sys.executable, "-c", code],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    preexec_fn=heed(hangup),
  )
  assert process.stdout.readline() == "ready\n"
  return process


@ALL
@pytest.mark.parametrize(
  "code",
  [COMPUTING, SLEEPING, CALLING, SWALLOWING],
  ids=["computing", "sleeping", "calling", "swallowing"],
)
def test_a_signal_ends_a_process_in_one_line(code, number):
  process = start(code)
  process.send_signal(number)
  out, err = process.communicate(timeout=30)
  name = stop_signals.name_of(number)
  assert process.returncode == 128 + number
  assert (out, err) == ("", f"Stopped by {name}.\n")


@ALL
def test_a_second_signal_ends_what_the_first_one_did_not(number):
  process = start(DEFERRING)
  process.send_signal(number)
  assert process.stdout.readline() == f"noted {number}\n"
  time.sleep(2 * stop_signals._SAME_SECONDS)
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  _, err = process.communicate(timeout=30)
  assert process.returncode == 130
  assert err == "Stopped by SIGINT.\n"


@ALL
def test_a_call_that_holds_python_may_be_ended(number):
  process = start(HOLDING)
  process.send_signal(number)
  process.communicate(timeout=30)
  assert process.returncode == -number


def test_the_end_of_a_terminal_may_be_signalled_twice():
  process = start(DEFERRING)
  for _ in range(2):
    process.send_signal(signal.SIGHUP)
    time.sleep(2 * stop_signals._SAME_SECONDS)
  assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=30)
  assert process.returncode == 143


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_batch_system_may_warn_before_it_ends_a_process(name):
  number = getattr(signal, name)
  process = start(DEFERRING)
  for each in (number, number, signal.SIGTERM):
    process.send_signal(each)
    time.sleep(2 * stop_signals._SAME_SECONDS)
    assert process.poll() is None
  assert process.stdout.readline() == f"noted {number}\n"
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=30)
  assert process.returncode == 143


def test_a_warning_ends_what_does_not_train():
  process = start(SLEEPING)
  process.send_signal(signal.SIGUSR1)
  _, err = process.communicate(timeout=30)
  assert (process.returncode, err) == (138, "Stopped by SIGUSR1.\n")


def test_a_process_under_nohup_goes_on_without_its_terminal():
  process = start(SLEEPING, signal.SIG_IGN)
  process.send_signal(signal.SIGHUP)
  time.sleep(2 * stop_signals._SAME_SECONDS)
  assert process.poll() is None
  process.kill()
  process.communicate()


def test_a_signal_that_is_sent_twice_at_once_counts_once():
  process = start(DEFERRING)
  process.send_signal(signal.SIGTERM)
  process.send_signal(signal.SIGTERM)
  time.sleep(2 * stop_signals._SAME_SECONDS)
  assert process.poll() is None
  process.kill()
  process.communicate()


def test_handlers_come_back_after_nested_blocks():
  before = _handlers()
  with stop_signals.installed(), stop_signals.deferred(lambda number: None):
    with stop_signals.undelayed():
      assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
  assert _handlers() == before


def _handlers():
  """The handlers of this process, and where its signals are written."""
  written_to = signal.set_wakeup_fd(-1)
  signal.set_wakeup_fd(written_to)
  return [signal.getsignal(n) for n in stop_signals.NUMBERS], written_to


def test_handlers_that_other_code_replaced_are_set_again():
  found = []
  with stop_signals.installed():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # As a library may do.
    with stop_signals.deferred(found.append):
      os.kill(os.getpid(), signal.SIGTERM)
    assert signal.SIGTERM in found
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stop_signals.take_back()
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_IGN


SCRIPTS = ("rigl/mnist/mnist_train_eval.py", "rigl/flops/command.py")


@ALL
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_ends_in_one_line_during_its_imports(tmp_path, script, number):
  """A module that it imports raises the signal and waits."""
  (tmp_path / "gin.py").write_text(
    f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(60)\n"
  )
  path = f"{tmp_path}:{ROOT}"
  done = subprocess.run(
    [sys.executable, str(ROOT / script)],
    capture_output=True,
    text=True,
    env={**os.environ, "PYTHONPATH": path},
    preexec_fn=heed(),
    timeout=120,
  )
  assert done.returncode == 128 + number
  assert done.stdout == ""
  assert done.stderr == f"Stopped by {stop_signals.name_of(number)}.\n"
