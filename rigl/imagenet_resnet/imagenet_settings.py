# SPDX-License-Identifier: Apache-2.0
"""The settings of the ImageNet script, each of them a flag.

Names and defaults are those of the published script; the last ones are ours.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from rigl.config.device_flags import DeviceFlags
from rigl.config.method_flags import MethodFlags
from rigl.config.settings import ignored_setting, override, setting
from rigl.config.training_length import LengthFlags
from rigl.configurable import configurable
from rigl.distribution import strategies
from rigl.imagenet_resnet.data_flags import DataFlags
from rigl.imagenet_resnet.model_flags import ModelFlags
from rigl.imagenet_resnet.schedule_flags import ScheduleFlags


@configurable(
  unrecorded=[
    "compilation_cache",
    "on_nonfinite",
    "initial_sparsity",
    "grow_batches",
    "backward_sparsity",
    "track_exploration",
    "soft_memory",
    "across_layers",
    "layer_floor",
    "drop_gradient_weight",
  ]
)
@dataclasses.dataclass(frozen=True)
class ImagenetSettings(
  ModelFlags, ScheduleFlags, DataFlags, LengthFlags, DeviceFlags
):
  """All settings of a run on ImageNet; the help texts explain them."""

  steps_flag = "train_steps"

  num_workers: int = ignored_setting(1)
  ps_task: int = ignored_setting(0)
  master: str = setting(
    "",
    "Address of a Cloud TPU, such as grpc://HOST:8470; same as --tpu.",
    group="devices",
    defines_run=False,
  )
  tpu_job_name: str = setting(
    "",
    "tpu_estimator: job name of the TPU worker. Empty: TensorFlow finds it.",
    group="devices",
    defines_run=False,
    ignored=lambda flags: not flags.uses_estimator,
  )
  steps_per_checkpoint: int = setting(
    1000,
    "Steps between checkpoints.",
    group="output",
    minimum=1,
    defines_run=False,
  )
  keep_checkpoint_max: int = setting(
    0,
    "Number of checkpoints to keep; 0 keeps all.",
    group="output",
    minimum=0,
    defines_run=False,
  )
  eval_once_ckpt_prefix: str = setting(
    "",
    "eval_once: prefix of the checkpoint in the run's directory. Empty: the "
    "newest model.ckpt-STEP.",
    defines_run=False,
  )
  transpose_input: bool = ignored_setting(False)
  log_mask_imgs_each_iteration: bool = setting(
    False,
    "Write the masks as images to the summaries.",
    group="output",
    defines_run=False,
  )
  mask_init_method: str = override(
    MethodFlags,
    "mask_init_method",
    "",
    help="Distribution of the sparsity over layers. Empty: random for snip, "
    "dnw, granet and top_kast; other sparse methods then need --load_mask_dir.",
  )
  erk_power_scale: float = setting(
    1.0,
    "Exponent scale of erdos_renyi_kernel.",
    group="method",
    minimum=0.0,
    argument="erk_power_scale",
  )
  steps_per_eval: int = setting(
    1251,
    "train_and_eval: steps between evaluations.",
    group="output",
    minimum=1,
    defines_run=False,
  )
  use_tpu: bool = setting(
    False,
    "Train on a Cloud TPU, same as --strategy=tpu; without --tpu and "
    "--master, on the TPU of this machine.",
    group="devices",
    defines_run=False,
  )
  iterations_per_loop: int = setting(
    1251,
    "Largest number of steps per call of the compiled program, and steps "
    "between summaries of the training.",
    group="devices",
    minimum=1,
    defines_run=False,
  )
  num_cores: int = setting(
    8,
    "Expected number of TPU cores; if it is given, the run fails if there "
    "are others. tpu_estimator: number of shards of each batch.",
    group="devices",
    minimum=1,
    defines_run=False,
  )
  output_dir: str = setting(
    os.path.join(tempfile.gettempdir(), "imagenet"),
    "Directory of the run or, with --use_folder_stub, above it.",
    group="output",
    defines_run=False,
  )
  use_folder_stub: bool = setting(
    True,
    "Append directories to --output_dir that are named after the method, "
    "end_sparsity, begin, end and frequency of mask updates, drop_fraction, "
    "label_smoothing and weight_decay.",
    group="output",
    defines_run=False,
  )
  use_batch_statistics: bool = setting(
    False,
    "Normalise by the statistics of each batch in evaluations.",
    group="model",
    defines_run=False,
  )
  mode: str = setting(
    "train",
    "train; train_and_eval: with evaluations; eval: evaluates the checkpoints "
    "of a run as they are written; eval_once: one checkpoint.",
    choices=("train_and_eval", "train", "eval", "eval_once"),
    defines_run=False,
  )
  export_model_freq: int = setting(
    2502,
    "Steps between exports of a SavedModel to export/STEP, of which the "
    "newest is kept. 0: none.",
    group="output",
    minimum=0,
    defines_run=False,
  )
  init_method: str = setting(
    "baseline",
    "Initial weights. baseline: those of a dense network; sparse: scaled "
    "for sparse layers.",
    group="model",
    choices=("baseline", "sparse"),
  )
  is_warm_up: bool = ignored_setting(True)
  maskupdate_end_step: int = override(MethodFlags, "maskupdate_end_step", 25000)
  load_mask_dir: str = setting(
    "",
    "Run directory or checkpoint whose masks this run starts with.",
    group="model",
  )
  initial_value_checkpoint: str = setting(
    "",
    "Run directory or checkpoint whose parameters this run starts with, as "
    "they are there. Its masks are not taken; --load_mask_dir takes masks.",
    group="model",
  )
  block_width: int = ignored_setting(1)
  block_height: int = ignored_setting(1)
  # What the published script does not have.
  jit_compile: str = setting(
    "auto",
    "Whether XLA compiles the steps: auto (where it is faster, not on a CPU, "
    "or needed, for channels_first on a CPU), true, false.",
    group="devices",
    choices=("auto", "true", "false"),
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.use_tpu and self.strategy not in (strategies.AUTO, strategies.TPU):
      raise ValueError(
        f"`use_tpu` needs `strategy`=auto or tpu, got {self.strategy!r}."
      )

  def requested_devices(self) -> tuple[str, str]:
    """`strategy` and `tpu`; the published flags may ask for a TPU, too."""
    if self.use_tpu or self.strategy == strategies.TPU or self.tpu:
      return strategies.TPU, self.tpu or self.master or "local"
    return self.strategy, self.tpu

  @property
  def directory(self) -> str:
    """The directory of the run."""
    if not self.use_folder_stub:
      return self.output_dir
    parts = (
      self.training_method,
      self.end_sparsity,
      self.multiplied(self.maskupdate_begin_step),
      self.multiplied(self.maskupdate_end_step),
      self.maskupdate_frequency,
      self.drop_fraction,
      self.label_smoothing,
      self.weight_decay,
    )
    return os.path.join(self.output_dir, *map(str, parts))

  def computed_arguments(self, layers: Sequence[str]) -> dict[str, Any]:
    """The arguments that several flags decide.

    Args:
      layers: names of the layers with a sparse kernel, in order.
    """
    return {
      **super().computed_arguments(layers),
      "custom_sparsity_map": self.end_layers().custom_sparsity_map,
    }
