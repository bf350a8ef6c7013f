# SPDX-License-Identifier: Apache-2.0
"""Precisions: the floating-point types that networks compute in."""

from __future__ import annotations

import tensorflow as tf

# By the names of `--precision`. Variables are float32 in any case.
PRECISIONS = {"float32": tf.float32, "bfloat16": tf.bfloat16}
