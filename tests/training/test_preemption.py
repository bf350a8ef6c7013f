# SPDX-License-Identifier: Apache-2.0
"""Notices of an end from outside: signals, and the metadata of a machine."""

import http.server
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest
import warm_python

from rigl.training import preemption
from rigl.training.preemption import Notice, watching

ROOT = pathlib.Path(__file__).resolve().parents[2]


def wait_for(notice, seconds=10.0):
  end = time.monotonic() + seconds
  while not notice.is_given and time.monotonic() < end:
    time.sleep(0.01)
  return notice.is_given


class Metadata(http.server.BaseHTTPRequestHandler):
  """Answers as the metadata server of a virtual machine."""

  answers: dict = {}

  def do_GET(self):  # noqa: N802
    assert self.headers["Metadata-Flavor"] == "Google"
    answer = self.answers.get(self.path.strip("/"))
    self.send_response(200 if answer else 404)
    self.end_headers()
    self.wfile.write((answer or "").encode())

  def log_message(self, *arguments):
    pass


@pytest.fixture
def metadata(monkeypatch):
  """A server; its answers by entry, and its address."""
  monkeypatch.setattr(preemption, "_POLL_SECONDS", 0.01)
  monkeypatch.setattr(Metadata, "answers", {})
  server = http.server.HTTPServer(("localhost", 0), Metadata)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield Metadata.answers, f"http://localhost:{server.server_port}/"
  server.shutdown()
  server.server_close()


@pytest.mark.parametrize(
  "number, name, code",
  [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "SIGINT", 130)],
)
def test_a_signal_gives_notice_and_the_process_goes_on(number, name, code):
  notice = Notice()
  with watching(notice):
    assert not notice.is_given
    os.kill(os.getpid(), number)
    assert notice.is_given
    assert (notice.reason, notice.exit_code) == (name, code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_handler_of_before_comes_back(number):
  before = signal.getsignal(number)
  with watching(Notice()):
    assert signal.getsignal(number) != before
  assert signal.getsignal(number) == before


@pytest.mark.parametrize(
  "entry, answer",
  [
    ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE"),
    ("preempted", "TRUE"),
  ],
)
def test_maintenance_of_the_machine_gives_notice(metadata, entry, answer):
  answers, address = metadata
  answers |= {"maintenance-event": "NONE", "preempted": "FALSE"}
  notice = Notice()
  with watching(notice, machine=True, metadata=address):
    time.sleep(0.2)
    assert not notice.is_given
    answers[entry] = answer
    assert wait_for(notice)
  assert notice.reason == f"{entry} {answer}"


def test_a_machine_without_metadata_gives_none(metadata):
  _, address = metadata
  notice = Notice()
  with watching(notice, machine=True, metadata=address):
    time.sleep(0.2)
  assert not notice.is_given


def test_another_thread_may_watch_the_machine_alone():
  notice, found = Notice(), []

  def watch():
    with watching(notice):
      found.append(signal.getsignal(signal.SIGTERM))

  before = signal.getsignal(signal.SIGTERM)
  thread = threading.Thread(target=watch)
  thread.start()
  thread.join()
  assert found == [before]


WAITING = """
import sys, time
from rigl.training import preemption
preemption._PATIENCE_SECONDS = float(sys.argv[3])
is_saved = sys.argv[1] == "saved"
with preemption.watching(preemption.Notice(), is_saved=lambda: is_saved):
  print("ready", flush=True)
  time.sleep(float(sys.argv[2]))
print("went on", flush=True)
"""


@pytest.mark.parametrize(
  "state, seconds, patience, code",
  [("saved", 60, 0.5, 143), ("unsaved", 3, 0.5, 0), ("saved", 3, 60, 0)],
  ids=["nothing to lose", "something to lose", "it stops by itself"],
)
def test_a_long_call_is_broken_off_where_nothing_is_lost(
  state, seconds, patience, code
):
  process = subprocess.Popen(
    warm_python.command("-c", WAITING, state, str(seconds), str(patience)),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  assert process.stdout.readline() == "ready\n"
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=120)
  assert process.returncode == code
  assert out == ("" if code else "went on\n")
  assert ("Stopped by SIGTERM." in err) == bool(code)
