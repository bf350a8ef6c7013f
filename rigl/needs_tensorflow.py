# SPDX-License-Identifier: Apache-2.0
"""Import guard: raises an ImportError that says how to install TensorFlow.

Packages that need TensorFlow import this module first. Where TensorFlow is
installed, it does nothing.
"""

import importlib.util

if importlib.util.find_spec("tensorflow") is None:
  raise ImportError(
    "rigl needs TensorFlow, which is not installed: pip install 'rigl[cpu]', "
    "'rigl[gpu]' or 'rigl[tpu]', or install tensorflow-cpu, "
    "tensorflow[and-cuda] or tensorflow-tpu yourself."
  )
