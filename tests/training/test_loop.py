# SPDX-License-Identifier: Apache-2.0
"""The loop over an executor that only notes its calls."""

import numpy as np
import pytest
from loop_fakes import fake_loop, run

from rigl.training.loop import Event


def one_by_one(update_is_iteration, total, begin, end, frequency):
  """What happens in which iteration, decided anew before every one."""
  done, step, last = [], 0, -frequency
  for iteration in range(total):
    if update_is_iteration:
      if in_window(step, last, begin, end, frequency):
        done.append(("update", iteration))
        last = step
        continue
      done.append(("step", iteration))
      step += 1
    else:
      done.append(("step", iteration))
      step += 1
      if in_window(step, last, begin, end, frequency):
        done.append(("update", iteration))
        last = step
  return done


def in_window(step, last, begin, end, frequency):
  inside = step >= begin and (end < 0 or step <= end)
  return inside and step >= last + frequency


WINDOWS = [(0, -1, 3), (0, -1, 1), (5, 17, 4), (0, 9, 100), (30, 40, 2)]


@pytest.mark.parametrize("update_is_iteration", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("record_every", [0, 1, 5])
def test_every_iteration_does_what_the_schedule_says(
  update_is_iteration, window, record_every
):
  begin, end, frequency = window
  loop, executor, _ = fake_loop(
    update_is_iteration,
    begin=begin,
    end=end,
    frequency=frequency,
    events=[Event(record_every, lambda _: None)],
  )
  run(loop, 43)
  expected = one_by_one(update_is_iteration, 43, begin, end, frequency)
  assert executor.done == expected
  steps = sum(kind == "step" for kind, _ in expected)
  assert loop.state.step == steps


def test_iterations_of_rigl_are_steps_and_updates_together():
  loop, executor, found = fake_loop(True)
  run(loop, 16)
  updates = sum(kind == "update" for kind, _ in executor.done)
  assert loop.state.iteration == 16
  assert found[-1].step + updates == found[-1].iteration == 16
  assert updates == 4


@pytest.mark.parametrize("update_is_iteration", [True, False])
def test_events_happen_at_their_iterations(update_is_iteration):
  seen = {every: [] for every in (0, 1, 5, 16)}
  events = [
    Event(every, iterations.append, at_start=every == 16)
    for every, iterations in seen.items()
  ]
  loop, executor, found = fake_loop(update_is_iteration, events=events)
  run(loop, 33)
  assert seen == {
    0: [],
    1: list(range(1, 34)),
    5: [5, 10, 15, 20, 25, 30],
    16: [0, 16, 32],
  }
  assert [report.iteration for report in found] == [8, 16, 24, 32, 33]


def test_actions_see_exactly_the_iterations_before_them():
  seen = []
  event = Event(5, lambda iteration: seen.append(len(executor.done)))
  loop, executor, _ = fake_loop(True, events=[event])
  run(loop, 16)
  assert seen == [5, 10, 15]
  assert executor.evaluated_at == [8, 16]


def test_at_one_iteration_a_report_comes_first_then_events_then_the_save():
  seen = []
  events = [
    Event(8, lambda i: seen.append(("one", i, len(found)))),
    Event(4, lambda i: seen.append(("two", i, len(found)))),
  ]
  loop, _, found = fake_loop(
    events=events,
    intervals={"save": 8},
    on_save=lambda: seen.append(("save", loop.position, len(found))),
  )
  run(loop, 8)
  assert seen == [
    ("two", 4, 0),
    ("one", 8, 1),
    ("two", 8, 1),
    ("save", 8, 1),
  ]


def test_calls_are_as_long_as_events_allow():
  events = [Event(6, lambda _: None)]
  loop, executor, _ = fake_loop(True, frequency=7, events=events)
  run(loop, 18)
  # Updates in iterations 0 and 8, and 16; epochs of 8; an event every 6.
  assert executor.calls == [(1, 5), (6, 2), (9, 3), (12, 4), (17, 1)]


def test_calls_end_with_the_epoch_also_without_evaluation():
  loop, executor, found = fake_loop(False, 0, frequency=100)
  run(loop, 20)
  assert executor.calls == [(0, 1), (1, 7), (8, 8), (16, 4)]
  assert found == [] and loop.last is None


def test_run_goes_on_where_it_stopped():
  whole, executor, _ = fake_loop(True)
  run(whole, 30)
  parts, again, _ = fake_loop(True)
  for total in (7, 8, 8, 21, 30):
    run(parts, total)
    assert parts.state.iteration == total
  assert again.done == executor.done


def test_events_at_the_start_happen_only_once():
  seen = []
  loop, _, _ = fake_loop(events=[Event(4, seen.append, at_start=True)])
  run(loop, 4)
  run(loop, 8)
  assert seen == [0, 4, 8]


def test_evaluation_holds_means_since_the_one_before():
  loop, _, found = fake_loop(True, loss=float)
  run(loop, 16)
  # Updates in iterations 0, 4, 8 and 12.
  steps = [[1, 2, 3, 5, 6, 7], [9, 10, 11, 13, 14, 15]]
  for evaluation, own in zip(found, steps, strict=True):
    assert evaluation.train["loss"] == pytest.approx(np.mean(own))
    assert evaluation.train["accuracy"] == pytest.approx(0.5)
    assert evaluation.train["mask_changed"] == pytest.approx(0.5)
    assert evaluation.train["drop_fraction"] == evaluation.step / 1000
    assert evaluation.test == {"loss": 7.0}
    assert evaluation.timing["steps_per_second"] > 0
  assert [evaluation.step for evaluation in found] == [6, 12]
  assert loop.last is found[-1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_loss_that_is_not_finite_stops_the_run_naming_where(bad):
  loop, executor, found = fake_loop(
    True, frequency=4, loss=lambda i: bad if i == 12 else 1.0
  )
  with pytest.raises(RuntimeError) as error:
    run(loop, 24)
  text = str(error.value)
  assert f"`loss` became {bad} between iterations 11 and 15" in text
  assert "learning rate" in text
  assert len(found) == 1
  assert executor.done[-1] == ("step", 14)
