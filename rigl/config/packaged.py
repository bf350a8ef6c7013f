# SPDX-License-Identifier: Apache-2.0
"""The gin configurations that come with the package.

A wheel holds them in `rigl/configs/`. In a checkout, and so in an editable
installation, they are in `configs/` beside the package.
"""

from __future__ import annotations

import pathlib

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def packaged_config(name: str) -> pathlib.Path | None:
  """Path of a configuration of the package.

  Args:
    name: path relative to the folder of configurations, such as
      `mnist/rigl.gin`; a leading `configs/` is ignored.

  Returns:
    The path of an existing file, or None if there is no such configuration.
  """
  relative = pathlib.PurePath(name)
  if relative.is_absolute() or ".." in relative.parts:
    return None
  if relative.parts[:1] == ("configs",):
    relative = relative.relative_to("configs")
  folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
  if folder is None or not (folder / relative).is_file():
    return None
  return folder / relative
