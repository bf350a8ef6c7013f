# SPDX-License-Identifier: Apache-2.0
"""Hits among the greatest logits."""

from __future__ import annotations

import tensorflow as tf

from rigl.types import Tensor


def hits_in_top_k(logits: Tensor, labels: Tensor, k: int) -> Tensor:
  """Tells whether each label is among the classes of the k greatest logits.

  It is where fewer than k logits are greater than that of the label.

  Args:
    logits: float [batch, classes].
    labels: int32 [batch].
    k: number of logits, at least 1.

  Returns:
    float32 [batch], 1 for a hit and 0 otherwise.
  """
  of_label = tf.gather(logits, labels, axis=1, batch_dims=1)[:, None]
  greater = tf.reduce_sum(tf.cast(logits > of_label, tf.int32), 1)
  return tf.cast(greater < k, tf.float32)
