# SPDX-License-Identifier: Apache-2.0
"""Configuration of a script: flags, gin, and how a script starts."""
