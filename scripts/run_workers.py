# SPDX-License-Identifier: Apache-2.0
r"""Runs a command as several workers on this machine, and again if one dies.

  python scripts/run_workers.py --workers=2 -- python \
    rigl/mnist/mnist_train_eval.py --strategy=multi_worker --save_path=RUN

Every worker gets a TF_CONFIG of its own. If one ends with an error, the others
are stopped and all start again: training resumes from the last checkpoint. It
shows how a cluster behaves; it makes nothing faster on one machine. SIGINT and
SIGTERM go to all workers; a second signal kills them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

_POLL_SECONDS = 0.2
_STOP_SECONDS = 10.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the workers; returns the exit code of the last attempt."""
  options = _parse(arguments)
  for left in range(options.restarts, -1, -1):
    try:
      code, is_stopped = _run_once(options.command, options.workers)
    except OSError as error:  # There is no such program, or no free port.
      print(f"error: {error}", file=sys.stderr)
      return 1
    is_stopped |= code in [128 + number for number in _STOP_SIGNALS]
    if code == 0 or is_stopped or not left:
      return code
    print(
      f"A worker ended with exit code {code}; all start again ({left} tries "
      "left).",
      flush=True,
    )
  return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--workers", type=int, default=2, help="number of workers (default: 2)"
  )
  parser.add_argument(
    "--restarts",
    type=int,
    default=3,
    help="how often to start all workers again (default: 3)",
  )
  parser.add_argument(
    "command", nargs="+", help="command of each worker, after --"
  )
  options = parser.parse_args(arguments)
  for name, low in (("workers", 1), ("restarts", 0)):
    if getattr(options, name) < low:
      parser.error(f"--{name} must be at least {low}")
  return options


def _run_once(command: list[str], count: int) -> tuple[int, bool]:
  """Starts all workers and waits for them.

  Returns:
    The first error, or 0 when all are done, and whether a signal stopped them.
  """
  workers = _start(command, count)
  stopping = False

  def stop(number: int, frame: object) -> None:
    nonlocal stopping
    del frame
    sent, stopping = signal.SIGKILL if stopping else number, True
    for worker in workers:
      worker.send_signal(sent)

  before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
  try:
    while True:
      codes = [worker.poll() for worker in workers]
      failed = [code for code in codes if code]
      if failed and not stopping:
        return _exit_code(failed[0]), False
      if None not in codes:
        return _exit_code(failed[0]) if failed else 0, stopping
      time.sleep(_POLL_SECONDS)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    _stop(workers)


def _start(command: list[str], count: int) -> list[subprocess.Popen]:
  addresses = [f"localhost:{port}" for port in _free_ports(count)]
  workers = []
  for index in range(count):
    config = {
      "cluster": {"worker": addresses},
      "task": {"type": "worker", "index": index},
    }
    environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
    try:
      workers.append(subprocess.Popen(command, env=environment))
    except OSError:
      _stop(workers)
      raise
  return workers


def _stop(workers: list[subprocess.Popen]) -> None:
  """Ends what still runs; a worker that waits for a lost one is killed."""
  for worker in workers:
    if worker.poll() is None:
      worker.terminate()
  end = time.monotonic() + _STOP_SECONDS
  for worker in workers:
    try:
      worker.wait(max(end - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
      worker.kill()
      worker.wait()


def _free_ports(count: int) -> list[int]:
  sockets = [socket.socket() for _ in range(count)]
  for each in sockets:
    each.bind(("localhost", 0))
  ports = [each.getsockname()[1] for each in sockets]
  for each in sockets:
    each.close()
  return ports


def _exit_code(code: int) -> int:
  """The code that a shell reports: 128 plus the number of the signal."""
  return code if code >= 0 else 128 - code


if __name__ == "__main__":
  sys.exit(main())
