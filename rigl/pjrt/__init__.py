# SPDX-License-Identifier: Apache-2.0
"""Devices of JAX, and StableHLO programs on them.

All private names of JAX that `rigl` uses are in this package.
"""
