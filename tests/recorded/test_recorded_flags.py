# SPDX-License-Identifier: Apache-2.0
"""The flags of the commands are those of the recording."""

import copy

import pytest
from recordings import COMMANDS, FLAGS_FILE, defined_flags, load_json

RECORDED = load_json(FLAGS_FILE)


def test_every_command_is_recorded():
  assert set(COMMANDS) == set(RECORDED)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_flag_vanishes_or_changes(command):
  found, recorded = defined_flags(command), copy.deepcopy(RECORDED[command])
  assert set(recorded) - set(found) == set()
  for name, flag in recorded.items():
    choices = set(flag.pop("choices") or ())
    assert choices <= set(found[name].pop("choices") or ()), name
    assert found[name] == flag, name
