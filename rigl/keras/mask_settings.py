# SPDX-License-Identifier: Apache-2.0
"""The arguments that all sparse optimizers of Keras have."""

from __future__ import annotations

from dataclasses import dataclass

from rigl.keras.kernels import Filters
from rigl.keras.sparsities import Distribution
from rigl.mask_ops import EngineName
from rigl.structures import Structure


@dataclass(frozen=True)
class MaskSettings:
  """The arguments of a sparse optimizer about its masks, checked.

  Attributes:
    sparsity: share of zeros, in [0, 1).
    distribution: how it is distributed over the variables.
    filters: which variables are sparse.
    seed: of initial masks and of random numbers.
    mask_engine: how the highest scores are found.
    structure: groups of connections that each keep their number of active
      ones; None: only each variable keeps its number.
  """

  sparsity: float
  distribution: Distribution
  filters: Filters
  seed: int
  mask_engine: EngineName
  structure: Structure | None
