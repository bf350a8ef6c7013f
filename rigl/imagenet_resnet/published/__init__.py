# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and flags of the published code."""
