# SPDX-License-Identifier: Apache-2.0
"""Griffe extension: shows the `>>>` examples of docstrings as code.

mkdocs.yml loads it. Without it, Markdown takes their output for prose and
links.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(>>> .*(?:\n\S.*|\n +\S.*)*)", re.MULTILINE)


class DoctestFences(griffe.Extension):
  """Puts each example that starts a paragraph between code fences."""

  def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
    """Rewrites the docstring of one object."""
    if obj.docstring is not None:
      text = inspect.cleandoc(obj.docstring.value)
      obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\1\n```", text)
