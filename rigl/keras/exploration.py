# SPDX-License-Identifier: Apache-2.0
"""Explored connections of Keras variables: those that were active at any time.

Liu et al., 2021, https://arxiv.org/abs/2102.02887, call their share R_s.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl.checks import check_flag
from rigl.keras import replicas
from rigl.keras.scheduled import UpdatingOptimizer
from rigl.keras.sparse_kernel import SparseKernel
from rigl.types import Tensor


class ExploringOptimizer(UpdatingOptimizer):
  """Notes which connections of its variables were ever active, if asked to.

  A method calls `_track` in its constructor, `_create_explored` with its masks,
  and `_note_explored` before and after it changes them.
  """

  _tracks_exploration = False

  def _track(self, track_exploration: bool) -> None:
    """Takes the argument `track_exploration`.

    Raises:
      ValueError: if it is no bool.
    """
    check_flag("track_exploration", track_exploration)
    self._tracks_exploration = track_exploration
    self._explored: dict[str, keras.Variable] = {}

  def _create_explored(self) -> None:
    """Creates the variables, in which the masks are explored."""
    if self._tracks_exploration:
      for kernel in self._kernels:
        self._explored[kernel.path] = self.add_variable(
          shape=kernel.shape,
          initializer=functools.partial(_active, kernel),
          dtype="bool",
          aggregation="only_first_replica",
          name=f"explored_{kernel.name}",
        )

  @property
  def explored(self) -> dict[str, keras.Variable]:
    """{path: bool variable, true where a connection was ever active}.

    Empty unless `track_exploration` was asked for and the optimizer is built.
    """
    return dict(self._explored)

  def explored_shares(self) -> dict[str, float]:
    """The explored share R_s of each sparse variable, at least its density.

    Liu et al., 2021, https://arxiv.org/abs/2102.02887.

    Returns:
      {path: share of the connections that were active at any time}; empty
      unless `track_exploration` was asked for.
    """
    counts = self._explored_counts()
    if counts is None:
      return {}
    return {
      kernel.path: counts[kernel.path] / kernel.size for kernel in self._kernels
    }

  def _explored_counts(self) -> dict[str, int] | None:
    if not self._tracks_exploration:
      return None
    return {
      path: int(np.count_nonzero(explored.numpy()))
      for path, explored in self._explored.items()
    }

  def _note_explored(self) -> None:
    """Adds the connections that are active now."""
    for kernel in self._kernels:
      if kernel.path in self._explored:
        explored = self._explored[kernel.path]
        ever = tf.convert_to_tensor(explored) | _active(kernel)
        replicas.assign(explored, ever)


def _active(kernel: SparseKernel, *_: Any, **__: Any) -> Tensor:
  """The mask of a kernel, as an initializer of a variable."""
  return tf.convert_to_tensor(kernel.whole_mask)
