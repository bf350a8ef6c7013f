# SPDX-License-Identifier: Apache-2.0
"""TensorFlow in the tests is set up as in the scripts, on any processor."""

from rigl.config import tensorflow_environment  # noqa: F401
