# SPDX-License-Identifier: Apache-2.0
"""Configuration of a script: flags, gin, and how a script starts."""

from rigl import missing_package  # noqa: F401 - Scripts say what to install.
