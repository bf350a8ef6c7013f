"""The settings of the ImageNet script, each of them a flag.

Names and defaults are those of the published script; what is ours is marked
at the end.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from typing import Any

import gin

from rigl import sparse_utils
from rigl.config.runner_flag import runner_setting
from rigl.config.settings import setting
from rigl.distribution.strategies import StrategySettings
from rigl.imagenet_resnet.model_flags import ModelFlags
from rigl.methods import MethodSettings, method_settings

_STEP_LIMIT = 2**31
# Flags of the published script that say nothing to this one.
IDLE_FLAGS = (
  "block_height",
  "block_width",
  "is_warm_up",
  "num_workers",
  "ps_task",
  "transpose_input",
)
# Those that only `--runner=tpu_estimator` listens to.
ESTIMATOR_FLAGS = ("tpu_job_name",)
# Those whose masks are all ones at first.
DENSE_STARTS = ("baseline", "snip", "dnw")
EVALUATIONS = ("eval", "eval_once")


def _idle(default: Any) -> Any:
  text = "Has no effect; kept for the published command lines."
  return setting(default, text, defines_run=False)


@gin.configurable(module="rigl")
@dataclasses.dataclass(frozen=True)
class ImagenetSettings(ModelFlags, StrategySettings):
  """All settings of a run on ImageNet; the help texts say what they mean."""

  num_workers: int = _idle(1)
  base_learning_rate: float = setting(
    0.1, "Learning rate for a batch of 256; it grows with the batch.", low=0.0
  )
  momentum: float = setting(
    0.9, "Momentum (Nesterov's) of the optimizer.", low=0.0, below=1.0
  )
  ps_task: int = _idle(0)
  weight_decay: float = setting(
    1e-4, "Weight decay of the kernels, but depthwise ones.", low=0.0
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
  )
  steps_per_checkpoint: int = setting(
    1000, "Steps between checkpoints.", low=1, defines_run=False
  )
  keep_checkpoint_max: int = setting(
    0, "Checkpoints to keep; 0 keeps all.", low=0, defines_run=False
  )
  seed: int = setting(0, "Seed of everything random.", low=0, below=_STEP_LIMIT)
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
  transpose_input: bool = _idle(False)
  log_mask_imgs_each_iteration: bool = setting(
    False,
    "Whether summaries show the masks as images.",
    defines_run=False,
  )
  mask_init_method: str = setting(
    "",
    "Distribution of the sparsity over layers. Empty: uniform for snip and "
    "dnw; other sparse methods need --load_mask_dir then.",
    choices=("", *sparse_utils.KNOWN_METHODS),
  )
  label_smoothing: float = setting(
    0.1, "Share of the label spread over all classes.", low=0.0, below=1.0
  )
  erk_power_scale: float = setting(
    1.0, "Exponent scale of erdos_renyi_kernel.", low=0.0
  )
  train_steps: int = setting(
    2, "Gradient steps to train.", low=1, below=_STEP_LIMIT
  )
  train_batch_size: int = setting(1024, "Images a training step.", low=1)
  eval_batch_size: int = setting(
    1000, "Images a batch of the evaluation.", low=1, defines_run=False
  )
  num_train_images: int = setting(
    1281167, "Images an epoch of the learning rate.", low=1
  )
  num_eval_images: int = setting(
    50000, "Most images to evaluate on.", low=1, defines_run=False
  )
  steps_per_eval: int = setting(
    1251,
    "train_and_eval: steps between evaluations.",
    low=1,
    defines_run=False,
  )
  use_tpu: bool = setting(
    False,
    "Whether to train on a Cloud TPU, as --strategy=tpu; without --tpu or "
    "--master, on that of this machine.",
    defines_run=False,
  )
  runner: str = runner_setting()
  iterations_per_loop: int = setting(
    1251,
    "Most steps of one call of the compiled program; after so many steps "
    "the training is summarised.",
    low=1,
    defines_run=False,
  )
  num_parallel_calls: int = setting(
    64, "Images decoded at a time.", low=1, defines_run=False
  )
  num_cores: int = setting(
    8,
    "Cores of the TPU; if given, another number is refused. tpu_estimator: "
    "among so many cores batches are shared out.",
    low=1,
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
    low=0,
    defines_run=False,
  )
  init_method: str = setting(
    "baseline",
    "Initial weights: those of a dense network, or scaled for sparse layers.",
    choices=("baseline", "sparse"),
  )
  is_warm_up: bool = _idle(True)
  use_adam: bool = setting(False, "Adam with a constant learning rate.")
  use_sgdr: bool = setting(False, "Cosine learning rate with restarts.")
  sgdr_decay_step: float = setting(
    5.0, "SGDR: length of the first period in epochs.", low=1e-6
  )
  sgdr_t_mul: float = setting(
    1.5, "SGDR: how many times longer a period is than the last.", low=1.0
  )
  sgdr_m_mul: float = setting(
    0.5, "SGDR: what each period multiplies the rate by.", low=0.0
  )
  end_sparsity: float = setting(
    0.9, "Share of zeros of all sparse kernels.", low=0.0, below=1.0
  )
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
    25000, "Last step of mask updates; negative: no end.", below=_STEP_LIMIT
  )
  maskupdate_frequency: int = setting(
    100, "Steps between mask updates.", low=1, below=_STEP_LIMIT
  )
  load_mask_dir: str = setting(
    "", "Run directory or checkpoint whose masks this run starts with."
  )
  initial_value_checkpoint: str = setting(
    "", "Run directory or checkpoint whose parameters this run starts with."
  )
  training_steps_multiplier: float = setting(
    1.0,
    "Multiplies the steps of training, of mask updates' begin and end and the "
    "epochs of the learning rate's drops (not of SGDR).",
    low=0.0,
    high=1000.0,
  )
  block_width: int = _idle(1)
  block_height: int = _idle(1)
  # What the published script does not have.
  image_size: int = setting(224, "Height and width of the images.", low=32)
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
    if self.total_steps < 1:
      raise ValueError(
        "`training_steps_multiplier` * `train_steps` must be at least 1, got "
        f"{self.training_steps_multiplier} * {self.train_steps}."
      )

  def devices(self) -> StrategySettings:
    """See the base class; published flags ask for a TPU, too."""
    uses_tpu = self.use_tpu or self.strategy == "tpu" or self.tpu
    if not uses_tpu:
      return self
    tpu = self.tpu or self.master or "local"
    return dataclasses.replace(self, strategy="tpu", tpu=tpu)

  @property
  def total_steps(self) -> int:
    """Gradient steps to train, with the multiplier."""
    return self.multiplied(self.train_steps)

  def multiplied(self, step: int) -> int:
    """A step times `training_steps_multiplier`; a negative one stays."""
    return step if step < 0 else int(step * self.training_steps_multiplier)

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
    if self.training_method in DENSE_STARTS or self.load_mask_dir:
      return "random"
    raise ValueError(
      f"`mask_init_method` or `load_mask_dir` must be given for method "
      f"{self.training_method!r}; the former is one of "
      f"{[*sparse_utils.KNOWN_METHODS]}."
    )

  def method(self, typed: frozenset[str]) -> MethodSettings:
    """The part that the training method needs.

    Args:
      typed: names of the flags that the user typed.

    Raises:
      ValueError: see `distribution`.
    """
    if "training_steps_multiplier" in typed:
      typed |= {"maskupdate_begin_step", "maskupdate_end_step"}
    return method_settings(
      self,
      typed,
      {},
      mask_init_method=self.distribution,
      custom_sparsity_map=self.end_layers().custom_sparsity_map,
      maskupdate_begin_step=self.multiplied(self.maskupdate_begin_step),
      maskupdate_end_step=self.multiplied(self.maskupdate_end_step),
      # Of a method that is not among those here.
      prune_begin_step=0,
      prune_end_step=0,
      pruning_frequency=1,
    )
