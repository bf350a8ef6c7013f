"""Which runner trains: the loop, or a TPUEstimator."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rigl.config.settings import setting

LOOP, TPU_ESTIMATOR = "loop", "tpu_estimator"


def runner_setting() -> Any:
  """The setting `runner` of a script."""
  return setting(
    LOOP,
    "What trains and evaluates: loop, or tpu_estimator, a TPUEstimator, which "
    "needs TensorFlow 2.15. One goes on where the other stopped.",
    choices=(LOOP, TPU_ESTIMATOR),
    defines_run=False,
  )


def check_tensorflow(runner: str) -> None:
  """Checks that TensorFlow has what a runner needs.

  Raises:
    ValueError: if it has not.
  """
  version = tuple(tf.__version__.split(".")[:2])
  if runner == TPU_ESTIMATOR and version != ("2", "15"):
    raise ValueError(
      f"`runner`={TPU_ESTIMATOR} needs TensorFlow 2.15 (installed: "
      f"{tf.__version__}): pip install -r requirements-tpu-estimator.txt"
    )
