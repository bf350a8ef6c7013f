# SPDX-License-Identifier: Apache-2.0
"""Training examples: arrays in memory, streams from files, shuffled order."""
