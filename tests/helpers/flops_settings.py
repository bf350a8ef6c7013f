# SPDX-License-Identifier: Apache-2.0
"""Reports of `rigl-flops` without its command line."""

import types

from rigl.flops import command

DEFAULTS = {
  "model": "mnist_fc",
  "sparsity": 0.9,
  "method": "erdos_renyi_kernel",
  "custom_sparsities": [],
  "first_layer_sparsity": -1.0,
  "last_layer_sparsity": -1.0,
  "erk_power_scale": 1.0,
  "width": 1.0,
  "iso_flops": False,
  "image_size": None,
  "param_size": 32,
  "published_rules": False,
  "training_method": "rigl",
  "train_steps": 1000,
  "train_batch_size": 10,
  "training_steps_multiplier": 2.0,
  "maskupdate_frequency": 100,
  "sparsity_begin_step": 100,
  "initial_sparsity": 0.0,
  "grow_batches": 1,
  "backward_sparsity": -1.0,
  "soft_memory": False,
  "drop_gradient_weight": 0.0,
  "drop_fraction": 0.3,
  "drop_fraction_anneal": "constant",
  "maskupdate_begin_step": 0,
  "maskupdate_end_step": 750,
  "sparsity_end_step": 900,
  "pruning_frequency": 100,
}


def make(**changes):
  """The report of settings that differ from `DEFAULTS`."""
  return command.make_report(types.SimpleNamespace(**{**DEFAULTS, **changes}))
