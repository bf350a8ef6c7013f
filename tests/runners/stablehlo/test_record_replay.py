"""The plans of runs against the calls that their loops really make."""

import numpy as np
import pytest
from script_runs import Shell, eagerly

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings
from rigl.runners.stablehlo import record_replay

__all__ = ["eagerly"]  # A fixture.

pytestmark = pytest.mark.usefixtures("eagerly")
SLOWER = ["set", "prune", "baseline", "dnw", "momentum"]
METHODS = ["rigl", "snip"] + [
  pytest.param(method, marks=pytest.mark.slow) for method in SLOWER
]
SCHEDULES = (
  "--use_synthetic_data",
  "--maskupdate_frequency=4",
  "--maskupdate_end_step=17",
  "--pruning_frequency=3",
)


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


def record(run):
  """Notes the calls of programs and saves in a list."""
  calls, programs = [], run.programs

  def note(name, kind):
    function = getattr(programs, name)

    def noting(*numbers):
      calls.append([kind, *numbers])
      return function(*numbers)

    setattr(programs, name, noting)

  note("train_steps", "train")
  note("update_masks", "update")
  note("evaluate", "evaluate")
  note("inspect", "inspect")
  save = run.save

  def saving():
    calls.append(["save", run.loop.position])
    save()

  run.save = saving
  return calls


def bits(run):
  return {name: v.numpy().tobytes() for name, v in run.all_variables.items()}


@pytest.mark.parametrize("method", METHODS)
def test_plan_is_what_the_loop_calls(mnist, method):
  run = mnist(f"--training_method={method}")
  before = bits(run)
  planned = record_replay.make_plan(run)
  assert bits(run) == before
  assert run.loop.iteration == 0 and run.loop.last is None
  calls = record(run)
  run.prepare()
  run.train_to_end()
  assert planned == calls
  kinds = {call[0] for call in calls}
  updates = {"update"} if method not in ("baseline", "dnw") else set()
  assert kinds == {"train", "evaluate", "inspect", "save"} | updates


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "train_and_eval"])
@pytest.mark.parametrize("method", ["rigl", "set"])
def test_plan_by_steps_is_what_the_loop_calls(cifar, method, mode):
  run = cifar(f"--training_method={method}", f"--mode={mode}")
  planned = record_replay.make_plan(run)
  calls = record(run)
  run.prepare()
  run.train(run.total)
  assert planned == calls
  assert sum(call[2] for call in calls if call[0] == "train") == 20
  saved = [call[1] for call in calls if call[0] == "save"]
  assert saved == [7, 14, 20]
  run.metrics.close()


def test_plan_of_a_resumed_run_is_the_rest(mnist):
  whole = record_replay.make_plan(mnist("--training_method=rigl"))
  run = mnist("--training_method=rigl")
  run.prepare()
  run.train(20)
  run.metrics.close()
  run.directory.close()
  resumed = mnist("--training_method=rigl")
  assert resumed.loop.restore(resumed.directory.path)
  rest = record_replay.make_plan(resumed)
  assert resumed.loop.iteration == 20
  assert rest == whole[-len(rest) :]
  assert rest[0][1] == 20


def test_replay_of_other_results_is_refused(mnist):
  run = mnist("--training_method=set")
  results = [
    (call, {}) for call in record_replay.make_plan(run) if call[0] != "save"
  ]
  for wrong in (results[1:], []):
    programs = record_replay.Replay(run, wrong)
    with pytest.raises(ValueError, match=r"expected \['train', 0, 1\], got"):
      programs.train_steps(0, 1)


def test_finish_makes_the_files_of_a_run_that_was_trained(mnist, tmp_path):
  """Results and state of one run, put back into another of its settings."""
  run = mnist("--training_method=rigl")
  planned = [call for call in record_replay.make_plan(run) if call[0] != "save"]
  results = []
  for call in planned:
    kind, *numbers = call
    program, _ = run.programs.exportable()[kind]
    if kind in ("train", "update"):
      numbers = [np.int64(number) for number in numbers]
      found = program(run.train_source.order(int(numbers[0])), *numbers)
    elif kind == "evaluate":
      found = program(run.programs._eval_order)
    else:
      found = program()
    results.append((call, {name: float(v) for name, v in found.items()}))
  state = {name: v.numpy() for name, v in run.all_variables.items()}
  run.directory.close()
  other = mnist("--training_method=rigl")
  result = record_replay.finish(other, results, state)
  assert bits(other) == bits(run)
  # The same as the loop makes of it.
  usual = mnist("--training_method=rigl", f"--save_path={tmp_path / 'usual'}")
  usual.prepare()
  assert usual.train_to_end() == result
  assert bits(usual) == bits(run)


def test_masks_on_the_way_cannot_be_recorded_elsewhere(mnist):
  run = mnist("--training_method=rigl", "--mask_record_frequency=5")
  with pytest.raises(ValueError, match="`mask_record_frequency` must be 0"):
    run.check_exportable()
