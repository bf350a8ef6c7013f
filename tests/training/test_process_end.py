# SPDX-License-Identifier: Apache-2.0
"""How the process of a run ends that cannot go on."""

import signal
import types

import pytest
import tensorflow as tf

from rigl.data.stream_source import DataError
from rigl.training.loop import TrainingDivergedError
from rigl.training.preemption import Notice, PreemptedError
from rigl.training.process_end import one_line_ends


def end_with(error, num_hosts=1):
  """Ends a run on some hosts with an error."""
  replicas = types.SimpleNamespace(
    is_tpu=False, num_hosts=num_hosts, leave=lambda: None
  )
  notice = Notice()
  if isinstance(error, PreemptedError):
    notice.give_signal(signal.SIGINT)
  with one_line_ends(notice, replicas, lambda: False):
    raise error


def test_a_stopped_run_says_how_it_resumes(capsys):
  with pytest.raises(SystemExit) as end:
    end_with(PreemptedError("Stopped at step 3 by SIGINT."))
  assert end.value.code == 128 + signal.SIGINT
  said = "Stopped at step 3 by SIGINT. The same command resumes it.\n"
  assert capsys.readouterr().out == said


@pytest.mark.parametrize("kind", [TrainingDivergedError, DataError])
@pytest.mark.parametrize("num_hosts", [1, 2])
def test_an_error_of_the_run_is_one_line(capsys, kind, num_hosts):
  with pytest.raises(SystemExit) as end:
    end_with(kind("The loss is nan."), num_hosts)
  assert end.value.code == 1
  assert capsys.readouterr().err == "error: The loss is nan.\n"


LOST = tf.errors.UnavailableError(None, None, "Connection reset.\nDetails")


@pytest.mark.parametrize(
  ("error", "why"),
  [
    (LOST, "(Connection reset.)"),
    (tf.errors.UnavailableError(None, None, ""), "(UnavailableError)"),
  ],
)
def test_a_lost_worker_is_one_line(capsys, error, why):
  with pytest.raises(SystemExit) as end:
    end_with(error, num_hosts=2)
  assert end.value.code == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert "another worker was lost" in line and why in line


@pytest.mark.parametrize(
  ("error", "num_hosts"), [(LOST, 1), (KeyError("a"), 1), (KeyError("a"), 2)]
)
def test_other_errors_keep_their_traceback(error, num_hosts):
  with pytest.raises(type(error)):
    end_with(error, num_hosts)
