"""TPUEstimator executor, for TensorFlow 2.15."""
