"""What executes a training step: TensorFlow, TPUEstimator, StableHLO."""
