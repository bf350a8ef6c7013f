"""Executes training steps in a TPUEstimator (TensorFlow 2.15)."""
