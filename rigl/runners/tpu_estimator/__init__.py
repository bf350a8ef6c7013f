# SPDX-License-Identifier: Apache-2.0
"""TPUEstimator executor, for TensorFlow 2.15."""
