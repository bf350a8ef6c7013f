# SPDX-License-Identifier: Apache-2.0
"""Import guard: raises an error that says how to install TensorFlow.

Packages that need TensorFlow import this module first. Where TensorFlow is
installed, it does nothing.
"""

import importlib.util

from rigl.missing_package import MissingPackageError

if importlib.util.find_spec("tensorflow") is None:
  raise MissingPackageError(
    "rigl needs TensorFlow, which is not installed: pip install 'rigl[cpu]', "
    "'rigl[gpu]' or 'rigl[tpu]', or install tensorflow-cpu, "
    "tensorflow[and-cuda] or tensorflow-tpu yourself."
  )
