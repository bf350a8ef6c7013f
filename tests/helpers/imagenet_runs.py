# SPDX-License-Identifier: Apache-2.0
"""Runs of the ImageNet script inside the test process, on tiny data."""

from __future__ import annotations

from typing import Any

from script_runs import Outcome, Shell

# A network and images that take tenths of a second a step.
TINY = (
  "--resnet_depth=18",
  "--width=0.25",
  "--image_size=32",
  "--num_label_classes=20",
  "--train_batch_size=4",
  "--eval_batch_size=4",
  "--export_model_freq=0",
  "--use_folder_stub=false",
  "--mask_init_method=erdos_renyi_kernel",
)


class TinyShell(Shell):
  """Runs the script with flags for little work before those it is given."""

  def __call__(self, *arguments: Any) -> Outcome:
    return super().__call__(*TINY, *arguments)
