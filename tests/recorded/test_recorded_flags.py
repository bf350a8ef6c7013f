"""The flags of the commands are those of the recording."""

import pytest
from recordings import COMMANDS, FLAGS_FILE, defined_flags, load_json

RECORDED = load_json(FLAGS_FILE)


def test_every_command_is_recorded():
  assert set(COMMANDS) == set(RECORDED)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_flag_vanishes_or_changes(command):
  found, recorded = defined_flags(command), RECORDED[command]
  assert set(recorded) - set(found) == set()
  assert {name: found[name] for name in recorded} == recorded
