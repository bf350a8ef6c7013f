# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed at random moments lose nothing.

`tests/helpers/kill_runs.py` kills as many as are wanted.
"""

import kill_runs
import pytest

# CIFAR-10 takes a minute and goes through the same loop and files.
LONG = ("cifar10",)


@pytest.mark.slow
@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[pytest.mark.long] if name in LONG else [])
    for name in kill_runs.SCRIPTS
  ],
)
def test_killed_processes_end_with_the_same_bits(name, tmp_path):
  campaign = kill_runs.Campaign(kill_runs.SCRIPTS[name], tmp_path, seed=3)
  campaign.kill(2)
  assert campaign.tally.kills.total() == 2
  assert campaign.tally.runs
