# SPDX-License-Identifier: Apache-2.0
"""The flags of the ImageNet script for the training schedule and the optimizer.

Names and defaults are those of the published script.
"""

from __future__ import annotations

import dataclasses

from rigl.config.settings import STEP_LIMIT, Settings, setting


@dataclasses.dataclass(frozen=True)
class ScheduleFlags(Settings):
  """Flags of learning rate, loss and length; the help texts explain them.

  Raises:
    ValueError: if a value is not one of its flag's.
  """

  base_learning_rate: float = setting(
    0.1,
    "Learning rate for a batch of 256 images; it is scaled with the batch "
    "size.",
    group="schedule",
    minimum=0.0,
  )
  momentum: float = setting(
    0.9,
    "Nesterov momentum of the optimizer, in [0, 1).",
    group="schedule",
    minimum=0.0,
    less_than=1.0,
  )
  weight_decay: float = setting(
    1e-4,
    "Weight decay: adds this factor times each kernel, except depthwise "
    "ones, to its gradient.",
    group="schedule",
    minimum=0.0,
    argument="weight_decay",
  )
  label_smoothing: float = setting(
    0.1,
    "Share of each label that is spread over all classes, in [0, 1).",
    group="schedule",
    minimum=0.0,
    less_than=1.0,
  )
  train_steps: int = setting(
    2,
    "Gradient steps to train.",
    group="schedule",
    minimum=1,
    less_than=STEP_LIMIT,
  )
  num_train_images: int = setting(
    1281167,
    "Training images per epoch, by which the learning rate counts epochs.",
    group="schedule",
    minimum=1,
  )
  use_adam: bool = setting(
    False,
    "Use Adam with a constant learning rate.",
    group="schedule",
  )
  use_sgdr: bool = setting(
    False,
    "Use a cosine learning rate with restarts (SGDR).",
    group="schedule",
  )
  sgdr_decay_step: float = setting(
    5.0,
    "SGDR: length of the first period in epochs.",
    group="schedule",
    minimum=1e-6,
  )
  sgdr_t_mul: float = setting(
    1.5,
    "SGDR: factor of the length from period to period, at least 1.",
    group="schedule",
    minimum=1.0,
  )
  sgdr_m_mul: float = setting(
    0.5,
    "SGDR: factor of the rate from period to period.",
    group="schedule",
    minimum=0.0,
  )
