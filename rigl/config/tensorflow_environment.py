# SPDX-License-Identifier: Apache-2.0
"""Environment of TensorFlow in every script; scripts import it first.

Results and output do not depend on the processor:

- oneDNN's kernels are on. TensorFlow itself chooses them only on processors
  with instructions for neural networks. Where XLA compiles nothing, as in the
  CIFAR-10 and ImageNet scripts on a CPU, they make convolutions faster on the
  others, too. The programs of MNIST are compiled by XLA: they have the same
  bits with oneDNN and without. So one setting serves training, evaluation and
  prediction.
- TensorFlow's C++ code logs errors only. Its first messages ignore that level
  (in 2.21 one about oneDNN, in GPU builds some about double registrations), so
  TensorFlow is imported here, with a filter on the standard error. The filter
  is a process, which Windows cannot fork: the messages are shown there.

Variables that the user sets stay: `TF_ENABLE_ONEDNN_OPTS=0` keeps oneDNN off,
`TF_CPP_MIN_LOG_LEVEL=0` shows everything.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator

from rigl import needs_tensorflow  # noqa: F401
from rigl.config import stop_signals

# The same level as in `run.sh`.
_DEFAULTS = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}

# A line of the C++ log, with the letter of its severity: of absl, such as
# `I0000 00:00:1700000000.000000    1 port.cc:153] `, or of TensorFlow itself,
# such as `2024-01-01 00:00:00.000000: I tensorflow/core/util/port.cc:153] `.
_LOGGED = re.compile(
  rb"(?:([IWEF])\d{4} [\d:.]+ +\d+ |[\d-]+ [\d:.]+: ([IWEF]) )\S+:\d+\] "
)
_SEVERITIES = b"IWEF"
_NOTICES = (
  b"All log messages before absl::InitializeLog() is called are written to",
  b"Unable to register cuFFT factory",
  b"Unable to register cuDNN factory",
  b"Unable to register cuBLAS factory",
)


def is_hidden(line: bytes, level: int) -> bool:
  """Whether a line of the standard error stays hidden at the start.

  Args:
    line: the line.
    level: `TF_CPP_MIN_LOG_LEVEL`: how many of the severities information,
      warning, error and fatal are hidden.
  """
  if level < 1:
    return False
  if any(notice in line for notice in _NOTICES):
    return True
  match = _LOGGED.match(line)
  if match is None:
    return False
  return _SEVERITIES.index(match[1] or match[2]) < min(level, 3)


@contextlib.contextmanager
def filtered_stderr(level: int) -> Iterator[None]:
  """Leaves out hidden lines that C++ code writes to the standard error.

  A child process forwards the other lines, so they are not lost if this process
  aborts.
  """
  try:
    kept = os.dup(2)
  except OSError:  # The standard error is closed.
    yield
    return
  reading, writing = os.pipe()
  with stop_signals.blocked():
    child = os.fork()
    if not child:
      stop_signals.ignore_in_child()
  if not child:
    try:
      os.close(writing)
      with open(reading, "rb") as lines, open(kept, "wb", 0) as output:
        for line in lines:
          if not is_hidden(line, level):
            output.write(line)
    finally:
      os._exit(0)
  os.dup2(writing, 2)
  os.close(reading)
  os.close(writing)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.waitpid(child, 0)


def _set_up() -> None:
  for name, value in _DEFAULTS.items():
    os.environ.setdefault(name, value)
  level = os.environ["TF_CPP_MIN_LOG_LEVEL"]
  is_shown = not level.isdigit() or level == "0"
  if "tensorflow" in sys.modules or is_shown or not hasattr(os, "fork"):
    return
  with filtered_stderr(int(level)):
    import tensorflow  # noqa: F401


_set_up()
