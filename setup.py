# SPDX-License-Identifier: Apache-2.0
"""Build step: wheels get the gin configurations as `rigl/configs/`.

All metadata is in pyproject.toml. In a checkout, and in an editable
installation, the configurations stay in `configs/`; `rigl.config.packaged`
finds them in both places.
"""

import pathlib

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGS = pathlib.Path("configs")


class BuildWithConfigs(build_py):
  """`build_py` that also copies `configs/` into the package."""

  def run(self):
    """Builds the package, then copies."""
    super().run()
    if not self.editable_mode:
      for path, target in self._copies().items():
        self.mkpath(str(target.parent))
        self.copy_file(str(path), str(target))

  def get_outputs(self, include_bytecode=True):
    """Paths of all files that are built."""
    copies = [] if self.editable_mode else map(str, self._copies().values())
    return [*super().get_outputs(include_bytecode), *copies]

  def _copies(self):
    target = pathlib.Path(self.build_lib) / "rigl"
    return {path: target / path for path in sorted(CONFIGS.rglob("*.gin"))}


setup(cmdclass={"build_py": BuildWithConfigs})
