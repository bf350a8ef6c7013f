# SPDX-License-Identifier: Apache-2.0
"""Leaves the tests of `rigl.sparse.keras` out without Keras 3."""

import importlib.metadata

if int(importlib.metadata.version("keras").split(".")[0]) < 3:
  collect_ignore_glob = ["test_*.py"]
