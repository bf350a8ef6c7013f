# SPDX-License-Identifier: Apache-2.0
"""Counts FLOPs and bytes of a sparse network, and FLOPs of its training.

  rigl-flops --model=resnet50 --sparsity=0.9 --method=erdos_renyi_kernel

prints a table. `--format` selects CSV or JSON, `--plot` draws a bar per layer.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from rigl import counting, files, sparse_utils
from rigl.config import app
from rigl.counting import soft_memory, training_flops
from rigl.flops import flops_models, options, plots
from rigl.flops.flops_report import FlopsReport, IsoFlops, render
from rigl.schedules import PruningSchedule, UpdateSchedule
from rigl.sparse_utils import backward_sets

FLAGS = flags.FLAGS

_WIDEST = 1000.0  # At which `--iso_flops` gives up.
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
  "maskupdate_begin_step",
  "maskupdate_end_step",
  "maskupdate_frequency",
  "drop_fraction",
  "drop_fraction_anneal",
  "sparsity_begin_step",
  "sparsity_end_step",
  "pruning_frequency",
  "initial_sparsity",
  "grow_batches",
  "backward_sparsity",
  "soft_memory",
)


def make_report(values: Any) -> FlopsReport:
  """Counts the network that the flags select.

  Args:
    values: object with the flags as attributes.

  Raises:
    ValueError: if a flag is out of its range.
  """
  options.check(values)
  width = _iso_width(values) if values.iso_flops else values.width
  network = flops_models.load(values.model, width, values.image_size)
  layers = network.layers
  asked = _sparsities(values, network)
  rules = values.published_rules

  def count(share: float, published: bool) -> list[counting.LayerCount]:
    """Counts with a share of the sparsity of each layer."""
    sparsities = {name: share * value for name, value in asked.items()}
    return counting.count_layers(
      layers, sparsities, values.param_size, published
    )

  counted = count(1.0, rules)
  settings = {name: getattr(values, name) for name in _SETTINGS}
  return FlopsReport(
    values.model,
    counted,
    count(0.0, rules),
    count(1.0, True),
    count(0.0, True),
    _training(
      values,
      lambda share: counting.total_count(count(share, rules)).flops,
      counting.real_sparsity(counted)
      if values.sparsity == options.FILE
      else values.sparsity,
      _backward_flops(values, layers, asked),
      _surplus_mean(values, layers, asked),
    ),
    {**settings, "width": width},
    _note(values, network),
    _iso_flops(values, width) if values.iso_flops else None,
  )


def _iso_width(values: Any) -> float:
  """The width at which the sparse network costs as much as the dense one."""
  layers_at = flops_models.layers_by_width(values.model, values.image_size)

  def flops(width: float) -> float:
    layers = layers_at(width)
    sparsities = _sparsities(values, flops_models.Network(layers))
    return _flops(values, layers, sparsities)

  narrow = layers_at(1.0)
  dense = _flops(values, narrow, {layer.name: 0.0 for layer in narrow})
  try:
    return counting.iso_flops_width(flops, dense, _WIDEST)
  except counting.UnreachableError as error:
    raise ValueError(
      f"`iso_flops` has no answer: no width up to {_WIDEST:g} costs as much as "
      f"the dense network of width 1, got {values.model!r} with a sparsity of "
      f"{values.sparsity:g}."
    ) from error


def _flops(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  sparsities: Mapping[str, float],
) -> float:
  counted = counting.count_layers(
    layers, sparsities, values.param_size, values.published_rules
  )
  return counting.total_count(counted).flops


def _iso_flops(values: Any, width: float) -> IsoFlops:
  """The dense network of width 1, and the cost of its training."""
  layers = flops_models.load_layers(values.model, 1.0, values.image_size)
  zeros = {layer.name: 0.0 for layer in layers}
  dense = counting.count_layers(
    layers, zeros, values.param_size, values.published_rules
  )
  flops = counting.total_count(dense).flops
  cost = training_flops.training_cost(
    "baseline", flops, flops, values.train_steps, values.train_batch_size
  )
  return IsoFlops(width, dense, cost.total_flops)


def _sparsities(values: Any, network: flops_models.Network) -> dict[str, float]:
  """The sparsity of each layer: of the flags or of the file."""
  layers, zeros = network.layers, network.zeros
  if values.sparsity == options.FILE:
    if zeros is None:
      raise ValueError(
        f"`sparsity` must be a number for a model without weights, got "
        f"{options.FILE!r} for {values.model!r}."
      )
    return {n.name: _share(zeros[n.name], n.size) for n in layers}
  return _distributed(values, layers, values.sparsity)


def _distributed(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  sparsity: float,
  share: float = 1.0,
) -> dict[str, float]:
  """A sparsity over all layers, with a share of the flags' of single layers."""
  custom = _custom_sparsities(values, layers)
  counted = sparse_utils.get_layer_counts(
    layers,
    sparsity,
    values.method,
    {name: each * share for name, each in custom.items()},
    param_size=values.param_size,
    erk_power_scale=values.erk_power_scale,
  )
  return {n.spec.name: n.sparsity for n in counted}


def _backward_flops(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  asked: Mapping[str, float],
) -> float | None:
  """FLOPs with the weights that Top-KAST trains; None for other methods."""
  if values.training_method != "top_kast":
    return None
  forward = values.sparsity
  if forward == options.FILE:
    zeros = sum(asked[layer.name] * layer.size for layer in layers)
    forward = zeros / sum(layer.size for layer in layers)
  given = backward_sets.value_of_flag(values.backward_sparsity)
  overall, ratio = backward_sets.chosen_backward_sparsity(given, forward)
  if values.sparsity == options.FILE or values.method == "str":
    sparsities = {name: each * ratio for name, each in asked.items()}
  else:
    sparsities = _distributed(values, layers, overall, ratio)
  return _flops(values, layers, sparsities)


def _share(zeros: int, size: int) -> float:
  """The share of zeros, of which `floor(share * size)` are as many."""
  share = zeros / size
  if math.floor(share * size) < zeros:
    share = math.nextafter(share, 1.0)
  return share


def _note(values: Any, network: flops_models.Network) -> str:
  """What a user should know of a file's zeros that are not counted."""
  zeros = sum((network.zeros or {}).values())
  if not zeros or values.sparsity == options.FILE:
    return ""
  share = zeros / sum(layer.size for layer in network.layers)
  return (
    f"note: {share:.1%} of the weights in {values.model} are zero; "
    f"--sparsity={values.sparsity:g} takes their place, and --sparsity="
    f"{options.FILE} counts them."
  )


def _surplus_mean(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  asked: Mapping[str, float],
) -> float | None:
  """Mean of FLOPs over training with soft memory; None without."""
  if not values.soft_memory:
    return None
  schedule = UpdateSchedule(
    values.maskupdate_begin_step,
    values.maskupdate_end_step,
    values.maskupdate_frequency,
    values.drop_fraction,
    values.drop_fraction_anneal,
  )

  def flops(surplus: float) -> float:
    return _flops(values, layers, soft_memory.with_surplus(asked, surplus))

  return soft_memory.mean_over_surplus(flops, schedule, values.train_steps)


def _training(
  values: Any,
  flops: Callable[[float], float],
  sparsity: float,
  backward: float | None,
  surplus_mean: float | None,
) -> training_flops.TrainingCost:
  """Cost of training, given FLOPs by share of the final sparsities.

  Args:
    values: object with the flags as attributes.
    flops: FLOPs of the forward pass with a share of the sparsities.
    sparsity: share of zeros of the trained network.
    backward: FLOPs of the forward pass with all weights that are trained.
    surplus_mean: mean FLOPs of the forward pass with soft memory, or None.
  """
  method, mean = values.training_method, None
  if method in ("prune", "granet"):
    # GraNet prunes in every mask update.
    by_mask_updates = method == "granet"
    schedule = PruningSchedule(
      values.sparsity_begin_step,
      values.sparsity_end_step,
      values.maskupdate_frequency
      if by_mask_updates
      else values.pruning_frequency,
      sparsity,
      values.initial_sparsity if by_mask_updates else 0.0,
    )
    mean = training_flops.mean_over_pruning(
      lambda part: flops(part / (sparsity or 1.0)),
      schedule,
      values.train_steps,
      schedule.initial_sparsity,
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
    values.grow_batches,
    backward=backward,
    surplus_mean=surplus_mean,
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
  """Counts, then prints or writes the report."""
  del arguments
  with app.one_line_errors():
    report = make_report(FLAGS)
    text = render(report, FLAGS.format)
    if report.note:
      sys.stderr.write(report.note + "\n")
    if FLAGS.plot:
      is_file = FLAGS.sparsity == options.FILE
      sparsity = "of the file" if is_file else f"{FLAGS.sparsity:g}"
      title = f"{FLAGS.model}, {FLAGS.method}, sparsity {sparsity}"
      plots.save(
        plots.plot_layers(report.layers, report.dense, title), FLAGS.plot
      )
    if FLAGS.output:
      files.write_text(FLAGS.output, text + "\n")
    else:
      sys.stdout.write(text + "\n")


def run() -> None:
  """The command `rigl-flops`."""
  app.run(main, options.define_flags)


if __name__ == "__main__":
  run()
