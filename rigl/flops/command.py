"""Counts FLOPs and bytes of a sparse network, and what training it costs.

  rigl-flops --model=resnet50 --sparsity=0.9 --method=erdos_renyi_kernel

prints a table; `--format` gives CSV or JSON, `--plot` a bar chart a layer.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from rigl import counting, sparse_utils
from rigl.counting import training_flops
from rigl.flops import models, plots
from rigl.flops.report import KNOWN_FORMATS, Report, render
from rigl.schedules import PruningSchedule
from rigl.training import command_line, files

FLAGS = flags.FLAGS

# Flags that the report repeats.
_SETTINGS = (
  "sparsity",
  "method",
  "custom_sparsities",
  "first_layer_sparsity",
  "last_layer_sparsity",
  "erk_power_scale",
  "width",
  "image_size",
  "param_size",
  "published_rules",
  "training_method",
  "train_steps",
  "train_batch_size",
  "training_steps_multiplier",
  "maskupdate_frequency",
  "sparsity_begin_step",
  "sparsity_end_step",
  "pruning_frequency",
)
# Flags that are at least 1.
_COUNTS = (
  "param_size",
  "train_steps",
  "train_batch_size",
  "maskupdate_frequency",
)


def define_flags() -> None:
  """Defines the flags; `run` does it, so that an import does not."""
  flags.DEFINE_string(
    "model",
    "resnet50",
    "A network (resnet50 or another depth, mobilenet_v1, mobilenet_v2, vgg_16, "
    "vgg_19, vgg_a, wrn_22_2 or another depth and width, mnist_fc), a .json "
    "file with a list of counting.LayerSpec fields, or a .keras or .h5 file.",
  )
  flags.DEFINE_float("sparsity", 0.9, "Overall share of zeros, in [0, 1).")
  flags.DEFINE_string(
    "method",
    "erdos_renyi_kernel",
    f"Its distribution over layers: one of {sparse_utils.KNOWN_METHODS}.",
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
  flags.DEFINE_float("erk_power_scale", 1.0, "Of erdos_renyi_kernel, >= 0.")
  flags.DEFINE_float("width", 1.0, "What channels are multiplied by, > 0.")
  flags.DEFINE_integer("image_size", None, "Height and width of the images.")
  flags.DEFINE_integer("param_size", 32, "Bits of a weight, >= 1.")
  flags.DEFINE_boolean(
    "published_rules", False, "Whether to count as the published code does."
  )
  _define_training_flags()
  flags.DEFINE_string("format", "text", f"One of {KNOWN_FORMATS}.")
  flags.DEFINE_string("output", "", "File to write to; empty: the terminal.")
  flags.DEFINE_string("plot", "", "PNG, SVG or PDF file for a bar chart.")


def _define_training_flags() -> None:
  flags.DEFINE_string(
    "training_method",
    "rigl",
    f"What training costs: one of {training_flops.KNOWN_METHODS}.",
  )
  flags.DEFINE_integer(
    "train_steps", training_flops.PUBLISHED_STEPS, "Steps of 1x, >= 1."
  )
  flags.DEFINE_integer(
    "train_batch_size", training_flops.PUBLISHED_BATCH, "Images a step, >= 1."
  )
  flags.DEFINE_float("training_steps_multiplier", 1.0, "5 for 5x, > 0.")
  flags.DEFINE_integer(
    "maskupdate_frequency", 100, "Steps between mask updates (rigl), >= 1."
  )
  flags.DEFINE_integer(
    "sparsity_begin_step", 10_000, "First step of pruning (prune), >= 0."
  )
  flags.DEFINE_integer("sparsity_end_step", 25_000, "Last step of pruning.")
  flags.DEFINE_integer("pruning_frequency", 1_000, "Steps between prunings.")


def make_report(values: Any) -> Report:
  """Counts what the flags ask for.

  Args:
    values: an object with the flags as attributes.

  Raises:
    ValueError: if a flag is out of its range.
  """
  _check(values)
  layers = models.load_layers(values.model, values.width, values.image_size)
  asked = sparse_utils.get_layer_counts(
    layers,
    values.sparsity,
    values.method,
    _custom_sparsities(values, layers),
    param_size=values.param_size,
    erk_power_scale=values.erk_power_scale,
  )
  rules = values.published_rules

  def count(share: float, published: bool) -> list[counting.LayerCount]:
    """Counts with a share of the sparsity of each layer."""
    sparsities = {n.spec.name: share * n.sparsity for n in asked}
    return counting.count_layers(
      layers, sparsities, values.param_size, published
    )

  return Report(
    values.model,
    count(1.0, rules),
    count(0.0, rules),
    count(1.0, True),
    count(0.0, True),
    _training(
      values, lambda share: counting.total_count(count(share, rules)).flops
    ),
    {name: getattr(values, name) for name in _SETTINGS},
  )


def _check(values: Any) -> None:
  """Checks flags that have other names where they go."""
  if not 0 <= values.sparsity < 1:
    raise ValueError(f"`sparsity` must be in [0, 1), got {values.sparsity}.")
  for name in _COUNTS:
    if getattr(values, name) < 1:
      raise ValueError(
        f"`{name}` must be at least 1, got {getattr(values, name)}."
      )
  multiplier = values.training_steps_multiplier
  if not 0 < multiplier < math.inf:
    raise ValueError(
      "`training_steps_multiplier` must be positive and finite, got "
      f"{multiplier}."
    )
  known = training_flops.KNOWN_METHODS
  if values.training_method not in known:
    raise ValueError(
      f"`training_method` must be in {known}, got {values.training_method!r}."
    )


def _training(
  values: Any, flops: Callable[[float], float]
) -> training_flops.TrainingCost:
  """Cost of training, given FLOPs by share of the final sparsities."""
  method, mean = values.training_method, None
  if method == "prune":
    schedule = PruningSchedule(
      values.sparsity_begin_step,
      values.sparsity_end_step,
      values.pruning_frequency,
      values.sparsity,
    )
    mean = training_flops.mean_over_pruning(
      lambda sparsity: flops(sparsity / (values.sparsity or 1.0)),
      schedule,
      values.train_steps,
    )
  return training_flops.training_cost(
    method,
    flops(0.0),
    flops(1.0),
    values.train_steps,
    values.train_batch_size,
    values.training_steps_multiplier,
    values.maskupdate_frequency,
    mean,
  )


def _custom_sparsities(
  values: Any, layers: Sequence[counting.LayerSpec]
) -> dict[str, float]:
  custom = {}
  for entry in values.custom_sparsities:
    name, _, sparsity = entry.rpartition("=")
    try:
      custom[name] = float(sparsity)
    except ValueError:
      name = ""
    if not name:
      raise ValueError(
        f"`custom_sparsities` must be NAME=SPARSITY, got {entry!r}."
      )
  ends = (
    ("first_layer_sparsity", layers[0]),
    ("last_layer_sparsity", layers[-1]),
  )
  for flag, layer in ends:
    sparsity = getattr(values, flag)
    if sparsity != -1:
      if not 0 <= sparsity < 1:
        raise ValueError(f"`{flag}` must be -1 or in [0, 1), got {sparsity}.")
      custom[layer.name] = sparsity
  return custom


def main(arguments: Sequence[str]) -> None:
  """Prints or writes what the flags ask for."""
  del arguments
  with command_line.one_line_errors():
    report = make_report(FLAGS)
    text = render(report, FLAGS.format)
    if FLAGS.plot:
      title = f"{FLAGS.model}, {FLAGS.method}, sparsity {FLAGS.sparsity:g}"
      plots.save(
        plots.plot_layers(report.layers, report.dense, title), FLAGS.plot
      )
    if FLAGS.output:
      files.write_text(FLAGS.output, text + "\n")
    else:
      sys.stdout.write(text + "\n")


def run() -> None:
  """The command `rigl-flops`."""
  command_line.run(main, define_flags)


if __name__ == "__main__":
  run()
