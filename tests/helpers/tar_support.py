# SPDX-License-Identifier: Apache-2.0
"""What tests of tar archives need of Python."""

import tarfile

import pytest

# Older patch releases of Python unpack no archive safely, and are refused.
NEEDS_DATA_FILTER = pytest.mark.skipif(
  not hasattr(tarfile, "data_filter"),
  reason="needs tarfile's data filter: Python 3.10.12, 3.11.4 or newer",
)
