# SPDX-License-Identifier: Apache-2.0
"""Task protocol: a model with its loss and metrics, for the executors.

A task knows no sparse-training method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rigl.types import Batch, Tensor, Variable


class Task(Protocol):
  """A model with its loss and its metrics."""

  @property
  def trainable_variables(self) -> Sequence[Variable]:
    """The variables to train."""

  @property
  def metric_names(self) -> Sequence[str]:
    """The names of the metrics of training; `loss` is one of them."""

  @property
  def eval_metric_names(self) -> Sequence[str]:
    """The names of the metrics of an evaluation."""

  @property
  def headline_metrics(self) -> Sequence[str]:
    """The metrics that a result holds; reports print the first of them."""

  def metrics(
    self, batch: Batch, iteration: Tensor | None = None
  ) -> dict[str, Tensor]:
    """Computes the metrics of every example; `loss` is minimised.

    Args:
      batch: the examples.
      iteration: int64 scalar, the number of training iterations before this
        one; it decides everything random. None: evaluation.

    Returns:
      float32 [batch] by metric name.
    """
