# SPDX-License-Identifier: Apache-2.0
"""The flags of the ImageNet script for its images.

Names and defaults are those of the published script; the last ones are ours.
"""

from __future__ import annotations

import dataclasses

from rigl.config.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class DataFlags(Settings):
  """Flags of images and batches; the help texts explain them.

  Raises:
    ValueError: if a value is not one of its flag's.
  """

  data_directory: str = setting(
    "",
    "Directory of ImageNet, local or gs://: TFRecords train-*-of-* and "
    "validation-*-of-*, or a TFDS directory.",
    group="data",
    defines_run=False,
  )
  train_batch_size: int = setting(
    1024, "Training images per step.", group="data", minimum=1
  )
  eval_batch_size: int = setting(
    1000,
    "Images per batch of the evaluation.",
    group="data",
    minimum=1,
    defines_run=False,
  )
  num_eval_images: int = setting(
    50000,
    "Largest number of images to evaluate on.",
    group="data",
    minimum=1,
    defines_run=False,
  )
  num_parallel_calls: int = setting(
    64,
    "Number of images to decode in parallel.",
    group="data",
    minimum=1,
    defines_run=False,
  )
  eval_on_train: bool = setting(
    False,
    "Evaluate on training images, the first --num_eval_images.",
    group="data",
    defines_run=False,
  )
  # What the published script does not have.
  image_size: int = setting(
    224, "Height and width of the images in pixels.", group="data", minimum=32
  )
  use_synthetic_data: bool = setting(
    False,
    "Train on random images instead of ImageNet.",
    group="data",
  )
  skip_corrupt_records: bool = setting(
    False,
    "Leave out damaged images instead of ending the run.",
    group="data",
  )
