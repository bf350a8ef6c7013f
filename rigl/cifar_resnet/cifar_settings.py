"""The settings of the CIFAR-10 script, each of them a flag.

Names and defaults are those of the published script; what is ours is marked
at the end.
"""

from __future__ import annotations

import dataclasses

import gin

from rigl import sparse_utils
from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.config.runner_flag import runner_setting
from rigl.config.settings import check, setting
from rigl.distribution.strategies import StrategySettings
from rigl.methods import METHODS, MethodSettings, method_settings

_STEP_LIMIT = 2**31
# Flags of the published script that say nothing to this one.
IDLE_FLAGS = ("master", "ps_task", "pruning_hparams")


@gin.configurable(module="rigl")
@dataclasses.dataclass(frozen=True)
class CifarSettings(StrategySettings):
  """All settings of a run on CIFAR-10; the help texts say what they mean."""

  master: str = setting(
    "local",
    "Has no effect; kept for the published command lines.",
    defines_run=False,
  )
  ps_task: int = setting(
    0,
    "Has no effect; kept for the published command lines.",
    defines_run=False,
  )
  keep_checkpoint_max: int = setting(
    5, "Checkpoints to keep; 0 keeps all.", low=0, defines_run=False
  )
  pruning_hparams: str = setting(
    "",
    "Has no effect; kept for the published command lines.",
    defines_run=False,
  )
  train_dir: str = setting(
    "",
    "Directory under which the run has its own, METHOD/END_SPARSITY/"
    "BEGIN_STEP/END_STEP/FREQUENCY of mask updates. Empty: a directory under "
    "rigl_runs/cifar10 that the settings name.",
    defines_run=False,
  )
  load_mask_dir: str = setting(
    "", "Run directory or checkpoint whose masks this run starts with."
  )
  initial_value_checkpoint: str = setting(
    "", "Run directory or checkpoint whose parameters this run starts with."
  )
  seed: int = setting(0, "Seed of everything random.", low=0, below=_STEP_LIMIT)
  momentum: float = setting(
    0.9, "Momentum (Nesterov's) of the optimizer.", low=0.0, below=1.0
  )
  max_steps: int = setting(
    97656, "Gradient steps to train.", low=1, below=_STEP_LIMIT
  )
  l2: float = setting(
    5e-4, "Weight decay of the kernels: adds this times w.", low=0.0
  )
  resnet_depth: int = setting(16, "Depth of the network, 6n + 4.", low=10)
  resnet_width: int = setting(4, "Width of the network.", low=1)
  data_directory: str = setting(
    "",
    "Directory of CIFAR-10: the official binary files or a TFDS directory. "
    "Empty: TFDS's own, into which it downloads.",
    defines_run=False,
  )
  num_classes: int = setting(10, "Number of classes.", low=10)
  dataset_size: int = setting(
    50000, "Training images to use, the first ones.", low=1
  )
  batch_size: int = setting(128, "Images a training step.", low=1)
  checkpoint_steps: int = setting(
    5000,
    "Steps between checkpoints (and evaluations).",
    low=1,
    defines_run=False,
  )
  summaries_steps: int = setting(
    300, "Steps between summaries of the training.", low=1, defines_run=False
  )
  per_class_metrics: bool = setting(
    True,
    "Whether evaluations have precision and recall of every class.",
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
    20000, "prune: first step of pruning.", low=0, below=_STEP_LIMIT
  )
  sparsity_end_step: int = setting(
    75000, "prune: step at which the sparsity is reached.", below=_STEP_LIMIT
  )
  pruning_frequency: int = setting(
    1000, "prune: steps between mask updates.", low=1, below=_STEP_LIMIT
  )
  end_sparsity: float = setting(
    0.9, "Share of zeros of all sparse kernels.", low=0.0, below=1.0
  )
  training_method: str = setting(
    "baseline", "Sparse training method; baseline is dense.", choices=METHODS
  )
  prune_first_layer: bool = setting(
    False, "Whether the first convolution is sparse."
  )
  prune_last_layer: bool = setting(True, "Whether the last layer is sparse.")
  drop_fraction: float = setting(
    0.3, "Share of the connections to drop, at first.", low=0.0, high=1.0
  )
  drop_fraction_anneal: str = setting(
    "constant",
    "How the drop fraction declines: constant, cosine, exponential[_K].",
  )
  grow_init: str = setting(
    "zeros",
    "Initial value of grown connections: zeros, initial_dist, random_normal, "
    "random_uniform, and for rigl grad_scale, grad_sign; all but zeros with "
    "_K to divide by K.",
  )
  s_momentum: float = setting(
    0.9,
    "Decay of the averaged gradient that method `momentum` grows by.",
    low=0.0,
    high=1.0,
  )
  rigl_acc_scale: float = setting(
    0.0, "rigl: momentum of grown connections as a multiple of the gradient."
  )
  maskupdate_begin_step: int = setting(
    0, "First step of mask updates.", low=0, below=_STEP_LIMIT
  )
  maskupdate_end_step: int = setting(
    75000, "Last step of mask updates; negative: no end.", below=_STEP_LIMIT
  )
  maskupdate_frequency: int = setting(
    100, "Steps between mask updates.", low=1, below=_STEP_LIMIT
  )
  mask_init_method: str = setting(
    "random",
    "Distribution of the sparsity over layers.",
    choices=sparse_utils.KNOWN_METHODS,
  )
  training_steps_multiplier: float = setting(
    1.0,
    "Multiplies the steps of training, of mask updates' begin and end and of "
    "the learning rate's drops.",
    low=0.0,
    high=1000.0,
  )
  # What the published script does not have.
  use_synthetic_data: bool = setting(
    False, "Train on a few generated images instead of CIFAR-10."
  )
  jit_compile: str = setting(
    "auto",
    "Whether XLA compiles the steps: auto (where it is faster: not on a CPU), "
    "true, false.",
    choices=("auto", "true", "false"),
  )
  runner: str = runner_setting()

  def __post_init__(self) -> None:
    check(self)
    if self.total_steps < 1:
      raise ValueError(
        "`training_steps_multiplier` * `max_steps` must be at least 1, got "
        f"{self.training_steps_multiplier} * {self.max_steps}."
      )

  @property
  def total_steps(self) -> int:
    """Gradient steps to train, with the multiplier."""
    return self.multiplied(self.max_steps)

  def multiplied(self, step: int) -> int:
    """A step times `training_steps_multiplier`; a negative one stays."""
    return step if step < 0 else int(step * self.training_steps_multiplier)

  def create_model(self) -> WideResNet:
    """Makes the network, with initial weights."""
    return WideResNet(
      self.resnet_depth,
      self.resnet_width,
      self.num_classes,
      self.seed,
      self.prune_first_layer,
      self.prune_last_layer,
      masked=self.training_method != "baseline",
    )

  def method(self, typed: frozenset[str]) -> MethodSettings:
    """The part that the training method needs.

    Args:
      typed: names of the flags that the user typed.
    """
    if "training_steps_multiplier" in typed:
      typed |= {"maskupdate_begin_step", "maskupdate_end_step"}
    return method_settings(
      self,
      typed,
      {
        "weight_decay": "l2",
        "prune_begin_step": "sparsity_begin_step",
        "prune_end_step": "sparsity_end_step",
      },
      custom_sparsity_map={},
      maskupdate_begin_step=self.multiplied(self.maskupdate_begin_step),
      maskupdate_end_step=self.multiplied(self.maskupdate_end_step),
    )
