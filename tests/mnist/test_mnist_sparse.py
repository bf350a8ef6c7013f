# SPDX-License-Identifier: Apache-2.0
"""`--sparse_compute`: runs whose layers hold their active connections alone."""

import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from mnist_runs import (
  SHORT,
  assert_same_run,
  final_tensors,
  metrics,
  records,
  without_timing,
)
from script_runs import refusal

from rigl.mnist import layer_forms
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.sparse import SparseDense
from rigl.sparse.checkpoints import compact_names, fitted
from rigl.sparse.timing import StepTimes
from rigl.training import checkpoints

CSR = "--sparse_compute=csr"
COMMON = (
  "--num_epochs=3",
  "--checkpoint_epochs=1",
  "--maskupdate_frequency=7",
  "--mask_record_frequency=5",
)
METHODS = [
  "rigl",
  *(
    pytest.param(method, marks=pytest.mark.slow)
    for method in ("momentum", "set", "static", "scratch", "snip", "prune")
  ),
]
# They change only what rounding changes.
CLOSE = ("loss", "accuracy", "cross_entropy")

pytestmark = pytest.mark.usefixtures("without_xla")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Runs that several tests compare with, made once."""
  return tmp_path_factory.mktemp("runs")


def run_in(shell, runs, method, form):
  path = runs / f"{method}_{form}"
  if not path.exists():
    shell.train(
      path, *COMMON, f"--training_method={method}", f"--sparse_compute={form}"
    )
  return path


def assert_close_runs(first, second, tolerance=1e-3):
  """Two runs have the same connections, and losses up to rounding."""
  rows = [without_timing(path) for path in (first, second)]
  assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
  for a, b in zip(*rows, strict=True):
    for name in a:
      if name.endswith(CLOSE):
        assert float(a[name]) == pytest.approx(float(b[name]), abs=tolerance)
      else:
        assert a[name] == b[name], name
  found = [records(path) for path in (first, second)]
  assert found[0].keys() == found[1].keys()
  for iteration, masks in found[0].items():
    for name, mask in masks.items():
      np.testing.assert_array_equal(mask, found[1][iteration][name])
  results = [
    json.loads((p / "result.json").read_text()) for p in (first, second)
  ]
  assert results[0].keys() == results[1].keys()
  for name, value in results[0].items():
    assert value == pytest.approx(results[1][name], abs=tolerance), name


@pytest.mark.parametrize("method", METHODS)
def test_a_run_has_the_connections_of_masked_training(shell, runs, method):
  csr, masked = (run_in(shell, runs, method, f) for f in ("csr", "none"))
  assert_close_runs(csr, masked)
  names = compact_names(final_tensors(csr))
  assert sorted(names) == ["layer1", "layer2"]
  assert not compact_names(final_tensors(masked))


def test_initial_weights_and_masks_have_the_bits_of_masked_ones(
  shell, tmp_path
):
  runs = {
    form: shell.run_of(
      *SHORT,
      "--training_method=rigl",
      f"--sparse_compute={form}",
      f"--save_path={tmp_path / form}",
    )
    for form in ("none", "csr")
  }
  kernels = runs["none"].state.task.model.kernels
  layers = runs["csr"].state.task.model.kernels
  assert [isinstance(k, SparseDense) for k in layers.values()] == [1, 1, 0]
  for name, kernel in kernels.items():
    found = layers[name]
    found = found.kernel() if isinstance(found, SparseDense) else found.numpy()
    np.testing.assert_array_equal(found, kernel.numpy())
  for a, b in zip(
    runs["none"].state.optimizer.layers,
    runs["csr"].state.optimizer.layers,
    strict=True,
  ):
    np.testing.assert_array_equal(a.active_positions(), b.active_positions())
  assert (
    runs["csr"].state.task.model.layer_specs()
    == runs["none"].state.task.model.layer_specs()
  )


@pytest.mark.parametrize(
  "method",
  ["rigl", *(pytest.param(m, marks=pytest.mark.slow) for m in ("snip", "set"))],
)
@pytest.mark.parametrize("calls", [1, 4])
def test_a_stopped_run_ends_with_the_same_bits(
  shell, monkeypatch, tmp_path, runs, method, calls
):
  arguments = (*COMMON, f"--training_method={method}", CSR)
  with monkeypatch.context() as patch:
    advance, made = TensorFlowExecutor.advance, []

    def advance_and_stop(executor, iteration, limit):
      progress = advance(executor, iteration, limit)
      made.append(progress)
      if len(made) == calls:
        os.kill(os.getpid(), signal.SIGTERM)
      return progress

    patch.setattr(TensorFlowExecutor, "advance", advance_and_stop)
    outcome = shell(*SHORT, f"--save_path={tmp_path}", *arguments)
  assert outcome.code == 128 + signal.SIGTERM
  # Threads change nothing.
  out = shell.train(tmp_path, *arguments, "--sparse_threads=3")
  assert "Resumed at iteration" in out
  assert_same_run(tmp_path, run_in(shell, runs, method, "csr"))


@pytest.mark.parametrize("first", ["csr", "none"])
@pytest.mark.parametrize(
  "method",
  [
    "rigl",
    *(
      pytest.param(m, marks=pytest.mark.slow)
      for m in ("momentum", "snip", "prune")
    ),
  ],
)
def test_a_run_resumes_in_another_form(shell, tmp_path, runs, method, first):
  second = {"csr": "none", "none": "csr"}[first]
  arguments = (*COMMON, f"--training_method={method}")
  shell.train(
    tmp_path, *arguments, "--num_epochs=2", f"--sparse_compute={first}"
  )
  saved = final_tensors(tmp_path)
  last = (*SHORT, *arguments, f"--save_path={tmp_path}")
  run = shell.run_of(*last, f"--sparse_compute={second}")
  run.state.restore(tmp_path)
  # What is restored has the same bits.
  state = {
    n: v.numpy() for n, v in run.state.optimizer.checkpoint_state().items()
  }
  state |= {n: v.numpy() for n, v in run.state.all_variables.items()} | state
  back = fitted(state, saved)
  for name, value in saved.items():
    if name != "iteration":
      assert np.asarray(back[name]).tobytes() == value.tobytes(), name
  run.directory.close()
  assert "Resumed at iteration 20." in shell.done(
    *last, f"--sparse_compute={second}"
  )
  assert_close_runs(tmp_path, run_in(shell, runs, method, "none"))


@pytest.mark.parametrize("seen_by", ["csr", "none"])
def test_checkpoints_of_both_forms_are_evaluated(
  shell, runs, tmp_path, seen_by
):
  run = shell.run_of(
    *SHORT,
    "--training_method=rigl",
    f"--sparse_compute={seen_by}",
    f"--save_path={tmp_path}",
  )
  for form in ("csr", "none"):
    path = run_in(shell, runs, "rigl", form)
    run.state.load(str(path / "model.ckpt-30"))
    found = run.executor.evaluate()["accuracy"]
    result = json.loads((path / "result.json").read_text())
    assert found == pytest.approx(result["test_accuracy"], abs=6e-3)


def test_pixels_are_chosen_by_a_run_of_either_form(shell, runs, tmp_path):
  shapes = []
  for form in ("csr", "none"):
    run = shell.run_of(
      *SHORT,
      f"--input_mask_path={run_in(shell, runs, 'rigl', form)}",
      f"--save_path={tmp_path / form}",
    )
    shapes.append(run.executor.source.zeros()["images"].shape[1])
  assert shapes[0] == shapes[1] < 784


def times(csr, masked, masked_xla):
  def measure(inputs, outputs, *args, **options):
    del args, options
    return StepTimes(csr[outputs], masked, masked_xla)

  return measure


@pytest.mark.parametrize(
  ("csr", "xla", "forms"),
  [
    ({300: 1.0, 100: 3.0}, 9.0, {"layer1": "csr", "layer2": "none"}),
    ({300: 1.0, 100: 1.0}, 9.0, {"layer1": "csr", "layer2": "csr"}),
    # Without XLA a layer takes 2 s, with it 1 s.
    ({300: 0.5, 100: 3.0}, 1.0, {"layer1": "none", "layer2": "none"}),
  ],
)
def test_auto_takes_the_forms_of_the_shortest_step_and_keeps_them(
  shell, monkeypatch, tmp_path, csr, xla, forms
):
  arguments = ("--training_method=rigl", "--sparse_compute=auto", *COMMON)
  with monkeypatch.context() as patch:
    patch.setattr(layer_forms, "time_steps", times(csr, 2.0, xla))
    out = shell.train(tmp_path, *arguments, "--num_epochs=1")
  for name, form in forms.items():
    assert f"--sparse_compute=auto: {name} {form}; " in out
  record = json.loads((tmp_path / "run.json").read_text())
  assert record["choices"] == {"sparse_compute": forms}
  found = compact_names(final_tensors(tmp_path))
  assert sorted(found) == [n for n, form in forms.items() if form == "csr"]
  # Another choice now, but the run keeps its own.
  other = times({300: 9.0 - csr[300], 100: 9.0 - csr[100]}, 2.0, 9.0 - xla)
  monkeypatch.setattr(layer_forms, "time_steps", other)
  out = shell.train(tmp_path, *arguments, "--num_epochs=2")
  assert "Resumed at iteration 10." in out and "auto:" not in out
  assert sorted(compact_names(final_tensors(tmp_path))) == sorted(found)
  record = json.loads((tmp_path / "run.json").read_text())
  assert record["choices"] == {"sparse_compute": forms}


@pytest.mark.parametrize(
  "flags",
  [
    ("--training_method=baseline",),
    ("--training_method=dnw",),
    ("--training_method=rigl", "--jit_compile=true"),
  ],
)
def test_auto_is_masked_where_nothing_else_can_be(
  shell, monkeypatch, tmp_path, flags
):
  monkeypatch.setattr(layer_forms, "time_steps", None)
  run = shell.run_of(
    *SHORT, "--sparse_compute=auto", f"--save_path={tmp_path}", *flags
  )
  kernels = run.state.task.model.kernels.values()
  assert all(isinstance(kernel, tf.Variable) for kernel in kernels)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (("--training_method=baseline",), "needs a sparse `training_method`"),
    (("--training_method=dnw",), "`training_method`='dnw'"),
    (
      ("--training_method=rigl", "--jit_compile=true"),
      "does not go with `jit_compile`=true",
    ),
    (
      ("--training_method=rigl", "--grow_init=initial_dist"),
      "`grow_init` must not be 'initial_dist'",
    ),
    (
      (
        "--training_method=rigl",
        "--gin_bindings=SparseRigLOptimizer.structure = '2:4'",
      ),
      "no `structure`",
    ),
  ],
)
def test_what_needs_every_connection_is_refused_in_one_line(
  shell, tmp_path, monkeypatch, flags, message
):
  monkeypatch.chdir(tmp_path)
  assert message in refusal(shell, tmp_path, *SHORT, CSR, *flags)


def test_several_devices_are_refused():
  from rigl.mnist.mnist_settings import MnistSettings

  flags = MnistSettings(training_method="rigl", sparse_compute="csr")
  layer_forms.check(flags, 1)
  with pytest.raises(ValueError, match="trains on one device"):
    layer_forms.check(flags, 2)


def test_a_run_of_each_form_has_a_directory_of_its_own(
  shell, monkeypatch, tmp_path
):
  monkeypatch.chdir(tmp_path)
  paths = set()
  for form in ("none", "csr"):
    run = shell.run_of(
      *SHORT, "--training_method=rigl", f"--sparse_compute={form}"
    )
    paths.add(run.directory.path.name.rpartition("_")[0])
  assert paths == {"rigl_0.98_seed0", "rigl-csr_0.98_seed0"}


def test_variables_take_at_most_14_4_bytes_per_connection(shell, tmp_path):
  run = shell.run_of(
    *SHORT,
    "--training_method=rigl",
    CSR,
    f"--save_path={tmp_path}",
    "--gin_bindings=MnistFc.units = (1000, 1000, 10)",
    "--sparsity_scale=1",
    "--end_sparsity=0.95",
  )
  state = run.state
  connections = dict(layer1=0.05 * 784_000, layer2=0.05 * 1e6)
  for layer in state.optimizer.layers[:2]:
    number = layer.active_positions().size
    assert number == pytest.approx(connections[layer.name], abs=1)
    total = sum(
      v.numpy().nbytes
      for name, v in state.all_variables.items()
      if name.startswith(f"{layer.name}/") and "biases" not in name
    )
    assert total <= 1.2 * 12 * number


def test_a_bad_step_is_skipped_also_when_it_moves_connections(
  shell, monkeypatch, tmp_path
):

  run = shell.run_of(
    *SHORT,
    "--training_method=rigl",
    CSR,
    "--on_nonfinite=skip",
    f"--save_path={tmp_path}",
  )
  state = run.state
  run.executor.advance(0, 3)
  before = {n: v.numpy() for n, v in state.all_variables.items()}
  layer = state.task.model.layers[2]
  bias = layer.bias.numpy()
  layer.bias.assign(np.full_like(bias, np.nan))
  run.executor.advance(4, 5)
  layer.bias.assign(bias)
  for name, variable in state.all_variables.items():
    if name not in ("global_step", "last_mask_update_step"):
      np.testing.assert_array_equal(variable.numpy(), before[name], name)


@pytest.mark.slow
def test_losses_are_those_of_masked_training_over_1000_steps(shell, tmp_path):
  arguments = (
    "--training_method=rigl",
    "--learning_rate=0.02",
    "--num_epochs=101",
    "--maskupdate_frequency=100",
    "--maskupdate_end_step=1000",
    "--mask_record_frequency=100",
    "--gin_bindings=MnistFc.units = (40, 30, 10)",
    "--end_sparsity=0.9",
  )
  for form in ("csr", "none"):
    shell.train(tmp_path / form, *arguments, f"--sparse_compute={form}")
  assert_close_runs(tmp_path / "csr", tmp_path / "none")
  updates = [float(r["mask_changed"]) > 0 for r in metrics(tmp_path / "csr")]
  assert sum(updates) >= 10


def test_checkpoints_are_small(shell, runs):
  csr, masked = (run_in(shell, runs, "rigl", f) for f in ("csr", "none"))
  sizes = [
    (path / "model.ckpt-30.data-00000-of-00001").stat().st_size
    for path in (csr, masked)
  ]
  assert sizes[0] < 0.2 * sizes[1]
  assert checkpoints.list_numbers(csr) == [20, 30]
