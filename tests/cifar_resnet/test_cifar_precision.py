# SPDX-License-Identifier: Apache-2.0
"""`--precision=bfloat16`: what computes in it, and what stays float32."""

import json

import numpy as np
import pytest
import tensorflow as tf
from cifar_runs import SHORT, Shell, only_run
from script_runs import final_tensors

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.wide_resnet import WideResNet

IMAGES = tf.constant(
  np.random.default_rng(0).normal(size=[4, 32, 32, 3]).astype(np.float32)
)


def network(precision):
  return WideResNet(10, 1, 10, seed=0, precision=precision)


def test_convolutions_compute_in_bfloat16_and_the_rest_is_float32():
  model = network("bfloat16")
  key = tf.constant([0, 0], tf.int64)
  graph = tf.function(lambda: model(IMAGES, key)).get_concrete_function()
  operations = graph.graph.get_operations()
  kinds = {
    kind: {op.inputs[0].dtype for op in operations if op.type == kind}
    for kind in ("Conv2D", "FusedBatchNormV3", "MatMul")
  }
  assert kinds == {
    "Conv2D": {tf.bfloat16},
    "FusedBatchNormV3": {tf.bfloat16},
    "MatMul": {tf.float32},
  }
  assert graph.outputs[0].dtype == tf.float32
  assert {v.dtype for v in model.variables} == {tf.float32}


def test_logits_are_those_of_float32_to_three_digits():
  found, wanted = (
    network(precision)(IMAGES).numpy() for precision in ("bfloat16", "float32")
  )
  difference = np.abs(found - wanted).max()
  assert 0 < difference < 0.02 * np.abs(wanted).max()


def test_unknown_precision_is_refused():
  with pytest.raises(ValueError, match=r"`precision` must be one of .*'half'"):
    network("half")


@pytest.mark.slow
def test_precision_defines_a_run_unless_it_is_the_default(
  tmp_path, monkeypatch, capsys
):
  shell = Shell(resnet_train_eval, CifarSettings, monkeypatch, capsys)
  flags = ("--training_method=rigl", "--max_steps=4")
  shell.train(tmp_path / "b", *flags, "--precision=bfloat16")
  path = only_run(tmp_path / "b")
  tensors = final_tensors(path)
  weights = [n for n in tensors if n.endswith(("weights", "Momentum"))]
  assert weights and {tensors[n].dtype for n in weights} == {np.dtype("f4")}
  settings = json.loads((path / "run.json").read_text())["settings"]
  assert settings["precision"] == "bfloat16"
  refused = shell(*SHORT, *flags, f"--train_dir={tmp_path / 'b'}")
  assert refused.code == 1
  assert "precision = 'bfloat16' there, the default now" in refused.err
