"""The settings of the ImageNet script, each of them a flag.

Names and defaults are those of the published script; what is ours is marked
at the end.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from rigl import sparse_utils
from rigl.config.device_flags import DeviceFlags
from rigl.config.method_flags import MethodFlags
from rigl.config.settings import (
  STEP_LIMIT,
  ignored_setting,
  override,
  setting,
)
from rigl.config.training_length import LengthFlags
from rigl.configurable import configurable
from rigl.imagenet_resnet.model_flags import ModelFlags
from rigl.sparse_optimizers import registry


@configurable()
@dataclasses.dataclass(frozen=True)
class ImagenetSettings(ModelFlags, LengthFlags, DeviceFlags):
  """All settings of a run on ImageNet; the help texts explain them."""

  steps_flag = "train_steps"

  num_workers: int = ignored_setting(1)
  base_learning_rate: float = setting(
    0.1,
    "Learning rate for a batch of 256; it grows with the batch.",
    minimum=0.0,
  )
  momentum: float = setting(
    0.9, "Momentum (Nesterov's) of the optimizer.", minimum=0.0, less_than=1.0
  )
  ps_task: int = ignored_setting(0)
  weight_decay: float = setting(
    1e-4,
    "Weight decay of the kernels, except depthwise ones.",
    minimum=0.0,
    argument="weight_decay",
  )
  master: str = setting(
    "",
    "Address of a Cloud TPU, such as grpc://HOST:8470, as --tpu.",
    defines_run=False,
  )
  tpu_job_name: str = setting(
    "",
    "tpu_estimator: name of the job of the TPU worker. Empty: as TensorFlow "
    "finds it.",
    defines_run=False,
    ignored=lambda flags: not flags.uses_estimator,
  )
  steps_per_checkpoint: int = setting(
    1000, "Steps between checkpoints.", minimum=1, defines_run=False
  )
  keep_checkpoint_max: int = setting(
    0, "Checkpoints to keep; 0 keeps all.", minimum=0, defines_run=False
  )
  data_directory: str = setting(
    "",
    "Directory of ImageNet, local or gs://: TFRecords train-*-of-* and "
    "validation-*-of-*, or a TFDS directory.",
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
    "Whether summaries show the masks as images.",
    defines_run=False,
  )
  mask_init_method: str = override(
    MethodFlags,
    "mask_init_method",
    "",
    help="Distribution of the sparsity over layers. Empty: random for snip and "
    "dnw; other sparse methods then need --load_mask_dir.",
    choices=("", *sparse_utils.KNOWN_METHODS),
  )
  label_smoothing: float = setting(
    0.1,
    "Share of the label spread over all classes.",
    minimum=0.0,
    less_than=1.0,
  )
  erk_power_scale: float = setting(
    1.0,
    "Exponent scale of erdos_renyi_kernel.",
    group="method",
    minimum=0.0,
    argument="erk_power_scale",
  )
  train_steps: int = setting(
    2, "Gradient steps to train.", minimum=1, less_than=STEP_LIMIT
  )
  train_batch_size: int = setting(1024, "Images a training step.", minimum=1)
  eval_batch_size: int = setting(
    1000, "Images a batch of the evaluation.", minimum=1, defines_run=False
  )
  num_train_images: int = setting(
    1281167, "Images an epoch of the learning rate.", minimum=1
  )
  num_eval_images: int = setting(
    50000, "Most images to evaluate on.", minimum=1, defines_run=False
  )
  steps_per_eval: int = setting(
    1251,
    "train_and_eval: steps between evaluations.",
    minimum=1,
    defines_run=False,
  )
  use_tpu: bool = setting(
    False,
    "Whether to train on a Cloud TPU, as --strategy=tpu; without --tpu or "
    "--master, on that of this machine.",
    defines_run=False,
  )
  iterations_per_loop: int = setting(
    1251,
    "Most steps of one call of the compiled program; after so many steps "
    "the training is summarised.",
    minimum=1,
    defines_run=False,
  )
  num_parallel_calls: int = setting(
    64, "Images decoded at a time.", minimum=1, defines_run=False
  )
  num_cores: int = setting(
    8,
    "Cores of the TPU; if given, another number is refused. tpu_estimator: "
    "among so many cores batches are shared out.",
    minimum=1,
    defines_run=False,
  )
  output_dir: str = setting(
    os.path.join(tempfile.gettempdir(), "imagenet"),
    "Directory of the run, or, with --use_folder_stub, above it.",
    defines_run=False,
  )
  use_folder_stub: bool = setting(
    True,
    "Whether METHOD/END_SPARSITY/BEGIN_STEP/END_STEP/FREQUENCY/DROP_FRACTION/"
    "LABEL_SMOOTHING/WEIGHT_DECAY follow --output_dir.",
    defines_run=False,
  )
  use_batch_statistics: bool = setting(
    False,
    "Whether evaluations normalise by the statistics of their batches.",
    defines_run=False,
  )
  eval_on_train: bool = setting(
    False,
    "Whether evaluations use training images, the first --num_eval_images.",
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
    "Steps between exports of a SavedModel to export/STEP, of which the newest "
    "stays; 0: none.",
    minimum=0,
    defines_run=False,
  )
  init_method: str = setting(
    "baseline",
    "Initial weights: those of a dense network, or scaled for sparse layers.",
    choices=("baseline", "sparse"),
  )
  is_warm_up: bool = ignored_setting(True)
  use_adam: bool = setting(False, "Adam with a constant learning rate.")
  use_sgdr: bool = setting(False, "Cosine learning rate with restarts.")
  sgdr_decay_step: float = setting(
    5.0, "SGDR: length of the first period in epochs.", minimum=1e-6
  )
  sgdr_t_mul: float = setting(
    1.5, "SGDR: how many times longer a period is than the last.", minimum=1.0
  )
  sgdr_m_mul: float = setting(
    0.5, "SGDR: what each period multiplies the rate by.", minimum=0.0
  )
  maskupdate_end_step: int = override(MethodFlags, "maskupdate_end_step", 25000)
  load_mask_dir: str = setting(
    "", "Run directory or checkpoint whose masks this run starts with."
  )
  initial_value_checkpoint: str = setting(
    "", "Run directory or checkpoint whose parameters this run starts with."
  )
  block_width: int = ignored_setting(1)
  block_height: int = ignored_setting(1)
  # What the published script does not have.
  image_size: int = setting(224, "Height and width of the images.", minimum=32)
  use_synthetic_data: bool = setting(
    False, "Random images instead of ImageNet."
  )
  skip_corrupt_records: bool = setting(
    False, "Whether damaged images are left out instead of ending the run."
  )
  jit_compile: str = setting(
    "auto",
    "Whether XLA compiles the steps: auto (where it is faster, not on a CPU, "
    "or needed, for channels_first on a CPU), true, false.",
    choices=("auto", "true", "false"),
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.use_tpu and self.strategy not in ("auto", "tpu"):
      raise ValueError(
        f"`use_tpu` needs `strategy`=auto or tpu, got {self.strategy!r}."
      )

  def requested_devices(self) -> tuple[str, str]:
    """`strategy` and `tpu`; the published flags may ask for a TPU, too."""
    if self.use_tpu or self.strategy == "tpu" or self.tpu:
      return "tpu", self.tpu or self.master or "local"
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

  @property
  def distribution(self) -> str:
    """How the sparsity is distributed over layers.

    Raises:
      ValueError: if the method needs to be told and is not.
    """
    if self.mask_init_method:
      return self.mask_init_method
    dense = self.training_method not in registry.SPARSE_START
    if dense or self.load_mask_dir:
      return "random"
    raise ValueError(
      f"`mask_init_method` or `load_mask_dir` must be given for method "
      f"{self.training_method!r}; the former is one of "
      f"{[*sparse_utils.KNOWN_METHODS]}."
    )

  def computed_arguments(self, layers: Sequence[str]) -> dict[str, Any]:
    """The arguments that several flags decide.

    Args:
      layers: names of the layers with a sparse kernel, in order.

    Raises:
      ValueError: if the method needs a distribution and is given none.
    """
    return {
      **super().computed_arguments(layers),
      "mask_init_method": self.distribution,
      "custom_sparsity_map": self.end_layers().custom_sparsity_map,
    }
