# SPDX-License-Identifier: Apache-2.0
"""The file of what a stopped run did not report."""

import json

import pytest

from rigl.training import unreported
from rigl.training.unreported import Unreported

FOUND = Unreported(3, {"loss": 0.1 + 0.2}, 1 / 3, 1.5, 2, True)


def test_what_is_saved_is_loaded_with_the_same_bits(tmp_path):
  unreported.save(tmp_path, 7, FOUND)
  assert unreported.load(tmp_path, 7) == FOUND


def test_the_file_of_another_iteration_does_not_belong_to_a_checkpoint(
  tmp_path,
):
  unreported.save(tmp_path, 7, FOUND)
  assert unreported.load(tmp_path, 8).is_empty
  assert (tmp_path / "unreported.json").exists()


def test_without_a_file_there_is_nothing_left(tmp_path):
  assert unreported.load(tmp_path, 7).is_empty
  unreported.remove(tmp_path)


def test_steps_without_metrics_take_no_part_in_means():
  """A runner that brings none back may be followed by one that does."""
  found = Unreported()
  found.add(30, {}, None)
  found.add(2, {"loss": 3.0}, None)
  assert found.metrics["loss"] / found.steps == 1.5


WHOLE = {"iteration": 7, "steps": 3, "metrics": {"loss": 1.0}, "seconds": 1.0}


@pytest.mark.parametrize(
  "text",
  [
    "",
    "{",
    "[]",
    "{}",
    "\0",
    json.dumps(WHOLE)[:-9],
    json.dumps(WHOLE | {"steps": -1}),
    json.dumps(WHOLE | {"steps": "x"}),
    json.dumps(WHOLE | {"steps": None}),
    json.dumps(WHOLE | {"metrics": {"loss": float("nan")}}),
    json.dumps(WHOLE | {"metrics": 3}),
    json.dumps(WHOLE | {"iteration": "x"}),
    json.dumps(WHOLE | {"unknown": 1}),
    json.dumps(WHOLE | {"is_reported": "no"}),
    json.dumps(WHOLE | {"next_event": 1.5}),
    json.dumps(WHOLE | {"seconds": 10**400}),
    json.dumps(WHOLE | {"steps": 10**400}),
    "[" * 100_000,
  ],
)
def test_a_damaged_file_is_set_aside_and_named(tmp_path, text, caplog):
  file = tmp_path / "unreported.json"
  file.write_text(text)
  assert unreported.load(tmp_path, 7).is_empty
  assert not file.exists()
  assert (tmp_path / "unreported.json.damaged").read_text() == text
  assert f"`{file}` is damaged" in caplog.text
