# SPDX-License-Identifier: Apache-2.0
"""The page of examples/web, in headless Chromium."""

import base64
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import web_page

from rigl.formats.litert import interpreter

# Trains two networks for an epoch.
pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "web"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """The folder of the built page."""
  if shutil.which("node") is None or web_page.find_browser() is None:
    pytest.skip("Node or Chromium is not installed.")
  if not (EXAMPLE / "node_modules" / "esbuild").is_dir():
    pytest.skip("npm ci --prefix examples/web has not run.")
  folder = tmp_path_factory.mktemp("web")
  models, output = folder / "models", folder / "dist"
  for command in (
    [
      *(sys.executable, str(EXAMPLE / "make_models.py"), "--quick"),
      *(f"--output={models}", f"--runs={folder / 'runs'}"),
    ],
    [
      *("node", str(EXAMPLE / "build.mjs")),
      *(f"--models={models}", f"--output={output}"),
    ],
  ):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
  return output


@pytest.fixture(scope="module")
def visit(page):
  report, missing = web_page.visit(page, web_page.find_browser())
  assert "failure" not in report, report
  assert missing == []
  return report


def shares_of(place, images):
  """Probabilities by Python's interpreter."""
  found = interpreter.run(place.read_bytes(), {"images": images[None]})
  logits = found["logits" if "logits" in found else "output_0"][0]
  shares = np.exp(logits - logits.max())
  return shares / shares.sum()


def test_examples_are_classified_as_in_python(page, visit):
  listed = json.loads((page / "models" / "models.json").read_text())["digits"]
  assert [example["label"] for example in listed["examples"]] == [*range(10)]
  right = 0
  for example, shown in zip(listed["examples"], visit["examples"], strict=True):
    pixels = np.frombuffer(base64.b64decode(example["pixels"]), np.uint8)
    for network, answer in zip(
      listed["networks"], shown["answer"], strict=True
    ):
      shares = shares_of(page / "models" / network["file"], pixels)
      digit, percent = re.fullmatch(r"(\d) \(([\d.]+)\s%\)", answer).groups()
      assert int(digit) == shares.argmax()
      assert float(percent) == pytest.approx(100 * shares.max(), abs=0.1)
      right += int(digit) == example["label"]
    assert len(shown["classes"]) == 10
  assert right >= 16  # Of 20, after an epoch.


def test_sizes_zeros_and_times_of_both_are_shown(page, visit):
  shown = {"digits": visit["examples"][0], "pictures": visit["picture"]}
  for name, section in shown.items():
    for kind, size, zeros, time in zip(
      ("dense", "sparse"),
      section["bytes"],
      section["zeros"],
      section["time"],
      strict=True,
    ):
      place = page / "models" / f"{name}_{kind}.tflite"
      number, unit = size.split()
      factor = {"kB": 1e3, "MB": 1e6}[unit]
      assert float(number) * factor == pytest.approx(
        place.stat().st_size, rel=0.01
      )
      assert re.fullmatch(r"[\d.]+ ms", time)
      assert (float(zeros.split()[0]) > 80) == (kind == "sparse")
    assert re.match(
      r"The sparse file is [\d.]+ times smaller", section["summary"]
    )
  for accuracy in shown["digits"]["accuracy"]:
    assert float(accuracy.split()[0]) > 85


def test_digits_are_drawn_with_keys_and_pointers(visit):
  assert visit["cleared"]["answer"] == ["–", "–"]
  assert visit["cleared"]["summary"] == "Draw a digit."
  assert visit["pen"] == "The pen is down."
  assert [text[0] for text in visit["keyboard"]["answer"]] == ["1", "1"]
  assert [text[0] for text in visit["pointer"]["answer"]] == ["0", "0"]
  assert visit["unnamed"] == []


def test_pictures_are_classified_as_in_python(page, visit):
  size = json.loads((page / "models" / "models.json").read_text())["pictures"][
    "image_size"
  ]
  red = np.zeros([size, size, 3], np.uint8)
  red[..., 0] = 255
  for kind, answer in zip(
    ("dense", "sparse"), visit["red"]["answer"], strict=True
  ):
    shares = shares_of(page / "models" / f"pictures_{kind}.tflite", red)
    number, percent = re.fullmatch(
      r"class (\d+) \(([\d.]+)\s%\)", answer
    ).groups()
    assert int(number) == shares.argmax()
    assert float(percent) == pytest.approx(100 * shares.max(), abs=0.1)
  assert visit["name"] == "red.png"
  assert "text.png is no picture" in visit["error"]
  assert visit["red"]["answer"] != visit["picture"]["answer"]


def test_a_folder_of_other_files_is_never_built_into(page, tmp_path):
  (tmp_path / "models").mkdir()
  (tmp_path / "mine.txt").write_text("mine")
  done = subprocess.run(
    [
      *("node", str(EXAMPLE / "build.mjs")),
      *(f"--models={page / 'models'}", f"--output={tmp_path}"),
    ],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1 and "mine.txt" in done.stderr
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "mine.txt",
    "models",
  ]
