# SPDX-License-Identifier: Apache-2.0
"""Executors of training: TensorFlow, TPUEstimator, StableHLO programs."""
