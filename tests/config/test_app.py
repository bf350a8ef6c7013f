# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import gin
import pytest
from absl import flags

from rigl.config import app

# The modules it imports load in a moment: TensorFlow is not among them.
SCRIPT = """
from absl import flags
from rigl.config import app

def define():
  flags.DEFINE_integer("size", 1, "A size.")

def main(arguments):
  with app.one_line_errors():
    if flags.FLAGS.size == 2:
      raise ValueError("`size` must\\n  not be 2.")
    if flags.FLAGS.size == 3:
      open("/no/such/file")
    if flags.FLAGS.size == 4:
      raise TypeError("a mistake of ours")
  if flags.FLAGS.size == 5:
    raise ValueError("a mistake of ours")
  if flags.FLAGS.size == 6:
    open("/no/such/file")
  print("size", flags.FLAGS.size, arguments[1:])

app.run(main, define)
"""


@gin.configurable(module="test_command_line")
def toy_layer(size=1):
  return size + 1


@pytest.fixture
def script(tmp_path):
  path = tmp_path / "script.py"
  path.write_text(SCRIPT)

  def run(*arguments):
    command = [sys.executable, str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True)

  return run


HOME = """
from absl import flags
from rigl.config import app

def define():
  flags.DEFINE_string("place", "", "A place.")

app.run(lambda arguments: print(flags.FLAGS.place), define)
"""


@pytest.mark.parametrize(
  ("typed", "found"),
  [
    ("--place=~/runs", "/someone/runs"),
    ("-place=~", "/someone"),
    ("--place=~y/runs", "~y/runs"),
    ("--place=runs~/a", "runs~/a"),
    ("--place=a=~/b", "a=~/b"),
  ],
)
def test_a_home_directory_becomes_no_folder_of_that_name(typed, found):
  done = subprocess.run(
    [sys.executable, "-c", HOME, typed],
    capture_output=True,
    text=True,
    env={**os.environ, "HOME": "/someone"},
  )
  assert done.stdout == f"{found}\n", done.stderr


def test_script_runs_with_its_flags(script):
  found = script("--size=7")
  assert (found.returncode, found.stdout) == (0, "size 7 []\n")


@pytest.mark.parametrize(
  ("argument", "named"),
  [
    ("--size=2", "`size` must not be 2."),
    ("--size=3", "/no/such/file"),
    ("--size=6", "/no/such/file"),
    ("--size=big", "--size=big"),
    ("--sise=3", "sise"),
    ("stray", "stray"),
  ],
)
def test_errors_of_the_user_are_one_line_and_exit_code_1(
  script, argument, named
):
  found = script(argument)
  assert (found.returncode, found.stdout) == (1, "")
  assert found.stderr.startswith("error: ")
  assert found.stderr.count("\n") == 1
  assert named in found.stderr


@pytest.mark.parametrize("size", [4, 5])
def test_errors_of_the_program_keep_their_traceback(script, size):
  found = script(f"--size={size}")
  assert found.returncode == 1
  assert "Traceback" in found.stderr
  assert "a mistake of ours" in found.stderr


@pytest.mark.parametrize("size", [2, 6])
def test_verbosity_shows_the_traceback_of_such_an_error(script, size):
  found = script(f"--size={size}", "--verbosity=1")
  assert found.returncode == 1
  assert "Traceback" in found.stderr
  assert found.stderr.splitlines()[-1].startswith("error: ")


def test_help_shows_the_flags_of_the_script(script):
  assert "A size." in script("--help").stdout


def test_help_shows_flags_that_another_file_defines(tmp_path):
  (tmp_path / "library.py").write_text(SCRIPT.replace("app.run", "#"))
  (tmp_path / "command.py").write_text(
    "import library\nlibrary.app.run(library.main, library.define)\n"
  )
  done = subprocess.run(
    [sys.executable, str(tmp_path / "command.py"), "--help"],
    capture_output=True,
    text=True,
  )
  assert "A size." in done.stdout


def one_line_of(capsys, action):
  with pytest.raises(SystemExit) as stop, app.one_line_errors():
    action()
  assert stop.value.code == 1
  out, err = capsys.readouterr()
  assert out == ""
  assert err.startswith("error: ") and err.count("\n") == 1
  return err


def test_what_gin_adds_to_an_error_is_left_out(capsys):
  def refuse():
    raise ValueError("`size` is wrong.")

  line = one_line_of(capsys, gin.external_configurable(refuse, "refuse"))
  assert line == "error: `size` is wrong.\n"


@pytest.fixture
def gin_flags():
  before = set(flags.FLAGS)
  for name in ("gin_config", "gin_bindings"):
    flags.DEFINE_multi_string(name, [], "")
  yield flags.FLAGS
  for name in set(flags.FLAGS) - before:
    delattr(flags.FLAGS, name)
  gin.clear_config()


def test_wrong_type_from_gin_is_one_line_naming_the_function(capsys, gin_flags):
  gin_flags(["program", "--gin_bindings=toy_layer.size = 'a'"])
  gin.parse_config("toy_layer.size = 'a'")
  line = one_line_of(capsys, toy_layer)
  assert "`--gin_config`/`--gin_bindings`: toy_layer: " in line


@pytest.mark.parametrize("error", [AttributeError, KeyError, ZeroDivisionError])
def test_any_error_from_gin_is_one_line_naming_the_function(
  capsys, gin_flags, error
):
  def refuse(value=1):
    raise error(value)

  name = f"refuse_by_{error.__name__}"
  function = gin.external_configurable(refuse, name)
  gin_flags(["program", f"--gin_bindings={name}.value = 'x'"])
  gin.parse_config(f"{name}.value = 'x'")
  assert f"{name}: " in one_line_of(capsys, function)


def test_a_long_message_is_cut(capsys):
  def refuse():
    raise ValueError("begin" + 10**5 * "x" + "end")

  line = one_line_of(capsys, refuse)
  assert line.startswith("error: begin") and line.endswith("end\n")
  assert len(line) < 2100


def test_type_error_without_gin_bindings_is_one_of_the_program(gin_flags):
  gin_flags(["program"])
  with pytest.raises(TypeError), app.one_line_errors():
    toy_layer("a")
