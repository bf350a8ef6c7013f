"""Executors of training: TensorFlow, TPUEstimator, StableHLO programs."""
