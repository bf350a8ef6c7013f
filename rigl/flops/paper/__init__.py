# SPDX-License-Identifier: Apache-2.0
"""The published tables of sizes and FLOPs beside our counts."""
