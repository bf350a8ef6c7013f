"""Recorder and replay: runs as StableHLO programs that JAX executes."""
