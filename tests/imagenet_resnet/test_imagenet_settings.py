# SPDX-License-Identifier: Apache-2.0
"""Flags of the ImageNet script: names, defaults and meaning."""

import dataclasses
import os
import shlex
import tempfile

import gin
import pytest
from absl import flags
from absl.testing import flagsaver

from rigl.config import settings
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.model_flags import IMAGENET_METHODS

TEMPORARY = os.path.join(tempfile.gettempdir(), "imagenet")
# What the published script has; a text without a default is empty here.
PUBLISHED = {
  "precision": "float32",
  "num_workers": 1,
  "base_learning_rate": 0.1,
  "momentum": 0.9,
  "ps_task": 0,
  "weight_decay": 0.0001,
  "master": "",
  "tpu_job_name": "",
  "steps_per_checkpoint": 1000,
  "keep_checkpoint_max": 0,
  "seed": 0,
  "data_directory": "",
  "eval_once_ckpt_prefix": "",
  "data_format": "channels_last",
  "transpose_input": False,
  "log_mask_imgs_each_iteration": False,
  "mask_init_method": "",
  "resnet_depth": 50,
  "label_smoothing": 0.1,
  "erk_power_scale": 1.0,
  "train_steps": 2,
  "train_batch_size": 1024,
  "eval_batch_size": 1000,
  "num_train_images": 1281167,
  "num_eval_images": 50000,
  "num_label_classes": 1000,
  "steps_per_eval": 1251,
  "use_tpu": False,
  "iterations_per_loop": 1251,
  "num_parallel_calls": 64,
  "num_cores": 8,
  "output_dir": TEMPORARY,
  "use_folder_stub": True,
  "use_batch_statistics": False,
  "eval_on_train": False,
  "mode": "train",
  "export_model_freq": 2502,
  "training_method": "scratch",
  "init_method": "baseline",
  "is_warm_up": True,
  "width": -1.0,
  "use_adam": False,
  "use_sgdr": False,
  "sgdr_decay_step": 5.0,
  "sgdr_t_mul": 1.5,
  "sgdr_m_mul": 0.5,
  "end_sparsity": 0.9,
  "drop_fraction": 0.3,
  "drop_fraction_anneal": "constant",
  "grow_init": "zeros",
  "s_momentum": 0.9,
  "rigl_acc_scale": 0.0,
  "maskupdate_begin_step": 0,
  "maskupdate_end_step": 25000,
  "maskupdate_frequency": 100,
  "first_layer_sparsity": 0.0,
  "last_layer_sparsity": -1.0,
  "load_mask_dir": "",
  "initial_value_checkpoint": "",
  "model_architecture": "resnet",
  "expansion_factor": 6.0,
  "training_steps_multiplier": 1.0,
  "block_width": 1,
  "block_height": 1,
}
OURS = {
  "runner",
  "strategy",
  "tpu",
  "virtual_devices",
  "image_size",
  "use_synthetic_data",
  "skip_corrupt_records",
  "grow_batches",
  "track_exploration",
  "soft_memory",
  "across_layers",
  "layer_floor",
  "drop_gradient_weight",
  "on_nonfinite",
  "jit_compile",
  "compilation_cache",
  "backward_sparsity",
  "initial_sparsity",
}


@pytest.fixture(autouse=True)
def fresh_flags_and_gin():
  with flagsaver.flagsaver():
    settings.define_flags(ImagenetSettings)
    yield
  gin.clear_config()


def read(command=""):
  """The settings of a command line."""
  flags.FLAGS(["imagenet_train_eval.py", *shlex.split(command)])
  return settings.read_flags(ImagenetSettings)


def defaults():
  return {
    field.name: field.default for field in dataclasses.fields(ImagenetSettings)
  }


def test_flags_and_defaults_are_the_published_ones():
  assert len(PUBLISHED) == 64
  found = defaults()
  assert {name: found[name] for name in PUBLISHED} == PUBLISHED
  assert set(found) == set(PUBLISHED) | OURS


def test_published_defaults_have_the_published_types():
  for name, value in PUBLISHED.items():
    assert type(defaults()[name]) is type(value), name


def test_methods_are_the_published_ones_and_two_newer_ones():
  published = {"scratch", "baseline", "snip", "dnw", "set"}
  published |= {"momentum", "rigl", "static"}
  assert {*IMAGENET_METHODS} == published | {"granet", "top_kast"}


COMMANDS = {
  "erk": "--mode=eval_once --output_dir=path/to/ckpt/folder "
  "--eval_once_ckpt_prefix=model.ckpt-3200000 --use_folder_stub=False "
  "--training_method=rigl --mask_init_method=erdos_renyi_kernel "
  "--first_layer_sparsity=-1",
  "uniform": "--mode=eval_once --output_dir=path/to/ckpt/folder "
  "--eval_once_ckpt_prefix=model.ckpt-3200000 --use_folder_stub=False "
  "--training_method=rigl --mask_init_method=random --first_layer_sparsity=0",
  "mobilenet": "--mode=eval_once --output_dir=path/to/ckpt/folder "
  "--eval_once_ckpt_prefix=model.ckpt-3200000 --use_folder_stub=False "
  "--training_method=rigl --mask_init_method=erdos_renyi_kernel "
  "--first_layer_sparsity=-1 --model_architecture=mobilenet_v1",
  "baseline": "--mode=eval_once --training_method=baseline "
  "--eval_batch_size=100 --output_dir=/path/to/folder "
  "--eval_once_ckpt_prefix=s80_model.ckpt-1280000 --use_folder_stub=False",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_published_command_lines_are_understood(name):
  found = read(COMMANDS[name])
  assert found.mode == "eval_once"
  assert found.directory in ("path/to/ckpt/folder", "/path/to/folder")
  assert not found.use_folder_stub and "use_folder_stub" in found.explicit
  assert found.end_layers().prune_first_layer == (name == "erk")


def test_the_folder_stub_is_the_published_one():
  found = read(
    "--output_dir=out --training_method=rigl --end_sparsity=0.8 "
    "--maskupdate_frequency=50 --training_steps_multiplier=5"
  )
  assert found.directory == "out/rigl/0.8/0/125000/50/0.3/0.1/0.0001"


def test_the_multiplier_leaves_an_endless_window():
  found = read(
    "--training_steps_multiplier=5 --maskupdate_end_step=-1 --train_steps=10 "
    "--maskupdate_begin_step=3 --mask_init_method=random --training_method=rigl"
  )
  arguments = found.method_arguments()
  assert (arguments["begin_step"], arguments["end_step"]) == (15, -1)
  assert found.total_steps == 50


@pytest.mark.parametrize(
  "method", ["snip", "dnw", "granet", "top_kast", "baseline"]
)
def test_methods_that_make_their_first_masks_need_none(method):
  found = read(f"--training_method={method}")
  assert found.method_arguments()["mask_init_method"] == "random"


@pytest.mark.parametrize("method", ["scratch", "rigl", "set"])
def test_methods_that_start_sparse_need_masks(method):
  found = read(f"--training_method={method}")
  with pytest.raises(ValueError, match="mask_init_method.*load_mask_dir"):
    found.method_arguments()
  found = read(f"--training_method={method} --load_mask_dir=there")
  found.method_arguments()


def test_end_layers_reach_the_distribution():
  found = read(
    "--training_method=rigl --mask_init_method=random "
    "--first_layer_sparsity=0.3 --last_layer_sparsity=0.4"
  )
  assert found.method_arguments()["custom_sparsity_map"] == {
    "resnet_model/initial_conv": 0.3,
    "resnet_model/final_dense": 0.4,
  }


@pytest.mark.parametrize(
  "command, named",
  [
    ("--use_tpu --strategy=mirrored", "use_tpu.*mirrored"),
    ("--num_cores=0", "num_cores"),
    ("--resnet_depth=49", "resnet_depth"),
    ("--label_smoothing=1", "label_smoothing"),
    ("--first_layer_sparsity=-0.5", "first_layer_sparsity"),
    ("--train_steps=0", "train_steps"),
    ("--sgdr_t_mul=0.5", "sgdr_t_mul"),
  ],
)
def test_a_wrong_value_is_named(command, named):
  with pytest.raises(ValueError, match=named):
    read(command)


@pytest.mark.parametrize(
  "command, tpu",
  [
    ("--use_tpu", "local"),
    ("--use_tpu --master=grpc://host:8470", "grpc://host:8470"),
    ("--strategy=tpu --tpu=name", "name"),
    ("--tpu=name --master=other", "name"),
  ],
)
def test_published_flags_ask_for_a_tpu(command, tpu):
  assert read(command).requested_devices() == ("tpu", tpu)


def test_no_flag_asks_for_a_tpu_by_default():
  assert ImagenetSettings().requested_devices() == ("auto", "")


def test_flags_without_effect_define_no_run():
  ignored = {
    field.name
    for field in dataclasses.fields(ImagenetSettings)
    if field.metadata["ignored"] is True
  }
  assert not ignored & set(settings.run_identity(ImagenetSettings()))
  assert ignored <= set(PUBLISHED)
