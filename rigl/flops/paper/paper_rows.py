# SPDX-License-Identifier: Apache-2.0
"""Computes the published tables, with reasons where our numbers differ.

`published_values` holds the published numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rigl import counting, sparse_utils
from rigl.counting import architectures, training_flops
from rigl.flops.paper.published_values import ERK, UNIFORM, PublishedRow, Table

_METHODS = {ERK: "erdos_renyi_kernel", UNIFORM: "random"}
# What the tables call 0.89 overall is 0.9 in the layers that are pruned.
_PRUNED_SHARE = {("mobilenet_v1", 0.89): 0.9}
_FIRST_DENSE_FROM = 0.99


class Setting(NamedTuple):
  """Arguments with which a row is counted.

  Attributes:
    layers: layers of the network.
    method: distribution of the sparsity.
    sparsity: overall share of zeros in the layers that are pruned.
    custom: sparsities of other layers.
  """

  layers: list[counting.LayerSpec]
  method: str
  sparsity: float
  custom: dict[str, float]


class Cost(NamedTuple):
  """Cost of a network and of training it with RigL.

  Attributes:
    training: FLOPs as a fraction of dense training of 1x.
    inference: FLOPs as a fraction of dense.
    size: MB (1e6 bytes).
  """

  training: float
  inference: float
  size: float


class ComparedRow(NamedTuple):
  """A published row beside our counts.

  Attributes:
    row: the published row.
    ours: our count by the published rules.
    correct: the correct count.
    disagreeing: names of the columns that differ in the printed digits.
    reasons: why they do; empty where all agree.
  """

  row: PublishedRow
  ours: Cost
  correct: Cost
  disagreeing: tuple[str, ...]
  reasons: tuple[str, ...]


def setting_of(row: PublishedRow, model: str) -> Setting:
  """The setting of a row, as in the published runs.

  ERK sparsifies all layers, but not the first one of ResNet-50 at 0.99;
  uniform sparsity leaves the first layer dense. Depthwise kernels stay dense.

  Args:
    row: the row.
    model: name of the network.
  """
  layers = architectures.network(model)
  custom = {n.name: 0.0 for n in layers if n.kind == "depthwise_conv2d"}
  if row.distribution == UNIFORM or row.sparsity >= _FIRST_DENSE_FROM:
    custom[layers[0].name] = 0.0
  sparsity = _PRUNED_SHARE.get((model, row.sparsity), row.sparsity)
  return Setting(layers, _METHODS[row.distribution], sparsity, custom)


def cost_of(setting: Setting, length: float, published_rules: bool) -> Cost:
  """Cost of RigL with a mask update every 100 steps.

  Args:
    setting: the network and its sparsities.
    length: how many times longer than 1x.
    published_rules: whether to count as the published code does.
  """
  layers, method, sparsity, custom = setting
  dense, sparse = (
    sparse_utils.get_stats(layers, s, m, c, published_rules=published_rules)
    for s, m, c in ((0.0, "random", {}), (sparsity, method, custom))
  )
  training = training_flops.training_cost(
    "rigl", dense.total_flops, sparse.total_flops, multiplier=length
  )
  size = sparse.total_param_bits / 8e6
  return Cost(training.fraction, training.inference_fraction, size)


def size_if_rounded_up(setting: Setting, size: float) -> float:
  """The size in MB if numbers of zeros are rounded up instead of down.

  A version that did so made the outputs stored in the published notebooks. Each
  layer over which the sparsity is distributed then has one weight less, where
  its share of zeros is not a whole number.

  Args:
    setting: the network and its sparsities.
    size: the size in MB by the published rules.
  """
  sizes = [n.size for n in setting.layers if n.name not in setting.custom]
  n_rounded = sum(not (n * setting.sparsity).is_integer() for n in sizes)
  return size - n_rounded * 32 / 8e6


def agrees(printed: str, value: float) -> bool:
  """Whether a value rounds to the printed digits.

  >>> agrees('0.42', 0.4153), agrees('5.8', 5.79), agrees('0.24', 0.2456)
  (True, True, False)

  Args:
    printed: a number as it was printed, such as `0.42` or `8.2e9`.
    value: a number to compare with it.
  """
  return as_printed(printed, value) == printed


def as_printed(printed: str, value: float) -> str:
  """The value with as many digits as were printed.

  >>> as_printed('0.42', 0.4153), as_printed('8.2e9', 8.202e9)
  ('0.42', '8.2e9')

  Args:
    printed: a number as it was printed, such as `0.42` or `8.2e9`.
    value: the number to print.
  """
  mantissa, exponent, _ = printed.partition("e")
  digits = len(mantissa.partition(".")[2])
  if exponent:
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent)}"
  return f"{value:.{digits}f}"


def compare(table: Table) -> list[ComparedRow]:
  """All rows of a table beside our counts."""
  return [_compare(row, table.model) for row in table.rows]


def compare_dense(table: Table) -> tuple[Mapping[str, float], tuple[str, ...]]:
  """The dense network by the published rules, and the columns that differ."""
  layers = architectures.network(table.model)
  stats = sparse_utils.get_stats(layers, 0.0, "random", published_rules=True)
  flops = stats.total_flops
  values = {
    "training": training_flops.training_cost(
      training_flops.BASELINE, flops, flops
    ).total_flops,
    "inference": flops,
    "size": stats.total_param_bits / 8e6,
  }
  return values, _differing(table.dense, values)


def _compare(row: PublishedRow, model: str) -> ComparedRow:
  setting = setting_of(row, model)
  ours = cost_of(setting, row.length, published_rules=True)
  correct = cost_of(setting, row.length, published_rules=False)
  disagreeing = _differing(row, ours._asdict())
  reasons = [_reason(column, row, ours, setting) for column in disagreeing]
  return ComparedRow(
    row, ours, correct, disagreeing, tuple(dict.fromkeys(reasons))
  )


def _differing(
  published: NamedTuple, values: Mapping[str, float]
) -> tuple[str, ...]:
  return tuple(
    column
    for column, value in values.items()
    if not agrees(getattr(published, column), value)
  )


def _reason(
  column: str, row: PublishedRow, ours: Cost, setting: Setting
) -> str:
  """The reason why a cell differs, computed from the rules."""
  if column == "size":
    return _size_reason(row, ours, setting)
  if column == "training" and row.training == row.inference:
    return (
      "Training: the published value is the inference fraction, "
      f"{ours.inference:.4f}; with RigL's mask updates it is "
      f"{ours.training:.4f}."
    )
  per_length = float(row.training) / row.length
  implied = training_flops.training_cost(
    "rigl", 1.0, float(row.inference), multiplier=1.0
  ).fraction
  return (
    "FLOPs: the published values do not follow from the published notebook, "
    f"whose rules give an inference fraction of {ours.inference:.4f}. They do "
    f"not fit each other either: at {row.inference} RigL costs {implied:.3f} "
    f"for 1x, but the published value is {row.training} / {row.length} = "
    f"{per_length:.3f}."
  )


def _size_reason(row: PublishedRow, ours: Cost, setting: Setting) -> str:
  rounded_up = size_if_rounded_up(setting, ours.size)
  if agrees(row.size, rounded_up):
    return (
      f"Size: {rounded_up:.5f} if numbers of zeros are rounded up, as in a "
      f"version before the published one; {ours.size:.5f} if rounded down."
    )
  for what, other in _alternatives(setting):
    size = cost_of(other, 1, published_rules=True).size
    for value, how in (
      (size, ""),
      (size_if_rounded_up(other, size), " with zeros rounded up"),
    ):
      if agrees(row.size, value):
        return (
          f"Size: the published value is that of {what}{how}, {value:.5f}; "
          f"this row has {ours.size:.5f}."
        )
  return f"Size: not explained, the rules give {ours.size:.5f}."


def _alternatives(setting: Setting) -> Sequence[tuple[str, Setting]]:
  """Other settings of the same sparsity, nearest ones first."""
  first = setting.layers[0].name
  others = {n: s for n, s in setting.custom.items() if n != first}
  dense_first = {**others, first: 0.0}
  named = (
    ("the same with a dense first layer", setting.method, dense_first),
    ("ERK without a dense first layer", "erdos_renyi_kernel", others),
    ("Erdos-Renyi without a dense first layer", "erdos_renyi", others),
  )
  settings = [
    (what, setting._replace(method=method, custom=custom))
    for what, method, custom in named
  ]
  return [(what, other) for what, other in settings if other != setting]
