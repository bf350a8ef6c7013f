# SPDX-License-Identifier: Apache-2.0
"""The trainings whose steps `jax_step.py` times."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import numpy as np
from workers import jpegs

from rigl.cifar_resnet import cifar_trainer
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.imagenet_resnet import imagenet_trainer
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.training.trainer import Trainer

UPDATE_STEPS = 100  # Steps from one mask update to the next.
# Different JPEGs, and the files that have them all.
_PICTURES, _FILES = 512, 64


def cifar(
  folder: pathlib.Path, batch: int, quick: bool
) -> Callable[..., Trainer]:
  """Builds WRN-22-2 on as many random images as CIFAR-10 has.

  Args:
    folder: where data and runs are written.
    batch: images per step of a device.
    quick: whether the network is a small one.

  Returns:
    A function of the number of devices and of settings that differ.
  """
  rng = np.random.default_rng(0)
  size = 1 + 32 * 32 * 3
  for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
    rows = rng.integers(0, 256, [10_000, size], np.uint8)
    rows[:, 0] %= 10
    (folder / f"{name}.bin").write_bytes(rows.tobytes())
  sizes = {"resnet_depth": 22, "resnet_width": 2}
  if quick:
    sizes = {"resnet_depth": 10, "resnet_width": 1}

  def build(devices: int = 1, **flags: Any) -> Trainer:
    place = tempfile.mkdtemp(dir=folder)
    values = dict(
      runner="jax",
      training_method="rigl",
      mask_init_method="erdos_renyi_kernel",
      maskupdate_frequency=UPDATE_STEPS,
      data_directory=str(folder),
      train_dir=place,
      batch_size=devices * batch,
      **sizes,
    )
    return cifar_trainer.build_trainer(CifarSettings(**{**values, **flags}))

  return build


def resnet50(
  folder: pathlib.Path, batch: int, quick: bool, records: str = ""
) -> Callable[..., Trainer]:
  """Builds ResNet-50 in bfloat16, as `cifar`.

  Args:
    folder: where runs are written.
    batch: images per step of a device.
    quick: whether the network is a small one.
    records: directory of the images. Empty: they are not decoded at all.
  """
  sizes: dict[str, Any] = {}
  if quick:
    sizes = {"width": 0.1, "image_size": 32}

  def build(devices: int = 1, **flags: Any) -> Trainer:
    values = dict(
      runner="jax",
      training_method="rigl",
      mask_init_method="erdos_renyi_kernel",
      end_sparsity=0.9,
      maskupdate_frequency=UPDATE_STEPS,
      precision="bfloat16",
      use_synthetic_data=not records,
      data_directory=records,
      use_folder_stub=False,
      mode="train",
      output_dir=tempfile.mkdtemp(dir=folder),
      train_batch_size=devices * batch,
      **sizes,
    )
    settings = ImagenetSettings(**{**values, **flags})
    return imagenet_trainer.build_trainer(settings)

  return build


def resnet50_jpegs(
  folder: pathlib.Path, batch: int, quick: bool
) -> Callable[..., Trainer]:
  """Builds ResNet-50 on records of JPEGs, as `resnet50`."""
  records = folder / "records"
  records.mkdir()
  if quick:
    jpegs.write_records(records, 8, 75, 100, files=2)
  else:
    jpegs.write_records(records, _PICTURES, files=_FILES)
  return resnet50(folder, batch, quick, str(records))
