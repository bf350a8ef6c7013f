# SPDX-License-Identifier: Apache-2.0
"""Counts FLOPs and bytes of a sparse network, and FLOPs of its training.

  rigl-flops --model=resnet50 --sparsity=0.9 --method=erdos_renyi_kernel

prints a table. `--format` selects CSV or JSON, `--plot` draws a bar per layer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from rigl import counting, files
from rigl.config import app
from rigl.counting import training_flops
from rigl.flops import flops_models, options
from rigl.flops.flops_report import FlopsReport, IsoFlops, check_format, render
from rigl.flops.sparsities import layer_sparsities
from rigl.flops.training import forward_flops, training_cost

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
  "drop_gradient_weight",
)


def make_report(values: Any) -> FlopsReport:
  """Counts the network that the flags select.

  Args:
    values: object with the flags as attributes.

  Raises:
    ValueError: if a flag is out of its range, or the model cannot be read.
    OSError: if its file cannot be read.
  """
  options.check(values)
  width = _iso_width(values) if values.iso_flops else values.width
  network = flops_models.load(values.model, width, values.image_size)
  layers = network.layers
  asked = layer_sparsities(values, network)
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
    training_cost(
      values,
      layers,
      asked,
      counting.real_sparsity(counted)
      if values.sparsity == options.FILE
      else values.sparsity,
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
    sparsities = layer_sparsities(values, flops_models.Network(layers))
    return forward_flops(values, layers, sparsities)

  narrow = layers_at(1.0)
  dense = forward_flops(values, narrow, {layer.name: 0.0 for layer in narrow})
  try:
    return counting.iso_flops_width(flops, dense, _WIDEST)
  except counting.UnreachableError as error:
    raise ValueError(
      f"`iso_flops` has no answer: no width up to {_WIDEST:g} costs as much as "
      f"the dense network of width 1, got {values.model!r} with a sparsity of "
      f"{values.sparsity:g}."
    ) from error


def _iso_flops(values: Any, width: float) -> IsoFlops:
  """The dense network of width 1, and the cost of its training."""
  layers = flops_models.load_layers(values.model, 1.0, values.image_size)
  zeros = {layer.name: 0.0 for layer in layers}
  dense = counting.count_layers(
    layers, zeros, values.param_size, values.published_rules
  )
  flops = counting.total_count(dense).flops
  cost = training_flops.training_cost(
    training_flops.BASELINE,
    flops,
    flops,
    values.train_steps,
    values.train_batch_size,
  )
  return IsoFlops(width, dense, cost.total_flops)


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


def _check_places(values: Any) -> None:
  """Raises ValueError if `plot` is no chart, or `output` is the model."""
  if values.plot:
    from rigl.flops import plots  # Matplotlib takes as long as the rest.

    plots.check_suffix(values.plot)
  is_file = files.path(values.model, "model").exists()
  if is_file and values.output and files.are_same(values.output, values.model):
    raise ValueError(
      f"`output` must not be the `model`, got {values.output!r}."
    )


def main(arguments: Sequence[str]) -> None:
  """Counts, then prints or writes the report."""
  del arguments
  with app.one_line_errors():
    check_format(FLAGS.format)
    _check_places(FLAGS)
    report = make_report(FLAGS)
    text = render(report, FLAGS.format)
    if report.note:
      print(report.note, file=sys.stderr)
    if FLAGS.plot:
      from rigl.flops import plots

      is_file = FLAGS.sparsity == options.FILE
      sparsity = "of the file" if is_file else f"{FLAGS.sparsity:g}"
      title = f"{FLAGS.model}, {FLAGS.method}, sparsity {sparsity}"
      plots.save(
        plots.plot_layers(report.layers, report.dense, title), FLAGS.plot
      )
    if FLAGS.output:
      files.write_text(FLAGS.output, text + "\n")
    else:
      print(text)


def run() -> None:
  """The command `rigl-flops`."""
  app.run(main, options.define_flags)


if __name__ == "__main__":
  run()
