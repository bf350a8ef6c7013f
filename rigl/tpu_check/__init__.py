# SPDX-License-Identifier: Apache-2.0
"""Compilation of our programs for TPUs, on a machine without a TPU.

`scripts/tpu_compile_check.py` compiles the programs of a network.
"""
