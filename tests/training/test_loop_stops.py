# SPDX-License-Identifier: Apache-2.0
"""A loop that is stopped goes on as if it had not been."""

import pytest
from loop_fakes import fake_loop, run

from rigl.training.executor import StoppedError
from rigl.training.loop import Event

TOTAL = 24


class Journal:
  """A loop of fakes, and what its events did: (name, position)."""

  def __init__(self, stop_at=(), unreported=None, state=None):
    self.done, self.asked = [], 0
    self._stop_at = stop_at
    events = [
      Event(6, lambda i: self._note("six", i)),
      Event(8, lambda i: self._note("eight", i), at_end=True),
    ]
    self.loop, self.executor, self.reports = fake_loop(
      True,
      events=events,
      intervals={"save": 12},
      on_save=lambda: self.done.append(("save", self.loop.position)),
    )
    self.loop._asks_to_stop = self._asks
    if state is not None:
      self.loop.state.iteration = state.iteration
      self.loop.state.global_step.assign(state.global_step)
      self.loop.state.optimizer.last = state.optimizer.last
      self.loop.resume(unreported)

  def _asks(self):
    self.asked += 1
    return self.asked in self._stop_at

  def _note(self, name, position):
    self.done.append((name, position))

  def run(self):
    run(self.loop, TOTAL)
    return self


def values(reports):
  return [(r.iteration, r.step, r.train, r.test) for r in reports]


WHOLE = Journal().run()


def test_a_loop_asks_before_every_call_and_every_event():
  assert WHOLE.asked > 10 and not WHOLE.loop.is_stopped
  assert WHOLE.loop.unreported.is_empty


@pytest.mark.parametrize("number", range(1, WHOLE.asked + 1))
def test_a_stop_anywhere_changes_neither_reports_nor_events(number):
  first = Journal(stop_at=[number]).run()
  assert first.loop.is_stopped
  assert first.loop.position < TOTAL or not first.loop.unreported.is_empty
  second = Journal(
    unreported=first.loop.unreported, state=first.loop.state
  ).run()
  assert not second.loop.is_stopped
  assert first.done + second.done == WHOLE.done
  assert values(first.reports + second.reports) == values(WHOLE.reports)
  assert first.executor.done + second.executor.done == WHOLE.executor.done


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_an_evaluation_that_stops_is_repeated(nth):
  first, calls = Journal(), []

  def evaluate():
    calls.append(first.loop.position)
    if len(calls) == nth:
      raise StoppedError
    return {"loss": 7.0}

  first.executor.evaluate = evaluate
  first.run()
  assert first.loop.is_stopped
  assert first.loop.unreported.next_event is not None
  assert not first.loop.unreported.is_reported
  second = Journal(
    unreported=first.loop.unreported, state=first.loop.state
  ).run()
  assert first.done + second.done == WHOLE.done
  assert values(first.reports + second.reports) == values(WHOLE.reports)


def test_an_event_that_stops_after_its_report_is_repeated_alone():
  first = Journal()
  broken = []

  def note(name, position):
    if name == "eight" and not broken:
      broken.append(position)
      raise StoppedError
    first.done.append((name, position))

  first._note = note
  first.run()
  left = first.loop.unreported
  assert left.is_reported and left.next_event is not None
  assert len(first.reports) == 1
  second = Journal(unreported=left, state=first.loop.state).run()
  assert first.done + second.done == WHOLE.done
  assert values(first.reports + second.reports) == values(WHOLE.reports)
