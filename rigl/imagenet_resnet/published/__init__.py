"""Checkpoints and flags of the published code."""
