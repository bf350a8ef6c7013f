# SPDX-License-Identifier: Apache-2.0
"""Processes that are forked from a warm interpreter are like others."""

import array
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
import warm_python

_DESCRIBE = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ["SOME"], __name__, sys.path[-1])
print(sys.stdin.read(), "rigl" in sys.modules)
print("end", file=sys.stderr)
sys.exit(3)
"""


_PARENT = "import os; print(os.getppid())"


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


@pytest.mark.parametrize(
  "name, value",
  [
    ("KERAS_HOME", "here"),
    ("JAX_NUM_CPU_DEVICES", "2"),
    ("PYTHONHASHSEED", "7"),
    ("TMPDIR", "/"),
  ],
)
def test_another_environment_of_imports_gets_an_interpreter_of_its_own(
  name, value
):
  code = f"import os, sys; print(os.environ['{name}'], *sys.modules)"
  environment = {**os.environ, name: value}
  code, out, _ = outcome(warm_python.command("-c", code), env=environment)
  assert code == 0
  found, *modules = out.split()
  assert found == value
  assert "tensorflow" not in modules


def test_a_program_has_syntax_and_open_files_of_its_own():
  with subprocess.Popen(
    warm_python.command("-c", "print(1, flush=True); input()"),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as other:
    assert other.stdout.readline()
    code = (
      "import os\n"
      "def function(x: int): pass\n"
      "print(function.__annotations__)\n"
      "names = [f'/proc/self/fd/{n}' for n in os.listdir('/proc/self/fd')]\n"
      "files = [os.readlink(n) for n in names if os.path.exists(n)]\n"
      "print(sum('socket:' in f or 'pidfd' in f for f in files))\n"
    )
    _, out, _ = outcome(warm_python.command("-c", code))
    other.communicate("")
  assert out == "{'x': <class 'int'>}\n0\n"


def test_programs_have_random_numbers_of_their_own():
  code = (
    "import random, numpy, tensorflow as tf\n"
    "print(random.random(), numpy.random.rand(), float(tf.random.uniform([])))"
  )
  first, second = (
    outcome(warm_python.command("-c", code))[1].split() for _ in range(2)
  )
  assert len(first) == 3
  assert all(one != two for one, two in zip(first, second, strict=True))


def test_errors_and_signals_end_it_as_they_do_a_usual_process():
  code, _, errors = outcome(warm_python.command("-c", "{}[1]"))
  assert code == 1
  assert errors.endswith("KeyError: 1\n")
  for number in (signal.SIGTERM, signal.SIGKILL):
    program = f"import os; os.kill(os.getpid(), {int(number)})"
    assert outcome(warm_python.command("-c", program))[0] == -number


def test_a_signal_that_comes_early_is_the_programs():
  program = (
    "import os, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
    "os.write(1, b'ready')\n"
    # Python handles a signal that comes just before a sleep after that one.
    "for _ in range(6000): time.sleep(0.1)"
  )
  for _ in range(5):
    with subprocess.Popen(
      warm_python.command("-c", program), stdout=subprocess.PIPE
    ) as process:
      assert os.read(process.stdout.fileno(), 5) == b"ready"
      process.terminate()
    assert process.returncode == 5


def test_who_is_killed_while_it_asks_does_no_harm():
  address = warm_python.command()[4]
  streams = array.array("i", [0, 1, 2]).tobytes()
  rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
  for sent in ((), ([(9).to_bytes(8, "big")], rights)):
    with socket.socket(socket.AF_UNIX) as asking:
      asking.connect(address)
      if sent:
        asking.sendmsg(*sent)
  assert outcome(warm_python.command("-c", "print(1)"), timeout=60)[1] == "1\n"


def test_the_end_of_the_first_process_ends_all_and_leaves_no_file(tmp_path):
  program = "import time; print(1, flush=True); time.sleep(600)"
  code = f"""
import os, subprocess, sys
sys.path.insert(0, {os.path.dirname(warm_python.__file__)!r})
import warm_python
words = warm_python.command("-c", {program!r})
process = subprocess.Popen(words, stdout=subprocess.PIPE)
process.stdout.readline()
print(words[4], flush=True)
"""
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
  )  # Which lasts until all who could write have ended.
  assert done.returncode == 0, done.stderr
  assert not os.path.exists(os.path.dirname(done.stdout.strip()))


def test_no_process_or_file_is_left_in_the_server():
  outcome(warm_python.command("-c", "pass"))
  server = int(outcome(warm_python.command("-c", _PARENT))[1])
  files = os.listdir(f"/proc/{server}/fd")
  for number in (signal.SIGTERM, signal.SIGKILL):
    with subprocess.Popen(
      warm_python.command("-c", "input()"), stdin=subprocess.PIPE
    ) as process:
      process.send_signal(number)
  outcome(warm_python.command("-c", "pass"))
  outcome(warm_python.command("-c", "pass"), env={**os.environ, "TF_A": "b"})
  assert outcome(warm_python.command("-c", _PARENT))[1] == f"{server}\n"
  end = time.monotonic() + 60
  while len(os.listdir(f"/proc/{server}/fd")) > len(files):
    assert time.monotonic() < end
    time.sleep(0.05)
  children = pathlib.Path(f"/proc/{server}/task/{server}/children")
  assert children.read_text() == ""


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


@pytest.mark.parametrize("repetition", [1, 2])
def test_a_variable_that_a_test_leaves_does_not_reach_the_next(repetition):
  assert "XLA_LEFT_BY_A_TEST" not in os.environ
  os.environ["XLA_LEFT_BY_A_TEST"] = str(repetition)
