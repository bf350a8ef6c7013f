# SPDX-License-Identifier: Apache-2.0
"""Every method with every network, and settings the published script broke at.

Two steps on synthetic data, eagerly: compiling takes far longer.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from script_runs import final_tensors

from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_trainer import build_trainer
from rigl.imagenet_resnet.model_flags import IMAGENET_METHODS

NETWORKS = {
  "resnet18": dict(model_architecture="resnet", resnet_depth=18, width=0.125),
  "resnet50": dict(model_architecture="resnet", resnet_depth=50, width=0.06),
  "mobilenet_v1": dict(model_architecture="mobilenet_v1", width=0.1),
  "mobilenet_v2": dict(model_architecture="mobilenet_v2", width=0.1),
  "vgg_a": dict(model_architecture="vgg_a", width=0.1),
  "vgg_16": dict(model_architecture="vgg_16", width=0.05),
  "vgg_19": dict(model_architecture="vgg_19", width=0.05),
}


def marks_of(network, method):
  """Fast: every method. Slow: every network. Long: all pairs of them."""
  if network == "vgg_a":
    return []
  if method == "rigl":
    return [pytest.mark.slow]
  return [pytest.mark.slow, pytest.mark.long]


# An update before each of the two steps, of which the last prunes all.
GRANET = {"maskupdate_frequency": 1, "maskupdate_end_step": 1}


def flags_of(network, method, path, **changes):
  return ImagenetSettings(
    **{
      **NETWORKS[network],
      "training_method": method,
      "image_size": 32,
      "num_label_classes": 10,
      "train_batch_size": 2,
      "maskupdate_frequency": 100,
      "mask_init_method": "erdos_renyi_kernel",
      "end_sparsity": 0.5,
      "use_synthetic_data": True,
      "export_model_freq": 0,
      "output_dir": str(path),
      **(GRANET if method == "granet" else {}),
      **changes,
    }
  )


def trained(flags, capsys):
  run = build_trainer(flags)
  before = {name: v.numpy() for name, v in run.state.variables.items()}
  run.prepare()
  run.run()
  result = run.finish()
  assert result["step"] == 2
  capsys.readouterr()
  for layer in run.state.optimizer.layers:
    assert not layer.kernel.numpy()[~layer.mask.numpy()].any()
  changed = [
    n for n, v in run.state.variables.items() if (v != before[n]).numpy().any()
  ]
  assert any(name.endswith(("weights", "kernel")) for name in changed)
  return run, result


@pytest.mark.parametrize(
  "network, method",
  [
    pytest.param(network, method, marks=marks_of(network, method))
    for network in NETWORKS
    for method in IMAGENET_METHODS
  ],
)
def test_every_method_and_every_network_train(
  network, method, tmp_path, eagerly, capsys
):
  run, result = trained(flags_of(network, method, tmp_path), capsys)
  expected = 0.0 if method == "baseline" else 0.5
  assert result["sparsity"] == pytest.approx(expected, abs=0.02)
  assert bool(run.state.optimizer.layers) == (method != "baseline")


@pytest.mark.parametrize(
  "changes",
  [
    dict(use_adam=True),
    dict(use_sgdr=True),
    dict(init_method="sparse"),
    dict(precision="bfloat16"),
    dict(last_layer_sparsity=0.0),
    dict(erk_power_scale=0.5),
  ],
  ids=str,
)
def test_settings_the_published_script_broke_at_train(
  changes, tmp_path, eagerly, capsys
):
  trained(flags_of("vgg_a", "rigl", tmp_path, **changes), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2"])
def test_a_mobilenet_may_have_a_sparse_first_layer(
  network, tmp_path, eagerly, capsys
):
  flags = flags_of(network, "rigl", tmp_path, first_layer_sparsity=0.3)
  run, _ = trained(flags, capsys)
  first = run.state.optimizer.layers[0]
  assert first.name == "resnet_model/initial_conv"
  mask = first.mask.numpy()
  assert np.count_nonzero(~mask) == int(0.3 * mask.size)


SMALL = (
  "--model_architecture=vgg_a",
  "--width=0.05",
  "--use_synthetic_data",
  "--train_steps=2",
  "--num_eval_images=8",
)


@pytest.mark.slow
def test_channels_first_trains_as_channels_last(shell, tmp_path):
  tensors = {}
  for form in ("channels_last", "channels_first"):
    shell.done(
      *SMALL,
      "--mode=train_and_eval",
      "--training_method=rigl",
      f"--data_format={form}",
      f"--output_dir={tmp_path / form}",
      "--export_model_freq=2",
    )
    tensors[form] = final_tensors(tmp_path / form)
  for name, values in tensors["channels_last"].items():
    np.testing.assert_allclose(
      tensors["channels_first"][name], values, rtol=1e-3, atol=1e-5
    )
  results = [
    json.loads((tmp_path / f / "result.json").read_text()) for f in tensors
  ]
  assert results[0] == results[1]
  export = tmp_path / "channels_first" / "export" / "2"
  predict = tf.saved_model.load(str(export)).signatures["serving_default"]
  jpeg = tf.io.encode_jpeg(tf.zeros([40, 40, 3], tf.uint8))
  found = predict(image_bytes=jpeg[None])
  np.testing.assert_allclose(tf.reduce_sum(found["probabilities"]), 1, 1e-5)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_channels_first_without_xla_needs_a_gpu(shell, tmp_path, mode):
  outcome = shell(
    *SMALL,
    f"--mode={mode}",
    "--data_format=channels_first",
    "--jit_compile=false",
    f"--output_dir={tmp_path / 'run'}",
  )
  assert outcome.code == 1
  assert "`data_format` channels_first needs a GPU or XLA" in outcome.err
  assert not (tmp_path / "run").exists()
