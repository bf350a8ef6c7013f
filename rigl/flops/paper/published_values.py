# SPDX-License-Identifier: Apache-2.0
"""Published tables, with the digits in which they were printed.

Source: README of https://github.com/google-research/rigl at commit d39fc7d.
`paper_rows` computes our values for them.
"""

from __future__ import annotations

from typing import NamedTuple

ERK = "ERK"
UNIFORM = "Uniform"


class PublishedDense(NamedTuple):
  """The row of a dense network.

  Attributes:
    training: FLOPs of training.
    inference: FLOPs of one image.
    size: MB.
    top1: accuracy in percent.
  """

  training: str
  inference: str
  size: str
  top1: float


class PublishedRow(NamedTuple):
  """A row of a table.

  Attributes:
    distribution: `ERK` or `Uniform`.
    sparsity: as stated, overall or of the layers that are pruned.
    length: how many times longer than 1x.
    training: training FLOPs as a fraction of dense.
    inference: inference FLOPs as a fraction of dense.
    size: MB.
    top1: accuracy in percent.
  """

  distribution: str
  sparsity: float
  length: int
  training: str
  inference: str
  size: str
  top1: float


class Table(NamedTuple):
  """A table.

  Attributes:
    title: title of the table.
    model: name of the network, as in `counting.architectures.network`.
    dense: the row of the dense network.
    rows: the rows of sparse networks.
  """

  title: str
  model: str
  dense: PublishedDense
  rows: tuple[PublishedRow, ...]


_RESNET = PublishedDense("3.2e18", "8.2e9", "102.122", 76.8)
_MOBILENET = PublishedDense("4.5e17", "1.14e9", "16.864", 72.1)

RESNET_50 = Table(
  "ResNet-50, extended training",
  "resnet50",
  _RESNET,
  (
    PublishedRow(ERK, 0.8, 5, "2.09", "0.42", "23.683", 77.17),
    PublishedRow(UNIFORM, 0.8, 5, "1.14", "0.23", "23.685", 76.71),
    PublishedRow(ERK, 0.9, 5, "1.23", "0.24", "13.499", 76.42),
    PublishedRow(UNIFORM, 0.9, 5, "0.66", "0.13", "13.532", 75.73),
    PublishedRow(ERK, 0.95, 5, "0.63", "0.12", "8.399", 74.63),
    PublishedRow(UNIFORM, 0.95, 5, "0.42", "0.08", "8.433", 73.22),
    PublishedRow(ERK, 0.965, 5, "0.45", "0.09", "6.904", 72.77),
    PublishedRow(UNIFORM, 0.965, 5, "0.34", "0.07", "6.904", 71.31),
    PublishedRow(ERK, 0.99, 5, "0.29", "0.05", "4.354", 61.86),
    PublishedRow(ERK, 0.99, 10, "0.58", "0.05", "4.354", 63.89),
    PublishedRow(ERK, 0.99, 40, "2.32", "0.05", "4.354", 66.94),
    PublishedRow(ERK, 0.99, 100, "5.8", "0.05", "4.354", 68.15),
  ),
)
RESNET_50_1X = Table(
  "ResNet-50, 1x training",
  "resnet50",
  _RESNET,
  (
    PublishedRow(ERK, 0.8, 1, "0.42", "0.42", "23.683", 75.12),
    PublishedRow(UNIFORM, 0.8, 1, "0.23", "0.23", "23.685", 74.60),
    PublishedRow(ERK, 0.9, 1, "0.24", "0.24", "13.499", 73.07),
    PublishedRow(UNIFORM, 0.9, 1, "0.13", "0.13", "13.532", 72.02),
  ),
)
RESNET_50_NO_SMOOTHING = Table(
  "ResNet-50, without label smoothing",
  "resnet50",
  _RESNET,
  (
    PublishedRow(ERK, 0.8, 1, "0.42", "0.42", "23.683", 75.02),
    PublishedRow(ERK, 0.8, 5, "2.09", "0.42", "23.683", 76.17),
    PublishedRow(ERK, 0.9, 1, "0.24", "0.24", "13.499", 73.4),
    PublishedRow(ERK, 0.9, 5, "1.23", "0.24", "13.499", 75.9),
    PublishedRow(ERK, 0.95, 1, "0.13", "0.12", "8.399", 70.39),
    PublishedRow(ERK, 0.95, 5, "0.63", "0.12", "8.399", 74.36),
  ),
)
# The sparsity of the pruned layers is 0.9, and overall 0.89 as published.
MOBILENET_V1 = Table(
  "MobileNet-v1",
  "mobilenet_v1",
  _MOBILENET,
  (
    PublishedRow(ERK, 0.89, 10, "1.39", "0.21", "2.392", 69.31),
    PublishedRow(ERK, 0.89, 50, "2.79", "0.21", "2.392", 70.63),
    PublishedRow(UNIFORM, 0.89, 10, "1.25", "0.09", "2.392", 69.28),
    PublishedRow(UNIFORM, 0.89, 50, "6.25", "0.09", "2.392", 70.25),
    PublishedRow(UNIFORM, 0.89, 100, "12.5", "0.09", "2.392", 70.59),
  ),
)
TABLES = (RESNET_50, RESNET_50_1X, RESNET_50_NO_SMOOTHING, MOBILENET_V1)
