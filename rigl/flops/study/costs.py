# SPDX-License-Identifier: Apache-2.0
"""What a run on CIFAR-10 cost, from the sparsities that it reported.

The forward pass of one example costs f_S FLOPs. It changes with the sparsities
of the layers, which a run writes into `metrics.csv` together with the step. A
mask update at a step is reported with the next row, so that a row says what
held since the row before it. With the mean of f_S over the steps,
`rigl.counting.training_flops` gives the cost of training; all of its formulas
are linear in f_S. The weights that Top-KAST trains follow from its settings;
after the last choice of its sets, only those of the network count, because the
others change it no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rigl import counting
from rigl.counting import architectures, training_flops
from rigl.flops.real_counts import count_with_sparsities, dense_count
from rigl.sparse_utils import backward_sets

# What all costs are relative to: dense training as published.
REFERENCE = "wrn_22_2"
REFERENCE_STEPS = 97_656
REFERENCE_BATCH = 128

_PREFIX = "sparsity/"
_BACKWARD = 3  # A training step costs three times the forward pass.


class RunCost(NamedTuple):
  """Cost of a run.

  Attributes:
    training: FLOPs of training as a share of those of the reference.
    inference: FLOPs of the trained network as a share of the reference's.
    bytes: bytes of the trained network: masks, nonzero weights and biases.
  """

  training: float
  inference: float
  bytes: float


def run_cost(
  settings: Mapping[str, Any], rows: Sequence[Mapping[str, str]]
) -> RunCost:
  """Counts a run of the CIFAR-10 script.

  Args:
    settings: those in its `run.json`.
    rows: rows of its `metrics.csv`, at least one, whose steps increase.

  Raises:
    ValueError: if there is no formula for its method, the rows are not in
      order, or they have layers that its network lacks.
  """
  layers = architectures.wide_resnet(
    settings["resnet_depth"],
    settings["resnet_width"],
    classes=settings["num_classes"],
  )
  reference = dense_count(architectures.network(REFERENCE)).flops
  counts = [count_with_sparsities(layers, _shares(row)) for row in rows]
  steps = [int(row["step"]) for row in rows]
  mean = _mean(steps, [counting.total_count(count).flops for count in counts])
  step = training_flops.step_flops(
    settings["training_method"],
    dense_count(layers).flops,
    mean,
    settings["maskupdate_frequency"],
    mean,
    settings.get("grow_batches", 1),
    _backward_flops(settings, layers, list(_shares(rows[-1])), mean, steps[-1]),
    drop_gradient_weight=settings.get("drop_gradient_weight", 0.0),
  )
  examples = steps[-1] * settings["batch_size"]
  whole = _BACKWARD * reference * REFERENCE_STEPS * REFERENCE_BATCH
  end = counting.total_count(counts[-1])
  return RunCost(step * examples / whole, end.flops / reference, end.bytes)


def _backward_flops(
  settings: Mapping[str, Any],
  layers: Sequence[counting.LayerSpec],
  sparse: Sequence[str],
  forward: float,
  steps: int,
) -> float | None:
  """Mean FLOPs with the weights that Top-KAST trains; None for other methods.

  Args:
    settings: those of the run.
    layers: the layers of its network.
    sparse: names of the sparse ones.
    forward: FLOPs with the weights that compute.
    steps: gradient steps of the run.
  """
  if settings["training_method"] != training_flops.TOP_KAST:
    return None
  shapes = {n.name: n.kernel_shape for n in layers if n.name in sparse}
  sparsities = backward_sets.backward_sparsities(
    shapes,
    settings["mask_init_method"],
    settings["end_sparsity"],
    None,
    1.0,
    backward_sets.value_of_flag(settings.get("backward_sparsity", -1.0)),
  )
  everywhere = {layer.name: sparsities.get(layer.name, 0.0) for layer in layers}
  counted = counting.count_layers(layers, everywhere)
  explored = _last_choice(settings, steps) / steps
  trained = counting.total_count(counted).flops
  return explored * trained + (1 - explored) * forward


def _last_choice(settings: Mapping[str, Any], steps: int) -> int:
  """The step at which Top-KAST chooses its sets for the last time.

  The end of training, where no step is named as the last one.
  """
  multiplier = settings.get("training_steps_multiplier", 1.0)
  end = settings.get("maskupdate_end_step", -1)
  if end < 0:
    return steps
  begin = int(settings.get("maskupdate_begin_step", 0) * multiplier)
  length = max(int(end * multiplier) - begin, 0)
  return min(begin + length - length % settings["maskupdate_frequency"], steps)


def _shares(row: Mapping[str, str]) -> dict[str, float]:
  """The sparsities of layers that a row has."""
  return {
    name.removeprefix(_PREFIX): float(value)
    for name, value in row.items()
    if name.startswith(_PREFIX) and value
  }


def _mean(steps: Sequence[int], values: Sequence[float]) -> float:
  """Mean over training of values that count since the row before.

  They held since then where an update takes the place of a gradient step (RigL,
  GraNet) and in pruning. SET reports an update at the step of a row with that
  row, so that its changes count one row too early.
  """
  lengths = [b - a for a, b in zip([0, *steps], steps, strict=False)]
  if min(lengths) <= 0:
    raise ValueError("the steps in `metrics.csv` do not increase")
  pairs = zip(lengths, values, strict=True)
  return sum(length * value for length, value in pairs) / steps[-1]
