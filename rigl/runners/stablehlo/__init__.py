"""Exports a run as StableHLO programs that JAX's client executes elsewhere."""
