# SPDX-License-Identifier: Apache-2.0
"""Defaults of the MNIST and CIFAR-10 scripts are the published ones.

`tests/imagenet_resnet/test_imagenet_settings.py` has those of ImageNet.
"""

import dataclasses

import pytest

from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.mnist.mnist_settings import MnistSettings

CIFAR = {
  "master": "local",
  "ps_task": 0,
  "keep_checkpoint_max": 5,
  "pruning_hparams": "",
  "load_mask_dir": "",
  "initial_value_checkpoint": "",
  "seed": 0,
  "momentum": 0.9,
  "max_steps": 97656,
  "l2": 0.0005,
  "resnet_depth": 16,
  "resnet_width": 4,
  "data_directory": "",
  "num_classes": 10,
  "dataset_size": 50000,
  "batch_size": 128,
  "checkpoint_steps": 5000,
  "summaries_steps": 300,
  "per_class_metrics": True,
  "mode": "train",
  "sparsity_begin_step": 20000,
  "sparsity_end_step": 75000,
  "pruning_frequency": 1000,
  "end_sparsity": 0.9,
  "training_method": "baseline",
  "prune_first_layer": False,
  "prune_last_layer": True,
  "drop_fraction": 0.3,
  "drop_fraction_anneal": "constant",
  "grow_init": "zeros",
  "s_momentum": 0.9,
  "rigl_acc_scale": 0.0,
  "maskupdate_begin_step": 0,
  "maskupdate_end_step": 75000,
  "maskupdate_frequency": 100,
  "mask_init_method": "random",
  "training_steps_multiplier": 1.0,
}
MNIST = {
  "batch_size": 100,
  "learning_rate": 0.2,
  "momentum": 0.9,
  "use_nesterov": True,
  "num_epochs": 200,
  "lr_drop_epoch": 75,
  "optimizer": "momentum",
  "l2_scale": 0.0001,
  "network_type": "fc",
  "training_method": "baseline",
  "drop_fraction": 0.3,
  "drop_fraction_anneal": "cosine",
  "grow_init": "zeros",
  "s_momentum": 0.9,
  "input_mask_path": "",
  "sparsity_scale": 0.9,
  "rigl_acc_scale": 0.0,
  "maskupdate_begin_step": 0,
  "maskupdate_end_step": 50000,
  "maskupdate_frequency": 100,
  "mask_record_frequency": 0,
  "mask_init_method": "random",
  "prune_begin_step": 2000,
  "prune_end_step": 30000,
  "end_sparsity": 0.98,
  "pruning_frequency": 500,
  "threshold_decay": 0.0,
  "save_path": "",
  "save_model": True,
  "seed": 0,
}
# Places, which name our directories and data.
PLACES = {"mnist", "train_dir"}
SETTINGS = {"mnist": (MnistSettings, MNIST), "cifar10": (CifarSettings, CIFAR)}


@pytest.mark.parametrize("name", SETTINGS)
def test_defaults_are_the_published_ones(name):
  settings, published = SETTINGS[name]
  fields = {f.name: f.default for f in dataclasses.fields(settings)}
  assert {n: fields[n] for n in published} == published
  for flag, value in published.items():
    kind = type(fields[flag])
    assert kind is type(value) or {kind, type(value)} == {int, float}, flag


@pytest.mark.parametrize("name", SETTINGS)
def test_places_are_empty_by_default(name):
  fields = {f.name: f.default for f in dataclasses.fields(SETTINGS[name][0])}
  assert [fields[n] for n in PLACES & set(fields)] == [""]
