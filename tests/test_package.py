# SPDX-License-Identifier: Apache-2.0
"""The package as a whole: what it needs, what it brings, how it is set up."""

import fnmatch
import importlib.metadata
import importlib.resources
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import rigl

if sys.version_info >= (3, 11):
  import tomllib
else:
  import tomli as tomllib  # pytest brings it.

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def requirement_name(requirement):
  return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")


def test_version_stands_in_one_place():
  assert re.fullmatch(r"\d+\.\d+\.\d+\S*", rigl.__version__)
  assert "version" not in PROJECT
  assert "version" in PROJECT["dynamic"]
  source = PYPROJECT["tool"]["setuptools"]["dynamic"]["version"]
  assert source == {"attr": "rigl.version.__version__"}
  assert "version" not in (ROOT / "setup.py").read_text()
  stating = [
    path.name
    for path in (ROOT / "rigl").rglob("*.py")
    if re.search(r"^__version__\s*=", path.read_text(), re.MULTILINE)
  ]
  assert stating == ["version.py"]


@pytest.mark.parametrize("name", ["rigl-mnist", "rigl-flops", "rigl-predict"])
def test_script_is_a_command(name):
  assert name in PROJECT["scripts"]


@pytest.mark.parametrize("name, target", PROJECT["scripts"].items())
def test_command_resolves(name, target):
  entry = importlib.metadata.EntryPoint(name, target, "console_scripts")
  assert callable(entry.load())


def test_every_data_file_is_package_data():
  globs = PYPROJECT["tool"]["setuptools"]["package-data"]
  matched, left_out = set(), []
  for path in (ROOT / "rigl").rglob("*"):
    if not path.is_file() or path.suffix in (".py", ".md"):
      continue
    if "__pycache__" in path.parts:  # Also what Numba compiled.
      continue
    name = path.relative_to(ROOT).as_posix()
    for package, patterns in globs.items():
      folder = package.replace(".", "/")
      if any(fnmatch.fnmatch(name, f"{folder}/{p}") for p in patterns):
        matched.add(name)
    if name not in matched:
      left_out.append(name)
  assert left_out == []
  assert {"rigl/py.typed", "rigl/str_sparsities.json"} <= matched
  assert len([name for name in matched if "mnist/data" in name]) == 4


@pytest.mark.parametrize(
  "name",
  [
    "py.typed",
    "str_sparsities.json",
    "flops/paper/dsr_sparsities.json",
    "mnist/data/train-images-idx3-ubyte.gz",
    "mnist/data/train-labels-idx1-ubyte.gz",
    "mnist/data/t10k-images-idx3-ubyte.gz",
    "mnist/data/t10k-labels-idx1-ubyte.gz",
  ],
)
def test_data_file_is_where_the_package_is(name):
  assert importlib.resources.files("rigl").joinpath(name).is_file()


def test_an_editable_installation_is_a_path():
  # setuptools would otherwise make an import hook, which no type checker runs.
  assert PYPROJECT["tool"]["setuptools"]["package-dir"] == {"": "."}


def test_tensorflow_comes_by_extras_alone():
  extras = PROJECT["optional-dependencies"]
  assert {"cpu", "gpu", "tpu", "dev", "notebooks"} <= set(extras)
  for extra, distribution in (
    ("cpu", "tensorflow-cpu"),
    ("gpu", "tensorflow"),
    ("tpu", "tensorflow-tpu"),
  ):
    assert distribution in {requirement_name(r) for r in extras[extra]}
  hard = {requirement_name(r) for r in PROJECT["dependencies"]}
  distributions = {"tensorflow", "tensorflow-cpu", "tensorflow-tpu"}
  assert not distributions & (
    hard | {requirement_name(r) for r in extras["dev"]}
  )


@pytest.mark.parametrize("name", ["run.sh", ".ci/run"])
def test_shell_script_is_valid_bash(name):
  checked = subprocess.run(
    ["bash", "-n", str(ROOT / name)], capture_output=True, text=True
  )
  assert checked.returncode == 0, checked.stderr


def test_ci_script_is_executable():
  assert os.access(ROOT / ".ci" / "run", os.X_OK)


def fake_interpreter(path, version):
  """An interpreter that, asked for its version, says this one."""
  major, minor = version.split(".")
  path.write_text(
    f"""#!{sys.executable}
import sys
sys.version_info = ({major}, {minor}, 0, "final", 0)
if len(sys.argv) == 3 and sys.argv[1] == "-c":
  exec(sys.argv[2])
else:
  sys.exit("no installation in a test: " + " ".join(sys.argv[1:]))
"""
  )
  path.chmod(0o755)
  return str(path)


@pytest.fixture
def set_up(tmp_path):
  """Runs run.sh where all interpreters on the PATH have one version."""
  tools = tmp_path / "tools"
  tools.mkdir()
  for tool in ("bash", "cat", "dirname"):
    (tools / tool).symlink_to(shutil.which(tool))

  def run(version, python=None):
    for name in ("python3", *(f"python3.{minor}" for minor in range(10, 14))):
      fake_interpreter(tools / name, version)
    environment = {
      "PATH": str(tools),
      "RIGL_ENV": str(tmp_path / "environment"),
      **({"PYTHON": python} if python else {}),
    }
    return subprocess.run(
      ["bash", str(ROOT / "run.sh"), "python", "--version"],
      env=environment,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
    )

  return run


@pytest.mark.parametrize("version", ["3.9", "3.14", "2.7"])
def test_set_up_refuses_an_unfit_python(set_up, tmp_path, version):
  python = fake_interpreter(tmp_path / "python_of_the_user", version)
  result = set_up(version, python)
  assert result.returncode == 1
  assert "Python 3.10 to 3.13 is needed" in result.stderr
  assert "set PYTHON" in result.stderr
  assert not (tmp_path / "environment").exists()


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_set_up_takes_a_fit_python(set_up, version):
  result = set_up(version)
  assert result.returncode == 1
  assert "installing into" in result.stderr
  assert "no installation in a test: -m venv" in result.stderr


def test_the_extra_docs_is_what_builds_the_site():
  lines = (ROOT / "requirements-docs.txt").read_text().splitlines()
  requirements = [line for line in lines if not line.startswith("#")]
  assert PROJECT["optional-dependencies"]["docs"] == requirements
