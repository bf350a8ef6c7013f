# SPDX-License-Identifier: Apache-2.0
"""Devices of JAX, and StableHLO programs on them."""
