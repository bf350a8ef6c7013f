# SPDX-License-Identifier: Apache-2.0
"""Report of a counted network as text, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rigl import counting
from rigl.counting import training_flops
from rigl.counting.summary import COLUMNS

KNOWN_FORMATS = ("text", "csv", "json")


class IsoFlops(NamedTuple):
  """The dense network of width 1, which a wide sparse one costs as much as.

  Attributes:
    width: factor of the number of channels of the sparse network.
    dense: layers of the dense network of width 1.
    dense_training: FLOPs of training it in a run of length 1x.
  """

  width: float
  dense: list[counting.LayerCount]
  dense_training: float


@dataclass(frozen=True)
class FlopsReport:
  """Counts of a network.

  Args:
    model: name of the network.
    layers: counted layers.
    dense: the same layers without pruned weights.
    published: the layers, counted as the published code does.
    published_dense: the same layers without pruned weights.
    training: cost of training.
    settings: values of the flags by name.
    note: what the reader should know besides; "" for nothing.
    iso_flops: what a network of equal cost is compared with; None if no width
      was asked for.
  """

  model: str
  layers: list[counting.LayerCount]
  dense: list[counting.LayerCount]
  published: list[counting.LayerCount]
  published_dense: list[counting.LayerCount]
  training: training_flops.TrainingCost
  settings: dict[str, Any] = field(default_factory=dict)
  note: str = ""
  iso_flops: IsoFlops | None = None


def check_format(format: str) -> None:
  """Raises a ValueError unless a report can be rendered so.

  Args:
    format: as for `render`.
  """
  if format not in KNOWN_FORMATS:
    raise ValueError(f"`format` must be in {KNOWN_FORMATS}, got {format!r}.")


def render(report: FlopsReport, format: str) -> str:
  """Renders a report.

  Args:
    report: the report.
    format: `text`, `csv` or `json`.

  Returns:
    Lines without a newline at the end.

  Raises:
    ValueError: if the format is not known.
  """
  check_format(format)
  renderers = {"text": as_text, "csv": as_csv, "json": as_json}
  return renderers[format](report)


def as_text(report: FlopsReport) -> str:
  """Table of the layers, followed by totals beside the dense network."""
  count = counting.total_count(report.layers)
  dense = counting.total_count(report.dense)
  other = counting.total_count(report.published)
  other_dense = counting.total_count(report.published_dense)
  training = report.training
  lines = [
    ("", "this network", "dense", "fraction"),
    _compare("inference FLOPs", count.flops, dense.flops),
    _compare("size (MB)", count.bytes / 1e6, dense.bytes / 1e6),
    _compare("inference FLOPs, as published", other.flops, other_dense.flops),
    _compare(
      "size (MB), as published", other.bytes / 1e6, other_dense.bytes / 1e6
    ),
    _compare(
      "training FLOPs",
      training.total_flops,
      training.total_flops / training.fraction,
    ),
  ]
  parts = [counting.summary(report.layers), counting.align(lines, left=1)]
  if report.iso_flops is not None:
    parts.append(_iso_flops_text(report, report.iso_flops))
  return "\n\n".join(parts)


def _iso_flops_text(report: FlopsReport, iso: IsoFlops) -> str:
  """The width, and a comparison with the dense network of width 1."""
  count = counting.total_count(report.layers)
  dense = counting.total_count(iso.dense)
  lines = [
    (f"width {iso.width:g}", "this network", "dense, width 1, 1x", "fraction"),
    _compare("inference FLOPs", count.flops, dense.flops),
    _compare("size (MB)", count.bytes / 1e6, dense.bytes / 1e6),
    _compare("training FLOPs", report.training.total_flops, iso.dense_training),
  ]
  return counting.align(lines, left=1)


def _iso_flops_json(report: FlopsReport, iso: IsoFlops) -> dict[str, float]:
  count = counting.total_count(report.layers)
  dense = counting.total_count(iso.dense)
  return {
    "width": iso.width,
    "dense_flops": dense.flops,
    "dense_bytes": dense.bytes,
    "dense_training_flops": iso.dense_training,
    "inference_fraction": count.flops / dense.flops,
    "size_fraction": count.bytes / dense.bytes,
    "training_fraction": report.training.total_flops / iso.dense_training,
  }


def as_csv(report: FlopsReport) -> str:
  """One line per layer, and the total."""
  file = io.StringIO()
  writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
  writer.writeheader()
  for row in [
    *counting.rows(report.layers),
    counting.total_row(report.layers),
  ]:
    shape = "x".join(str(size) for size in row["kernel_shape"])
    writer.writerow({**row, "kernel_shape": shape})
  return file.getvalue().rstrip("\n")


def as_json(report: FlopsReport) -> str:
  """All counts and settings, for other programs."""
  totals = {
    "total": report.layers,
    "dense": report.dense,
    "published_rules": report.published,
    "published_rules_dense": report.published_dense,
  }
  content = {
    "model": report.model,
    "settings": report.settings,
    "layers": counting.rows(report.layers),
    **{
      name: {
        key: value
        for key, value in counting.total_row(layers).items()
        if isinstance(value, (int, float))
      }
      for name, layers in totals.items()
    },
    "training": report.training._asdict(),
  }
  if report.iso_flops is not None:
    content["iso_flops"] = _iso_flops_json(report, report.iso_flops)
  return json.dumps(content, indent=1)


def _compare(
  name: str, value: float, dense: float
) -> tuple[str, str, str, str]:
  return name, _number(value), _number(dense), f"{value / dense:.4f}"


def _number(value: float) -> str:
  return f"{value:.4e}" if value >= 1e6 else f"{value:.3f}"
