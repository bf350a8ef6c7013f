# SPDX-License-Identifier: Apache-2.0
"""Positions that count gradient steps, and reports with and without tests."""

import pytest
from loop_fakes import fake_loop, run

from rigl.training.loop import STEPS, Event

BY_STEPS = {"unit": STEPS}


def positions(found):
  return [(report.step, report.iteration) for report in found]


def test_total_counts_steps_and_updates_of_rigl_come_on_top():
  loop, programs, found = fake_loop(True, 4, intervals=BY_STEPS)
  run(loop, 10)
  kinds = [kind for kind, _ in programs.done]
  # Updates at the steps 0, 3, 6 and 9.
  assert kinds == (["update"] + ["step"] * 3) * 3 + ["update", "step"]
  assert [i for _, i in programs.done] == list(range(14))
  assert loop.position == 10 and loop.state.iteration == 14
  assert positions(found) == [(4, 6), (8, 11), (10, 14)]


def test_update_due_at_the_end_is_left_out():
  loop, programs, _ = fake_loop(True, 4, intervals=BY_STEPS)
  run(loop, 9)
  assert programs.done[-1] == ("step", 11)
  # A longer run makes it.
  run(loop, 10)
  assert programs.done[-2:] == [("update", 12), ("step", 13)]


def test_update_due_at_an_event_comes_after_it():
  seen = []
  event = Event(3, lambda at: seen.append((at, programs.done[-1][0])))
  loop, programs, _ = fake_loop(True, 0, events=[event], intervals=BY_STEPS)
  run(loop, 7)
  assert seen == [(3, "step"), (6, "step")]


def test_steps_and_iterations_are_the_same_where_updates_are_none():
  """SET and others update after a step."""
  by_iterations, first, _ = fake_loop(False)
  by_steps, second, _ = fake_loop(False, intervals=BY_STEPS)
  run(by_iterations, 20)
  run(by_steps, 20)
  assert first.done == second.done
  assert by_iterations.position == by_steps.position == 20


@pytest.mark.parametrize("update_is_iteration", [True, False])
def test_run_goes_on_where_it_stopped(update_is_iteration):
  whole, programs, _ = fake_loop(update_is_iteration, intervals=BY_STEPS)
  run(whole, 30)
  parts, again, _ = fake_loop(update_is_iteration, intervals=BY_STEPS)
  for total in (7, 8, 8, 21, 30):
    run(parts, total)
    assert parts.position == total
  assert again.done == programs.done


def test_events_happen_at_their_steps_and_at_the_end():
  seen, at_ends = [], []
  events = [
    Event(5, seen.append),
    Event(5, at_ends.append, at_start=True, at_end=True),
  ]
  loop, _, _ = fake_loop(True, events=events, intervals=BY_STEPS)
  run(loop, 12)
  assert seen == [5, 10]
  assert at_ends == [0, 5, 10, 12]


def test_only_some_reports_evaluate():
  options = {**BY_STEPS, "evaluate": 6}
  loop, programs, found = fake_loop(True, 4, intervals=options)
  run(loop, 14)
  assert [report.step for report in found] == [4, 6, 8, 12, 14]
  tested = [report.step for report in found if report.test]
  assert tested == [6, 12, 14]
  assert len(programs.evaluated_at) == 3
  assert loop.last is found[-1]


def test_reports_never_evaluate_if_evaluations_are_off():
  options = {**BY_STEPS, "evaluate": 0}
  loop, programs, found = fake_loop(True, 4, intervals=options)
  run(loop, 10)
  assert [report.step for report in found] == [4, 8, 10]
  assert not any(report.test for report in found)
  assert programs.evaluated_at == [] and loop.last is None


def test_a_save_follows_a_report_that_starts_the_sums_anew():
  options = {**BY_STEPS, "evaluate": 0, "save": 6}
  seen = []
  loop, _, found = fake_loop(
    False,
    4,
    loss=float,
    intervals=options,
    on_save=lambda: seen.append((loop.position, found[-1].step)),
  )
  run(loop, 12)
  assert [report.step for report in found] == [4, 6, 8, 12]
  # Means of the losses 0 to 3, 4 and 5, 6 and 7, 8 to 11.
  assert [r.train["loss"] for r in found] == [1.5, 4.5, 6.5, 9.5]
  # A save sees nothing that is added up still.
  assert seen == [(6, 6), (12, 12)]
