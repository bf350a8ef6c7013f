# SPDX-License-Identifier: Apache-2.0
"""Type aliases of the whole package.

Importing this module does not import TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
  import tensorflow as tf

  # A `tf.Tensor`, eager or in a graph.
  Tensor: TypeAlias = tf.Tensor
  # A `tf.Variable`, also one with a copy per replica.
  Variable: TypeAlias = tf.Variable
else:
  Tensor = Variable = Any

# Examples by feature name; the first axis counts examples.
Batch: TypeAlias = dict[str, Tensor]
# Values by metric name.
Metrics: TypeAlias = dict[str, float]
# Pairs of a gradient and its variable, as `tf.compat.v1.train` passes them.
GradsAndVars: TypeAlias = Iterable[tuple[Tensor, Variable]]
