# SPDX-License-Identifier: Apache-2.0
"""Import guard: raises an error unless Keras 3 runs on TensorFlow.

Every module of `rigl.keras` that uses Keras is imported after this one.
"""

import keras

from rigl.missing_package import MissingPackageError

if int(keras.__version__.split(".")[0]) < 3:
  raise MissingPackageError(
    f"rigl.keras needs Keras 3, but Keras {keras.__version__} is installed: "
    "pip install 'keras>=3' with TensorFlow 2.16 or later, or use the "
    "optimizers of `rigl.sparse_optimizers`."
  )
if keras.backend.backend() != "tensorflow":
  raise MissingPackageError(
    "rigl.keras needs the TensorFlow backend of Keras, but the backend is "
    f"{keras.backend.backend()!r}: set the environment variable "
    "KERAS_BACKEND=tensorflow before Keras is imported."
  )
