# SPDX-License-Identifier: Apache-2.0
"""Schedules against the published numbers and hand-worked values."""

import ast
import dataclasses
import gzip
import json
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from rigl import schedules
from rigl.schedules import PiecewiseConstant, PruningSchedule, UpdateSchedule

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
N_CALLS = 70
ANNEALS = ("constant", "cosine", "exponential", "exponential_3")


def load(name):
  with gzip.open(GOLDEN / f"{name}.json.gz", "rt") as file:
    return json.load(file)


@pytest.fixture(scope="module")
def steps_golden():
  return load("mask_update_steps")


@pytest.fixture(scope="module")
def schedules_golden():
  return load("schedules_small")


def schedule_of(record):
  return UpdateSchedule(record["begin"], record["end"], record["frequency"])


def walk(schedule, rigl):
  """Rows (step before, after, last before, after, updated) of all calls."""
  step, last, rows = 0, schedule.initial_last_update_step, []
  for _ in range(N_CALLS):
    tested = step if rigl else step + 1
    updates = schedule.is_update_step(tested, last)
    after = step if rigl and updates else step + 1
    rows.append([step, after, last, tested if updates else last, int(updates)])
    step, last = after, rows[-1][3]
  return rows


# --- When masks are updated ---------------------------------------------------


@pytest.mark.parametrize("optimizer", ["SET", "Static", "Momentum", "RigL"])
def test_update_steps_are_the_published_ones(steps_golden, optimizer):
  runs = [r for r in steps_golden["runs"] if r["optimizer"] == optimizer]
  assert len(runs) >= 12
  for run in runs:
    schedule = schedule_of(run)
    expected = [row[:5] for row in run["rows"]]
    first = run["initial_last_mask_update_step"]
    assert schedule.initial_last_update_step == first
    assert walk(schedule, optimizer == "RigL") == expected, run["frequency"]


@pytest.mark.parametrize("optimizer", ["SET", "Static", "Momentum", "RigL"])
def test_next_update_step_jumps_along_the_published_steps(
  steps_golden, optimizer
):
  for run in steps_golden["runs"]:
    if run["optimizer"] != optimizer:
      continue
    schedule = schedule_of(run)
    rigl = optimizer == "RigL"
    tested, last = (0 if rigl else 1), schedule.initial_last_update_step
    calls = []
    while True:
      tested = schedule.next_update_step(tested, last)
      # A RigL update takes a call without advancing the step.
      call = None if tested is None else tested + len(calls) * rigl - (not rigl)
      if call is None or call >= N_CALLS:
        break
      calls.append(call)
      last = tested
      tested += not rigl
    assert calls == run["update_call_indices"]


def test_next_update_step_is_the_first_step_that_updates():
  for begin, end, frequency in [(0, 9, 3), (4, 4, 1), (5, -1, 7), (0, 0, 2)]:
    schedule = UpdateSchedule(begin, end, frequency)
    for last in range(-frequency, 12):
      for step in range(14):
        later = [s for s in range(step, 40) if schedule.is_update_step(s, last)]
        expected = later[0] if later else None
        assert schedule.next_update_step(step, last) == expected


def test_first_update_is_at_begin_step():
  for begin in (0, 1, 7):
    schedule = UpdateSchedule(begin, 100, 10)
    assert schedule.next_update_step(0, schedule.initial_last_update_step) == (
      begin
    )


def test_no_update_outside_the_window():
  schedule = UpdateSchedule(10, 20, 1)
  inside = [s for s in range(40) if schedule.is_update_step(s, -1)]
  assert inside == list(range(10, 21))
  assert schedule.next_update_step(21, 20) is None


def test_negative_end_never_ends():
  for end in (-1, -5):
    schedule = UpdateSchedule(3, end, 10)
    assert schedule.is_update_step(10**12, 10**12 - 10)
    assert not schedule.is_update_step(2, -10)
    assert schedule.next_update_step(10**12, 0) == 10**12


def test_is_update_step_answers_for_arrays_and_tensors_as_for_ints():
  for schedule in (UpdateSchedule(3, 17, 4), UpdateSchedule(3, -1, 4)):
    steps = np.arange(30)
    for last in (-4, 3, 9, 20):
      expected = [schedule.is_update_step(int(s), last) for s in steps]
      assert all(type(answer) is bool for answer in expected)
      assert schedule.is_update_step(steps, last).tolist() == expected
      in_graph = tf.function(schedule.is_update_step)
      tensors = tf.constant(steps, tf.int64), tf.constant(last, tf.int64)
      assert in_graph(*tensors).numpy().tolist() == expected


# --- How much is dropped ------------------------------------------------------


def is_well_defined(record, step):
  """Whether the published fraction is one to reproduce."""
  moving = record["anneal"] != "constant"
  if record["end"] < 0 or record["begin"] == record["end"] == step:
    return not moving
  if record["anneal"] == "cosine":
    return record["begin"] == 0 or not record["begin"] <= step < record["end"]
  return True


def test_drop_fraction_is_the_published_one(steps_golden):
  n_compared = 0
  for record in steps_golden["drop_fraction"]:
    schedule = UpdateSchedule(
      record["begin"],
      record["end"],
      1,
      record["drop_fraction"],
      record["anneal"],
    )
    for step, published in zip(
      record["global_steps"], record["values_float32"], strict=True
    ):
      if is_well_defined(record, step):
        answer = schedule.drop_fraction_at(step)
        assert float(answer) == pytest.approx(published, abs=1e-6)
        n_compared += 1
  assert n_compared > 1500


def test_cosine_starts_at_begin_step():
  schedule = UpdateSchedule(100, 300, 1, 0.4, "cosine")
  root = math.sqrt(0.5)
  expected = {
    99: 0.0,
    100: 0.4,
    150: 0.2 * (1 + root),
    200: 0.2,
    250: 0.2 * (1 - root),
    300: 0.0,
    301: 0.0,
  }
  for step, value in expected.items():
    answer = float(schedule.drop_fraction_at(step))
    assert answer == pytest.approx(value, abs=1e-7)


def test_exponential_values_by_hand():
  half = UpdateSchedule(10, 20, 1, 0.5, "exponential_.5")
  cubic = UpdateSchedule(10, 20, 1, 0.5, "exponential_3")
  linear = UpdateSchedule(10, 20, 1, 0.5, "exponential")
  # At step 15 half of the window is left.
  for schedule, left in ((half, 0.5**0.5), (cubic, 0.125), (linear, 0.5)):
    assert float(schedule.drop_fraction_at(10)) == 0.5
    assert float(schedule.drop_fraction_at(15)) == pytest.approx(0.5 * left)
    assert float(schedule.drop_fraction_at(9)) == 0
    assert float(schedule.drop_fraction_at(21)) == 0


@pytest.mark.parametrize("anneal", ANNEALS)
def test_endless_schedule_keeps_the_initial_fraction(anneal):
  schedule = UpdateSchedule(5, -1, 1, 0.3, anneal)
  values = schedule.drop_fraction_at(np.array([0, 4, 5, 1000, 10**9]))
  expected = [0, 0, np.float32(0.3), np.float32(0.3), np.float32(0.3)]
  assert values.tolist() == expected


@pytest.mark.parametrize("anneal", ANNEALS)
def test_window_of_one_step_drops_the_initial_fraction(anneal):
  schedule = UpdateSchedule(7, 7, 1, 0.3, anneal)
  values = schedule.drop_fraction_at(np.array([6, 7, 8]))
  assert values.tolist() == [0, np.float32(0.3), 0]


@pytest.mark.parametrize("anneal", [*ANNEALS, "exponential_.5"])
def test_drop_fraction_is_bounded_and_never_rises(anneal):
  for fraction in (0.0, 0.1, 0.3, 1.0):
    for begin, end in [(0, 1), (3, 1000), (500, 25000), (0, 49)]:
      schedule = UpdateSchedule(begin, end, 1, fraction, anneal)
      steps = np.unique(np.linspace(begin, end, 2000).astype(int))
      values = schedule.drop_fraction_at(steps)
      assert values.dtype == np.float32
      assert values.min() >= 0
      assert values.max() <= np.float32(fraction)
      assert np.all(np.diff(values) <= 0)


def test_answers_for_a_number_are_float32_scalars():
  for anneal in ANNEALS:
    schedule = UpdateSchedule(0, 10, 1, 0.3, anneal)
    for step in (0, 5, np.int64(5), 11):
      assert type(schedule.drop_fraction_at(step)) is np.float32
  assert type(PruningSchedule(0, 9, 1, 0.9).sparsity_at(4)) is np.float32
  assert type(PiecewiseConstant((3,), (1, 2)).at(4)) is np.float32
  assert type(PiecewiseConstant((), (1,)).at(4)) is np.float32


# --- Piecewise constant -------------------------------------------------------


def test_learning_rates_are_the_published_ones(schedules_golden):
  records = list(schedules_golden["mnist_lr"].values())
  for record in schedules_golden["cifar_lr"]:
    # 0.1 divided by 5 at every boundary.
    values = [0.1 / 5**i for i in range(len(record["boundaries"]) + 1)]
    records.append({**record, "values": values})
  for record in records:
    rate = PiecewiseConstant(record["boundaries"], record["values"])
    for step, published in record["step_lr"]:
      assert float(rate.at(step)) == pytest.approx(published, rel=1e-6)


def test_boundary_still_has_the_earlier_value():
  rate = PiecewiseConstant((2.5, 4), (1, 2, 3))
  values = rate.at(np.array([0, 2, 2.5, 3, 4, 5]))
  assert values.dtype == np.float32
  assert values.tolist() == [1, 1, 1, 2, 2, 3]


def test_piecewise_constant_without_boundaries_is_constant():
  assert PiecewiseConstant((), (0.5,)).at(123) == 0.5


# --- Everywhere ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", [tf.float32, tf.int64])
def test_a_graph_answers_as_the_host_does(dtype):
  host_steps = np.arange(0, 40)
  functions = [PiecewiseConstant((5, 20), (0.1, 0.02, 0.004)).at]
  for begin, end in [(7, 30), (0, 0), (7, -1)]:
    for anneal in ("constant", "cosine", "exponential", "exponential_.5"):
      schedule = UpdateSchedule(begin, end, 3, 0.3, anneal)
      functions.append(schedule.drop_fraction_at)
  pruning = PruningSchedule(7, 30, 3, 0.9)
  functions.append(pruning.sparsity_at)
  functions.append(lambda step, ops=np: pruning.sparsity_at(step, ops, 0.8))

  @tf.function
  def in_graph(step):
    return [function(step, tf) for function in functions]

  answers = np.array([in_graph(tf.constant(s, dtype)) for s in host_steps])
  host = np.array([[f(int(s)) for f in functions] for s in host_steps])
  assert answers.dtype == host.dtype == np.float32
  np.testing.assert_allclose(answers, host, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"frequency": 0}, "`frequency` .* at least 1, got 0"),
    ({"frequency": 10.0}, "`frequency` must be an integer .* got 10.0"),
    ({"begin_step": -1}, "`begin_step` .* at least 0, got -1"),
    ({"end_step": 4}, r"`end_step` .* `begin_step` \(5\), got 4"),
    ({"end_step": 7.5}, "`end_step` must be an integer, got 7.5"),
    ({"drop_fraction": 1.5}, r"`drop_fraction` .* \[0, 1\], got 1.5"),
    ({"drop_fraction": -0.1}, r"`drop_fraction` .* \[0, 1\], got -0.1"),
    ({"drop_fraction": math.nan}, "`drop_fraction` .* got nan"),
    ({"drop_fraction_anneal": "linear"}, "'cosine', .* got 'linear'"),
    ({"drop_fraction_anneal": "cosine_2"}, "got 'cosine_2'"),
    ({"drop_fraction_anneal": "exponential_"}, "got 'exponential_'"),
    ({"drop_fraction_anneal": "exponential_0"}, "K > 0, got 'exponential_0'"),
    ({"drop_fraction_anneal": "exponential_nan"}, "got 'exponential_nan'"),
    ({"drop_fraction_anneal": "exponential_-1"}, "got 'exponential_-1'"),
  ],
)
def test_wrong_update_schedule_is_refused_with_its_argument(changes, message):
  arguments = {"begin_step": 5, "end_step": 10, "frequency": 1, **changes}
  with pytest.raises(ValueError, match=message):
    UpdateSchedule(**arguments)


@pytest.mark.parametrize(
  ("boundaries", "values", "message"),
  [
    ((2, 1), (1, 2, 3), "`boundaries` must increase"),
    ((1, 1), (1, 2, 3), "`boundaries` must increase"),
    ((1,), (1, 2, 3), r"`values` must be one more .* \(1\), got 3"),
    ((1,), (1, math.inf), "`values` must be finite"),
  ],
)
def test_wrong_piecewise_constant_is_refused(boundaries, values, message):
  with pytest.raises(ValueError, match=message):
    PiecewiseConstant(boundaries, values)


def test_schedules_are_immutable_values():
  schedule = UpdateSchedule(0, 10, 1)
  assert schedule == UpdateSchedule(0, 10, 1)
  assert len({schedule, UpdateSchedule(0, 10, 1)}) == 1
  with pytest.raises(dataclasses.FrozenInstanceError):
    schedule.frequency = 2
  assert hash(PiecewiseConstant([1], [2, 3])) == hash(
    PiecewiseConstant((1,), (2, 3))
  )


def test_schedules_import_only_numpy_and_the_standard_library():
  modules = set()
  for path in pathlib.Path(schedules.__file__).parent.glob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        modules.update(alias.name for alias in node.names)
      elif isinstance(node, ast.ImportFrom):
        modules.add(node.module)
  others = {name for name in modules if not name.startswith("rigl.")}
  standard = {"__future__", "collections.abc", "dataclasses", "math"}
  assert others == standard | {"typing", "numpy"}
  ours = modules - others
  assert {name.split(".")[1] for name in ours} == {
    "checks",
    "configurable",
    "schedules",
  }
