# SPDX-License-Identifier: Apache-2.0
"""Recorder and replay: runs as StableHLO programs that JAX executes."""
