# SPDX-License-Identifier: Apache-2.0
"""Processes that are forked from a warm interpreter are like others."""

import os
import signal
import subprocess
import sys

import pytest
import warm_python

_DESCRIBE = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ["SOME"], __name__, sys.path[-1])
print(sys.stdin.read(), "rigl" in sys.modules)
print("end", file=sys.stderr)
sys.exit(3)
"""


def outcome(command, **options):
  done = subprocess.run(command, capture_output=True, text=True, **options)
  return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["-c", "-m", "script"])
def test_a_program_finds_what_it_does_in_a_usual_interpreter(kind, tmp_path):
  path = tmp_path / "describe.py"
  path.write_text(_DESCRIBE)
  program = {"-c": ("-c", _DESCRIBE), "-m": ("-m", "describe")}.get(
    kind, (str(path),)
  )
  words = (*program, "one", "--two=2")
  options = {
    "cwd": tmp_path,
    "input": "typed",
    "env": {**os.environ, "SOME": "value"},
  }
  found = outcome(warm_python.command(*words), **options)
  assert found == outcome([sys.executable, *words], **options)
  assert found[0] == 3


def test_tensorflow_is_there_from_the_start():
  code = "import sys; sys.exit(not {'keras', 'tensorflow'} <= {*sys.modules})"
  assert outcome(warm_python.command("-c", code))[0] == 0


def test_another_environment_of_imports_gets_an_interpreter_of_its_own():
  code = "import os, sys; print(os.environ['KERAS_HOME'], *sys.modules)"
  environment = {**os.environ, "KERAS_HOME": "here"}
  code, out, _ = outcome(warm_python.command("-c", code), env=environment)
  assert code == 0
  home, *modules = out.split()
  assert home == "here"
  assert "tensorflow" not in modules


def test_errors_and_signals_end_it_as_they_do_a_usual_process():
  code, _, errors = outcome(warm_python.command("-c", "{}[1]"))
  assert code == 1
  assert errors.endswith("KeyError: 1\n")
  for number in (signal.SIGTERM, signal.SIGKILL):
    program = f"import os; os.kill(os.getpid(), {int(number)})"
    assert outcome(warm_python.command("-c", program))[0] == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_it_ends_the_program(number):
  program = "import time; print('ready', flush=True); time.sleep(600)"
  with subprocess.Popen(
    warm_python.command("-c", program), stdout=subprocess.PIPE, text=True
  ) as process:
    assert process.stdout.readline()
    process.send_signal(number)
    assert process.stdout.read() == ""  # Until all who could write have ended.
  assert process.returncode == -number
