# SPDX-License-Identifier: Apache-2.0
"""Flags of devices and runners, and their errors where something is missing."""

import json
import pathlib

import pytest
import tensorflow as tf
from script_runs import Shell

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.config import settings
from rigl.config.device_flags import DeviceFlags, compilation_cache
from rigl.distribution.replicas import Replicas
from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings

SCRIPTS = {
  "mnist": (mnist_train_eval, MnistSettings, "save_path"),
  "cifar10": (resnet_train_eval, CifarSettings, "train_dir"),
  "imagenet": (imagenet_train_eval, ImagenetSettings, "output_dir"),
}


def test_the_loop_runs_everywhere():
  DeviceFlags().check_runner()


@pytest.mark.parametrize("version", ("2.14.1", "2.16.1", "2.21.0"))
def test_another_tensorflow_is_refused(monkeypatch, version):
  monkeypatch.setattr(tf, "__version__", version)
  message = (
    rf"^`runner`=tpu_estimator needs TensorFlow 2\.15 \(installed: {version}\):"
    r" pip install -r requirements-tpu-estimator\.txt$"
  )
  with pytest.raises(ValueError, match=message):
    DeviceFlags(runner="tpu_estimator").check_runner()


def test_tensorflow_2_15_is_taken(monkeypatch):
  monkeypatch.setattr(tf, "__version__", "2.15.1")
  DeviceFlags(runner="tpu_estimator").check_runner()


def test_the_advised_requirements_are_there():
  root = pathlib.Path(__file__).resolve().parents[2]
  for name in ("requirements-tpu-estimator.txt", "requirements-tf215.txt"):
    assert "tpu-estimator]" in (root / name).read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_to_install_and_leaves_nothing(
  monkeypatch, capsys, tmp_path, name
):
  script, settings_class, directory = SCRIPTS[name]
  monkeypatch.setattr(tf, "__version__", "2.21.0")
  shell = Shell(script, settings_class, monkeypatch, capsys)
  place = tmp_path / "run"
  outcome = shell(
    "--runner=tpu_estimator", "--use_synthetic_data", f"--{directory}={place}"
  )
  assert outcome.code == 1
  lines = outcome.err.splitlines()
  assert lines[-1] == (
    "error: `runner`=tpu_estimator needs TensorFlow 2.15 (installed: 2.21.0): "
    "pip install -r requirements-tpu-estimator.txt"
  )
  assert not place.exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_runner_does_not_define_a_run(name):
  settings_class = SCRIPTS[name][1]
  identities = [
    settings.run_identity(settings_class(runner=runner))
    for runner in ("loop", "tpu_estimator")
  ]
  assert identities[0] == identities[1]


def test_evaluations_refuse_workers(monkeypatch):
  config = {
    "cluster": {"worker": ["a:1", "b:1"]},
    "task": {"type": "worker", "index": 0},
  }
  monkeypatch.setenv("TF_CONFIG", json.dumps(config))
  with pytest.raises(ValueError, match="`mode`=eval runs in one process"):
    DeviceFlags().check_one_process("eval")
  DeviceFlags(strategy="default").check_one_process("eval")


def test_a_batch_has_to_fit_the_replicas(monkeypatch):
  def refuse(self, size, name):
    raise ValueError(name)

  monkeypatch.delenv("TF_CONFIG", raising=False)
  monkeypatch.setattr(Replicas, "share", refuse)
  scope = DeviceFlags().scope("virtual_devices")
  with pytest.raises(ValueError, match="virtual_devices"), scope:
    pass


def test_an_estimator_is_made_in_no_scope():
  flags = DeviceFlags(runner="tpu_estimator", strategy="mirrored")
  with flags.scope("no such setting"):
    assert not tf.distribute.has_strategy()


def test_a_strategy_is_entered():
  with DeviceFlags(strategy="mirrored").scope() as found:
    assert tf.distribute.has_strategy()
    assert found.is_distributed


def test_directory_of_compiled_programs(tmp_path, monkeypatch, caplog):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  assert compilation_cache("none") is None
  assert compilation_cache("") == str(tmp_path / "rigl" / "jax")
  assert compilation_cache(f"{tmp_path}/new/place") == f"{tmp_path}/new/place"
  assert (tmp_path / "new" / "place").is_dir()
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
  assert compilation_cache("") is None and not caplog.text


def test_directory_that_cannot_be_written_holds_no_programs(
  tmp_path, monkeypatch, caplog
):
  file = tmp_path / "file"
  file.write_text("")
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  for chosen in (str(file), f"{file}/below", "/proc/x"):
    with pytest.raises(ValueError, match="^`compilation_cache` must be") as e:
      compilation_cache(chosen)
    assert repr(chosen) in str(e.value) and "\n" not in str(e.value)
  monkeypatch.setenv("XDG_CACHE_HOME", str(file))  # A warning; the run trains.
  assert compilation_cache("") is None
  assert "programs are not kept" in caplog.text
