# SPDX-License-Identifier: Apache-2.0
"""Flags of `rigl-flops` and their checks."""

from __future__ import annotations

import math
from typing import Any

from absl import flags

from rigl import sparse_utils
from rigl.counting import training_flops
from rigl.flops.flops_report import KNOWN_FORMATS

# The sparsity of the weights in the file.
FILE = "file"
# Flags that are one of some words.
_WORDS = {
  "method": tuple(sparse_utils.DISTRIBUTIONS),
  "training_method": training_flops.TRAINING_METHODS,
}
# Flags that are at least 1.
_COUNTS = (
  "pruning_frequency",
  "param_size",
  "train_steps",
  "train_batch_size",
  "maskupdate_frequency",
  "grow_batches",
)
# Flags that are at least 0.
_STEPS = ("sparsity_begin_step", "maskupdate_begin_step")
_BACKWARD = "backward_sparsity"
# Flags of some training methods alone: their default, and the methods.
_OF_METHODS = {
  "soft_memory": (False, training_flops.WITH_SURPLUS),
  "drop_gradient_weight": (0.0, training_flops.DROP_BY_GRADIENTS),
  "grow_batches": (1, training_flops.GROW_BY_BATCHES),
  "initial_sparsity": (0.0, (training_flops.GRANET,)),
  _BACKWARD: (-1.0, (training_flops.TOP_KAST,)),
}


def define_flags() -> None:
  """Defines the flags; `run` calls it, because imports must not define any."""
  flags.DEFINE_string(
    "model",
    "resnet50",
    "A network (resnet50 or another depth, mobilenet_v1, mobilenet_v2, vgg_16, "
    "vgg_19, vgg_a, wrn_22_2 or another depth and width, mnist_fc), a .json "
    "file with a list of counting.LayerSpec fields, a .keras or .h5 file, or "
    "the directory of a SavedModel.",
  )
  flags.DEFINE(
    _SparsityParser(),
    "sparsity",
    0.9,
    f"Overall share of zeros, in [0, 1), or {FILE!r} for the zeros that a "
    "model's file has.",
    serializer=flags.ArgumentSerializer(),
  )
  flags.DEFINE_string(
    "method",
    "erdos_renyi_kernel",
    f"Its distribution over layers: {', '.join(_WORDS['method'])}.",
  )
  flags.DEFINE_list(
    "custom_sparsities", [], "Sparsities of single layers, as NAME=SPARSITY."
  )
  for end in ("first", "last"):
    flags.DEFINE_float(
      f"{end}_layer_sparsity",
      -1.0,
      f"Sparsity of the {end} layer; -1 treats it as the others.",
    )
  flags.DEFINE_float(
    "erk_power_scale", 1.0, "Exponent of erdos_renyi_kernel, >= 0."
  )
  flags.DEFINE_float("width", 1.0, "Factor of the number of channels, > 0.")
  flags.DEFINE_boolean(
    "iso_flops",
    False,
    "Counts the network at the width at which it costs as much as the dense "
    "one of width 1 (inference).",
  )
  flags.DEFINE_integer(
    "image_size",
    None,
    "Height and width of the images, and any other size that a file leaves "
    "open.",
  )
  flags.DEFINE_integer("param_size", 32, "Bits of a weight, >= 1.")
  flags.DEFINE_boolean(
    "published_rules", False, "Whether to count as the published code does."
  )
  _define_training_flags()
  flags.DEFINE_string(
    "format", "text", f"The form: {', '.join(KNOWN_FORMATS)}."
  )
  flags.DEFINE_string(
    "output", "", "File to write or replace; empty: the terminal."
  )
  flags.DEFINE_string(
    "plot", "", "PNG, SVG or PDF file to write or replace, for a bar chart."
  )


class _SparsityParser(flags.ArgumentParser):
  """Reads a number, or the word `file`."""

  syntactic_help = f"a number or {FILE!r}"

  def parse(self, argument: Any) -> float | str:
    """Parses the value of the flag."""
    return FILE if argument == FILE else float(argument)

  def flag_type(self) -> str:
    """What the help says."""
    return f"float or {FILE}"


def _define_training_flags() -> None:
  flags.DEFINE_string(
    "training_method",
    "rigl",
    f"Training method to count: {', '.join(_WORDS['training_method'])}.",
  )
  flags.DEFINE_integer(
    "train_steps", training_flops.PUBLISHED_STEPS, "Steps of 1x, >= 1."
  )
  flags.DEFINE_integer(
    "train_batch_size", training_flops.PUBLISHED_BATCH, "Images per step, >= 1."
  )
  flags.DEFINE_float(
    "training_steps_multiplier", 1.0, "Length of training, 5 for 5x, > 0."
  )
  flags.DEFINE_integer(
    "maskupdate_frequency",
    100,
    "Steps between mask updates (rigl, granet, set with "
    "--drop_gradient_weight), >= 1.",
  )
  flags.DEFINE_integer(
    "sparsity_begin_step",
    10_000,
    "First step of pruning, >= 0.",
  )
  flags.DEFINE_integer(
    "sparsity_end_step",
    25_000,
    "Last step of pruning, > --sparsity_begin_step.",
  )
  flags.DEFINE_integer(
    "pruning_frequency", 1_000, "Steps between prunings, >= 1."
  )
  flags.DEFINE_boolean(
    "soft_memory",
    False,
    "Whether there is a surplus of connections between mask updates (set, "
    "rigl), given by --drop_fraction, --drop_fraction_anneal and the window.",
  )
  flags.DEFINE_float(
    "drop_fraction", 0.3, "Surplus of soft memory at first, in [0, 1]."
  )
  flags.DEFINE_string(
    "drop_fraction_anneal",
    "constant",
    "How the surplus falls: constant, cosine, exponential[_K].",
  )
  flags.DEFINE_integer(
    "maskupdate_begin_step", 0, "First step of a surplus, >= 0."
  )
  flags.DEFINE_integer("maskupdate_end_step", 25_000, "Last step of a surplus.")
  flags.DEFINE_float(
    "drop_gradient_weight",
    0.0,
    "Weight of the gradient in the score that drops (set, rigl), >= 0; above "
    "0, set costs what rigl does.",
  )
  flags.DEFINE_integer(
    "grow_batches", 1, "Batches per growth of connections (rigl, granet), >= 1."
  )
  flags.DEFINE_float(
    "initial_sparsity",
    0.0,
    "Sparsity at the start (granet).",
  )
  flags.DEFINE_float(
    "backward_sparsity",
    -1.0,
    "Share of the weights that are not trained (top_kast), at most --sparsity; "
    "negative: that of twice as many weights as are active.",
  )


def check(values: Any) -> None:
  """Checks flags together, and those that go to arguments of other names.

  Args:
    values: an object with the flags as attributes.

  Raises:
    ValueError: if a flag is out of its range, or does not fit another one.
  """
  for name, words in _WORDS.items():
    if getattr(values, name) not in words:
      raise ValueError(
        f"`{name}` must be in {words}, got {getattr(values, name)!r}."
      )
  if values.iso_flops and values.width != 1:
    raise ValueError(
      f"`width` must not be given with `iso_flops`, got {values.width}."
    )
  for name, (default, methods) in _OF_METHODS.items():
    value = getattr(values, name)
    is_default = value < 0 if name == _BACKWARD else value == default
    if not is_default and values.training_method not in methods:
      raise ValueError(
        f"`training_method` must be in {methods} with `{name}`, got "
        f"{values.training_method!r}."
      )
  if values.sparsity == FILE:
    _check_alone(values)
  elif not 0 <= values.sparsity < 1:
    raise ValueError(f"`sparsity` must be in [0, 1), got {values.sparsity}.")
  for names, least in ((_COUNTS, 1), (_STEPS, 0)):
    for name in names:
      if getattr(values, name) < least:
        raise ValueError(
          f"`{name}` must be at least {least}, got {getattr(values, name)}."
        )
  begin, end = values.sparsity_begin_step, values.sparsity_end_step
  prunes = (training_flops.PRUNE, training_flops.GRANET)
  if values.training_method in prunes and end <= begin:
    raise ValueError(
      f"`sparsity_end_step` must be more than `sparsity_begin_step` = {begin}, "
      f"got {end}."
    )
  multiplier = values.training_steps_multiplier
  if not 0 < multiplier < math.inf:
    raise ValueError(
      "`training_steps_multiplier` must be positive and finite, got "
      f"{multiplier}."
    )
  if values.soft_memory:
    _check_soft_memory(values)


def _check_soft_memory(values: Any) -> None:
  """Raises ValueError if no update can drop the surplus."""
  least = values.maskupdate_begin_step + values.maskupdate_frequency
  if values.maskupdate_end_step < least:
    raise ValueError(
      "`maskupdate_end_step` must be at least `maskupdate_begin_step` + "
      f"`maskupdate_frequency` = {least} with `soft_memory`, because the last "
      f"update drops the surplus, got {values.maskupdate_end_step}."
    )


def _check_alone(values: Any) -> None:
  """Refuses flags that a file's own sparsities leave no room for."""
  given = {
    "custom_sparsities": bool(values.custom_sparsities),
    "first_layer_sparsity": values.first_layer_sparsity != -1,
    "last_layer_sparsity": values.last_layer_sparsity != -1,
    "width": values.width != 1,
    "iso_flops": values.iso_flops,
  }
  for name, is_given in given.items():
    if is_given:
      raise ValueError(
        f"`{name}` must not be given with `sparsity={FILE}`, got "
        f"{getattr(values, name)}."
      )
