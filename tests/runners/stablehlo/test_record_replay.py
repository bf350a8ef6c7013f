# SPDX-License-Identifier: Apache-2.0
"""The plans of runs against the calls that their loops really make."""

import math

import numpy as np
import pytest
from script_runs import Shell

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings
from rigl.runners import pace
from rigl.runners.stablehlo import export, record_replay

pytestmark = pytest.mark.usefixtures("eagerly")
SLOWER = ["set", "prune", "baseline", "dnw", "momentum", "granet", "top_kast"]
METHODS = ["rigl", "snip"] + [
  pytest.param(method, marks=pytest.mark.slow) for method in SLOWER
]
SCHEDULES = (
  "--use_synthetic_data",
  "--maskupdate_frequency=4",
  "--maskupdate_end_step=17",
  "--pruning_frequency=3",
)


@pytest.fixture(autouse=True)
def a_step_takes_a_minute(monkeypatch):
  """Any machine is slow, and calls may take as long as they want.

  A plan is that of a machine whose calls are never cut for their duration.
  """
  note = pace.Pace.note

  def note_minutes(self, steps, seconds):
    del seconds
    note(self, steps, 60.0 * steps)

  monkeypatch.setattr(pace.Pace, "note", note_minutes)
  monkeypatch.setattr(pace, "_SECONDS", math.inf)


@pytest.fixture
def mnist(monkeypatch, capsys, tmp_path):
  """Makes a run of 3 epochs of 10 iterations."""
  shell = Shell(mnist_train_eval, MnistSettings, monkeypatch, capsys)

  def make(*arguments):
    return shell.run_of(
      *SCHEDULES,
      "--num_epochs=3",
      "--prune_begin_step=2",
      "--prune_end_step=14",
      f"--save_path={tmp_path / 'mnist'}",
      *arguments,
    )

  return make


@pytest.fixture
def cifar(monkeypatch, capsys, tmp_path):
  """Makes a run of 20 steps; an epoch has 8."""
  shell = Shell(resnet_train_eval, CifarSettings, monkeypatch, capsys)

  def make(*arguments):
    return shell.run_of(
      *SCHEDULES,
      "--resnet_depth=10",
      "--resnet_width=1",
      "--batch_size=4",
      "--dataset_size=34",
      "--max_steps=20",
      "--summaries_steps=3",
      "--checkpoint_steps=7",
      "--sparsity_begin_step=2",
      "--sparsity_end_step=14",
      f"--train_dir={tmp_path / 'cifar'}",
      *arguments,
    )

  return make


def record(run, monkeypatch):
  """Notes the calls of programs and saves in a list."""
  calls, executor = [], run.executor

  def note(owner, name, kind, describe=lambda *arguments: []):
    function = getattr(owner, name)

    def noting(*arguments):
      calls.append([kind, *describe(*arguments)])
      return function(*arguments)

    monkeypatch.setattr(owner, name, noting)

  note(executor, "_train", "train", lambda _, i, count: [int(i), int(count)])
  note(executor, "_update", "update", lambda *given: [int(given[-1])])
  note(executor, "evaluate", "evaluate")
  note(executor, "state_metrics", "inspect")
  note(run.state, "save", "save", lambda _, position, *rest: [position])
  return calls


def plan_of(run):
  return record_replay.make_plan(run, run.executor.source)


def bits(run):
  return {
    name: v.numpy().tobytes() for name, v in run.state.all_variables.items()
  }


@pytest.mark.parametrize("method", METHODS)
def test_plan_is_what_the_loop_calls(mnist, method, monkeypatch):
  run = mnist(f"--training_method={method}")
  before = bits(run)
  planned = plan_of(run)
  assert bits(run) == before
  assert run.state.iteration == 0 and run.loop.last is None
  calls = record(run, monkeypatch)
  run.prepare()
  run.run()
  run.finish()
  assert planned == calls
  kinds = {call[0] for call in calls}
  updates = {"update"} if method not in ("baseline", "dnw") else set()
  assert kinds == {"train", "evaluate", "inspect", "save"} | updates


def joined(calls, planned):
  """The calls of a loop, with those that make one planned call as one."""
  rest, found = list(calls), []
  for kind, *numbers in planned:
    call = rest.pop(0)
    while kind == call[0] == "train" and call[2] < numbers[1] and rest:
      assert rest[0][:2] == ["train", call[1] + call[2]]
      call = [*call[:2], call[2] + rest.pop(0)[2]]
    found.append(call)
  return found + rest


def test_slow_machine_only_cuts_planned_calls(mnist, monkeypatch, tmp_path):
  runs = []
  for seconds in (math.inf, 120.0):  # The latter is the time of two steps.
    monkeypatch.setattr(pace, "_SECONDS", seconds)
    run = mnist(
      "--training_method=rigl", f"--save_path={tmp_path / str(seconds)}"
    )
    planned, calls = plan_of(run), record(run, monkeypatch)
    run.prepare()
    run.run()
    run.finish()
    runs.append((planned, calls, bits(run)))
  (planned, whole, expected), (same, cut, found) = runs
  assert planned == whole == same
  assert planned != cut and joined(cut, planned) == planned
  counts = [call[2] for call in cut if call[0] == "train"]
  assert max(counts[2:]) == 2  # The first call tells nothing of the speed.
  assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "train_and_eval"])
@pytest.mark.parametrize("method", ["rigl", "set"])
def test_plan_by_steps_is_what_the_loop_calls(cifar, method, mode, monkeypatch):
  run = cifar(f"--training_method={method}", f"--mode={mode}")
  planned = plan_of(run)
  calls = record(run, monkeypatch)
  run.prepare()
  run.run()
  assert planned == calls
  assert sum(call[2] for call in calls if call[0] == "train") == 20
  saved = [call[1] for call in calls if call[0] == "save"]
  assert saved == [7, 14, 20]
  run.reporter.close()


def test_plan_of_a_resumed_run_is_the_rest(mnist):
  whole = plan_of(mnist("--training_method=rigl"))
  run = mnist("--training_method=rigl")
  run.prepare()
  run.run(20)
  run.reporter.close()
  run.directory.close()
  resumed = mnist("--training_method=rigl")
  assert resumed.state.restore(resumed.directory.path)
  rest = plan_of(resumed)
  assert resumed.state.iteration == 20
  assert rest == whole[-len(rest) :]
  assert rest[0][1] == 20


def test_replay_of_other_results_is_refused(mnist):
  run = mnist("--training_method=set")
  results = [(call, {}) for call in plan_of(run) if call[0] != "save"]
  for wrong in (results[1:], []):
    replay = record_replay.Replay(run.state, run.executor.source, wrong)
    run.state.global_step.assign(0)
    run.state.optimizer.last_update_step.assign(-4)
    with pytest.raises(ValueError, match=r"expected \['train', 0, 1\], got"):
      replay.advance(0, 1)


def test_finish_makes_the_files_of_a_run_that_was_trained(mnist, tmp_path):
  """Results and state of one run, put back into another of its settings."""
  run = mnist("--training_method=rigl")
  planned = [call for call in plan_of(run) if call[0] != "save"]
  results = []
  for call in planned:
    kind, *numbers = call
    program, arguments = run.executor.lowerable()[kind]
    if kind in ("train", "update"):
      numbers = [np.int64(number) for number in numbers]
      order = run.executor.source.order(int(numbers[0]))
      takes_order = "order" in arguments
      found = program(*([order] if takes_order else []), *numbers)
    elif kind == "evaluate":
      found = program(*arguments.values())
    else:
      found = program()
    results.append((call, {name: float(v) for name, v in found.items()}))
  state = {name: v.numpy() for name, v in run.state.all_variables.items()}
  run.directory.close()
  other = mnist("--training_method=rigl")
  result = record_replay.finish(other, other.executor.source, results, state)
  assert bits(other) == bits(run)
  # The same as the loop makes of it.
  usual = mnist("--training_method=rigl", f"--save_path={tmp_path / 'usual'}")
  usual.prepare()
  usual.run()
  assert usual.finish() == result
  assert bits(usual) == bits(run)


def test_masks_on_the_way_cannot_be_recorded_elsewhere(mnist):
  run = mnist("--training_method=rigl", "--mask_record_frequency=5")
  with pytest.raises(ValueError, match="`mask_record_frequency` must be 0"):
    export.in_memory_parts(run)
