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
from rigl.counting.architectures import plans
from rigl.imagenet_resnet import model_settings, models
from rigl.methods import MethodSettings, method_settings
from rigl.training.runners import TPU_ESTIMATOR, runner_setting
from rigl.training.settings import check, setting

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
ESTIMATOR_FLAGS = ("master", "num_cores", "tpu_job_name")
METHODS = (
  "scratch",
  "baseline",
  "snip",
  "dnw",
  "set",
  "momentum",
  "rigl",
  "static",
)
# Those whose masks are all ones at first.
DENSE_STARTS = ("baseline", "snip", "dnw")
EVALUATIONS = ("eval", "eval_once")


def _idle(default: Any) -> Any:
  text = "Has no effect; kept for the published command lines."
  return setting(default, text, defines_run=False)


@gin.configurable(module="rigl")
@dataclasses.dataclass(frozen=True)
class ImagenetSettings:
  """All settings of a run on ImageNet; the help texts say what they mean."""

  precision: str = setting(
    "float32",
    "Type that the network computes in.",
    choices=tuple(model_settings.PRECISIONS),
  )
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
    "tpu_estimator: address of the TPU worker, such as grpc://HOST:8470. "
    "Empty: this machine.",
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
  data_format: str = setting(
    "channels_last",
    "Order of dimensions that the network computes with.",
    choices=tuple(model_settings.DATA_FORMATS),
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
  resnet_depth: int = setting(
    50, f"Layers of a ResNet: one of {[*plans.RESNETS]}.", low=1
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
  num_label_classes: int = setting(1000, "Number of classes.", low=2)
  steps_per_eval: int = setting(
    1251,
    "train_and_eval: steps between evaluations.",
    low=1,
    defines_run=False,
  )
  use_tpu: bool = setting(
    False, "TPUs, with --runner=tpu_estimator.", defines_run=False
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
    "tpu_estimator with --use_tpu: cores of the TPU, among which batches are "
    "shared out.",
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
  training_method: str = setting(
    "scratch", "Sparse training method; baseline is dense.", choices=METHODS
  )
  init_method: str = setting(
    "baseline",
    "Initial weights: those of a dense network, or scaled for sparse layers.",
    choices=("baseline", "sparse"),
  )
  is_warm_up: bool = _idle(True)
  width: float = setting(
    -1.0, "Factor of the number of channels; not positive: 1."
  )
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
  first_layer_sparsity: float = setting(
    0.0,
    "Sparsity of the first layer; 0: dense, -1: as the others.",
    low=-1.0,
    below=1.0,
  )
  last_layer_sparsity: float = setting(
    -1.0,
    "Sparsity of the last layer; 0: dense, -1: as the others.",
    low=-1.0,
    below=1.0,
  )
  load_mask_dir: str = setting(
    "", "Run directory or checkpoint whose masks this run starts with."
  )
  initial_value_checkpoint: str = setting(
    "", "Run directory or checkpoint whose parameters this run starts with."
  )
  model_architecture: str = setting(
    "resnet", "The network.", choices=models.ARCHITECTURES
  )
  expansion_factor: float = setting(
    6.0, "MobileNet-v2: expansion of its blocks.", low=1e-6
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
    "Whether XLA compiles the steps: auto (where it is faster: not on a CPU), "
    "true, false.",
    choices=("auto", "true", "false"),
  )

  def __post_init__(self) -> None:
    if self.use_tpu and self.runner != TPU_ESTIMATOR:
      raise ValueError(
        f"`use_tpu` needs `runner`={TPU_ESTIMATOR}, got {self.runner!r}."
      )
    check(self)
    if self.resnet_depth not in plans.RESNETS:
      raise ValueError(
        f"`resnet_depth` must be one of {[*plans.RESNETS]}, got "
        f"{self.resnet_depth}."
      )
    self.end_layers()  # Checks them.
    if self.total_steps < 1:
      raise ValueError(
        "`training_steps_multiplier` * `train_steps` must be at least 1, got "
        f"{self.training_steps_multiplier} * {self.train_steps}."
      )

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

  def end_layers(self) -> models.EndLayers:
    """What becomes of the first and the last layer."""
    return models.end_layers(
      self.model_architecture,
      self.first_layer_sparsity,
      self.last_layer_sparsity,
    )

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
