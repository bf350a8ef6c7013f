# SPDX-License-Identifier: Apache-2.0
"""`--sparse_compute=block`: runs whose layers hold active blocks alone."""

import json
import os
import signal

import pytest
from mnist_runs import SHORT, assert_same_run, records
from script_runs import refusal

from rigl.runners.tensorflow_executor import TensorFlowExecutor

COMMON = (
  "--num_epochs=3",
  "--checkpoint_epochs=1",
  "--maskupdate_frequency=7",
  "--mask_record_frequency=5",
)

pytestmark = pytest.mark.usefixtures("without_xla")


BLOCKS = (
  *COMMON,
  "--sparse_compute=block",
  "--block_size=8",
  "--end_sparsity=0.5",
  "--gin_bindings=MnistFc.units = (32, 32, 10)",
)


@pytest.mark.parametrize(
  "method", ["rigl", pytest.param("set", marks=pytest.mark.slow)]
)
def test_a_run_of_blocks_that_was_stopped_ends_with_the_same_bits(
  shell, monkeypatch, tmp_path, method
):
  arguments = (*BLOCKS, f"--training_method={method}")
  whole, stopped = tmp_path / "whole", tmp_path / "stopped"
  shell.train(whole, *arguments)
  with monkeypatch.context() as patch:
    advance, made = TensorFlowExecutor.advance, []

    def advance_and_stop(executor, iteration, limit):
      progress = advance(executor, iteration, limit)
      made.append(progress)
      if len(made) == 4:
        os.kill(os.getpid(), signal.SIGTERM)
      return progress

    patch.setattr(TensorFlowExecutor, "advance", advance_and_stop)
    outcome = shell(*SHORT, f"--save_path={stopped}", *arguments)
  assert outcome.code == 128 + signal.SIGTERM
  assert "Resumed at iteration" in shell.train(stopped, *arguments)
  assert_same_run(stopped, whole)
  masks = list(records(whole).values())
  assert (masks[0]["layer2"] != masks[-1]["layer2"]).any()
  for mask in (m[name] for m in masks for name in ("layer1", "layer2")):
    blocks = mask.reshape(mask.shape[0] // 8, 8, mask.shape[1] // 8, 8)
    assert (blocks.all((1, 3)) == blocks.any((1, 3))).all()
  settings = json.loads((whole / "run.json").read_text())["settings"]
  assert (settings["sparse_compute"], settings["block_size"]) == ("block", 8)
  # Another form would be another run.
  outcome = shell(
    *SHORT, f"--save_path={whole}", *arguments, "--sparse_compute=none"
  )
  assert outcome.code == 1 and "holds another run" in outcome.err


def test_blocks_are_evaluated_as_masked_layers(shell, tmp_path):
  shell.train(tmp_path / "run", *BLOCKS, "--training_method=rigl")
  run = shell.run_of(
    *SHORT,
    *BLOCKS,
    "--training_method=rigl",
    "--sparse_compute=none",
    f"--save_path={tmp_path / 'masked'}",
  )
  run.state.load(str(tmp_path / "run" / "model.ckpt-30"))
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  found = run.executor.evaluate()["accuracy"]
  assert found == pytest.approx(result["test_accuracy"], abs=6e-3)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (("--training_method=baseline",), "needs a sparse `training_method`"),
    (("--training_method=snip",), "needs a `training_method` in"),
    (("--training_method=rigl", "--block_size=0"), "`block_size` must be in"),
  ],
)
def test_what_blocks_cannot_do_is_refused_in_one_line(
  shell, tmp_path, monkeypatch, flags, message
):
  monkeypatch.chdir(tmp_path)
  assert message in refusal(
    shell, tmp_path, *SHORT, "--sparse_compute=block", *flags
  )
