# SPDX-License-Identifier: Apache-2.0
"""The settings of the CIFAR-10 script, each of them a flag.

Names and defaults are those of the published script; the last ones are ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from rigl.cifar_resnet.cifar_data import VERSIONS
from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.config.device_flags import DeviceFlags
from rigl.config.settings import STEP_LIMIT, ignored_setting, setting
from rigl.config.training_length import LengthFlags
from rigl.configurable import configurable
from rigl.layers import PRECISIONS
from rigl.sparse_optimizers import registry

# The published default, which stands for the classes of `--dataset`.
_CLASSES = 10


@configurable(
  unrecorded=[
    "compilation_cache",
    "dataset",
    "on_nonfinite",
    "precision",
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
class CifarSettings(LengthFlags, DeviceFlags):
  """All settings of a run on CIFAR; the help texts explain them."""

  steps_flag = "max_steps"

  master: str = ignored_setting("local")
  ps_task: int = ignored_setting(0)
  keep_checkpoint_max: int = setting(
    5,
    "Number of checkpoints to keep; 0 keeps all.",
    group="output",
    minimum=0,
    defines_run=False,
  )
  pruning_hparams: str = ignored_setting("")
  train_dir: str = setting(
    "",
    "Directory above that of the run, which is METHOD/END_SPARSITY/BEGIN_STEP/"
    "END_STEP/FREQUENCY of mask updates or pruning, and METHOD/0.0/0.0/0.0/0.0 "
    "for methods without a schedule. Empty: a directory under "
    "rigl_runs/cifar10 that is named after the settings.",
    group="output",
    defines_run=False,
    alias="output_dir",
  )
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
  momentum: float = setting(
    0.9,
    "Nesterov momentum of the optimizer, in [0, 1).",
    group="schedule",
    minimum=0.0,
    less_than=1.0,
  )
  max_steps: int = setting(
    97656,
    "Gradient steps to train.",
    group="schedule",
    minimum=1,
    less_than=STEP_LIMIT,
  )
  l2: float = setting(
    5e-4,
    "Weight decay: adds this factor times each kernel to its gradient.",
    group="schedule",
    minimum=0.0,
    argument="weight_decay",
  )
  resnet_depth: int = setting(
    16, "Depth of the network, 6n + 4 layers.", group="model", minimum=10
  )
  resnet_width: int = setting(
    4, "Width of the network, a factor of channels.", group="model", minimum=1
  )
  data_directory: str = setting(
    "",
    "Directory of the data, local or gs://: the official binary files or a "
    "TFDS directory. Empty: the directory of TFDS, which downloads the data.",
    group="data",
    defines_run=False,
  )
  num_classes: int = setting(
    _CLASSES,
    "Number of classes, that of --dataset if it is not given.",
    group="model",
    minimum=10,
  )
  dataset_size: int = setting(
    50000,
    "Number of training images to use, the first ones.",
    group="data",
    minimum=1,
  )
  batch_size: int = setting(
    128, "Training images per step.", group="data", minimum=1
  )
  checkpoint_steps: int = setting(
    5000,
    "Steps between checkpoints (and evaluations).",
    group="output",
    minimum=1,
    defines_run=False,
  )
  summaries_steps: int = setting(
    300,
    "Steps between summaries of the training.",
    group="output",
    minimum=1,
    defines_run=False,
  )
  per_class_metrics: bool = setting(
    True,
    "Evaluate precision and recall of every class.",
    group="output",
    defines_run=False,
  )
  mode: str = setting(
    "train",
    "train; train_and_eval: with evaluations; eval: evaluates the checkpoints "
    "of a run as they are written.",
    choices=("train_and_eval", "train", "eval"),
    defines_run=False,
  )
  sparsity_begin_step: int = setting(
    20000,
    "prune: first step of pruning.",
    group="method",
    minimum=0,
    less_than=STEP_LIMIT,
    argument="begin_step",
    methods=(registry.PRUNE,),
  )
  sparsity_end_step: int = setting(
    75000,
    "prune: step at which the final sparsity is reached.",
    group="method",
    less_than=STEP_LIMIT,
    argument="end_step",
    methods=(registry.PRUNE,),
  )
  pruning_frequency: int = setting(
    1000,
    "prune: steps between mask updates.",
    group="method",
    minimum=1,
    less_than=STEP_LIMIT,
    argument="frequency",
    methods=(registry.PRUNE,),
  )
  prune_first_layer: bool = setting(
    False, "Make the first convolution sparse.", group="model"
  )
  prune_last_layer: bool = setting(
    True, "Make the last layer sparse.", group="model"
  )
  # What the published script does not have.
  dataset: str = setting(
    "cifar10",
    "The data set. Runs on different ones differ in their data and classes.",
    group="data",
    choices=tuple(VERSIONS),
    defines_run=False,
  )
  use_synthetic_data: bool = setting(
    False, "Train on a few generated images instead of CIFAR.", group="data"
  )
  precision: str = setting(
    "float32",
    "Floating-point type that the network computes in.",
    group="model",
    choices=tuple(PRECISIONS),
    records_default=False,
  )
  jit_compile: str = setting(
    "auto",
    "Whether XLA compiles the steps: auto (where it is faster: not on a CPU), "
    "true, false.",
    group="devices",
    choices=("auto", "true", "false"),
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    classes = VERSIONS[self.dataset].num_classes
    follows = self.num_classes == _CLASSES != classes
    if follows:  # What a user typed does not; see `with_explicit`.
      object.__setattr__(self, "num_classes", classes)
    object.__setattr__(self, "_follows", follows)
    self._check_classes(self.num_classes)

  def with_explicit(self, names: Iterable[str]) -> CifarSettings:
    """A copy whose settings of these names count as typed.

    Raises:
      ValueError: if the user typed the classes of another data set.
    """
    copied = super().with_explicit(names)
    if "num_classes" in copied.explicit and getattr(self, "_follows", False):
      self._check_classes(_CLASSES)
    return copied

  def _check_classes(self, given: int) -> None:
    classes = VERSIONS[self.dataset].num_classes
    if given == classes:
      return
    fitting = [n for n, v in VERSIONS.items() if v.num_classes == given]
    cure = f"; --dataset={fitting[0]} has them" if fitting else ""
    raise ValueError(
      f"`num_classes` must be {classes} for `dataset`={self.dataset}, got "
      f"{given}{cure}."
    )

  def create_model(self) -> WideResNet:
    """Makes the network, with initial weights."""
    return WideResNet(
      self.resnet_depth,
      self.resnet_width,
      self.num_classes,
      self.seed,
      self.prune_first_layer,
      self.prune_last_layer,
      masked=self.training_method != registry.BASELINE,
      precision=self.precision,
    )
