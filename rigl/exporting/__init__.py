# SPDX-License-Identifier: Apache-2.0
"""Export of trained networks: `rigl.export` and the command `rigl-export`."""

from rigl import needs_tensorflow  # noqa: F401, I001
from rigl.exporting.arguments import FORMATS
from rigl.exporting.export_model import export
from rigl.exporting.writers import ExportReport

__all__ = ["FORMATS", "ExportReport", "export"]
