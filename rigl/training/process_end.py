# SPDX-License-Identifier: Apache-2.0
"""How the process of a run ends if training ends early: with one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import tensorflow as tf

from rigl.config import app, system_errors
from rigl.data.stream_source import DataError
from rigl.distribution.replicas import Replicas
from rigl.error_text import first_line
from rigl.training import preemption
from rigl.training.loop import TrainingDivergedError
from rigl.training.preemption import Notice, PreemptedError

# The errors that a worker sees when another one is lost.
_LOST = (
  tf.errors.AbortedError,
  tf.errors.CancelledError,
  tf.errors.DeadlineExceededError,
  tf.errors.InternalError,
  tf.errors.UnavailableError,
)


@contextlib.contextmanager
def one_line_ends(
  notice: Notice, replicas: Replicas, is_saved: Callable[[], bool]
) -> Iterator[None]:
  """Ends the process with one line if training ends early.

  Args:
    notice: gets requests to stop, which are watched for.
    replicas: the devices that train.
    is_saved: whether a checkpoint holds all that was trained.
  """
  try:
    with preemption.watching(notice, replicas.is_tpu, is_saved):
      yield
  except PreemptedError as stop:
    print(f"{stop} The same command resumes it.", flush=True)
    sys.exit(notice.exit_code)
  except Exception as error:
    replicas.leave()
    if isinstance(error, TrainingDivergedError | DataError):
      app.fail(str(error))
    is_of_jax = system_errors.is_of_jax(error)
    if replicas.num_hosts == 1 or not (is_of_jax or isinstance(error, _LOST)):
      raise
    known = system_errors.describe(error) if is_of_jax else None
    app.fail(
      known
      or "another worker was lost; start all of them again, which resumes "
      f"from the last checkpoint ({first_line(error)})"
    )
