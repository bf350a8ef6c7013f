# SPDX-License-Identifier: Apache-2.0
"""The settings of the MNIST script, each of them a flag.

Names and defaults are those of the published script; the last ones are ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from rigl.config.device_flags import DeviceFlags
from rigl.config.method_flags import MethodFlags
from rigl.config.settings import STEP_LIMIT, override, setting
from rigl.configurable import configurable
from rigl.sparse_optimizers import registry

NONE, CSR, BLOCK, AUTO = "none", "csr", "block", "auto"


@configurable(
  unrecorded=[
    "block_size",
    "compilation_cache",
    "jit_compile",
    "on_nonfinite",
    "sparse_compute",
    "sparse_threads",
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
class MnistSettings(MethodFlags, DeviceFlags):
  """All settings of a run on MNIST; the help texts explain them."""

  mnist: str = setting(
    "",
    "Directory with the four IDX files of MNIST. Empty: the files that the "
    "package carries.",
    group="data",
    defines_run=False,
    alias="data_directory",
  )
  batch_size: int = setting(
    100, "Training examples per step.", group="data", minimum=1
  )
  learning_rate: float = setting(
    0.2, "Initial learning rate.", group="schedule", minimum=0.0
  )
  momentum: float = setting(
    0.9,
    "Momentum of the optimizer, in [0, 1).",
    group="schedule",
    minimum=0.0,
    less_than=1.0,
  )
  use_nesterov: bool = setting(True, "Use Nesterov momentum.", group="schedule")
  num_epochs: int = setting(
    200, "Epochs to train.", group="schedule", minimum=1, maximum=10**6
  )
  lr_drop_epoch: int = setting(
    75,
    "Epoch after which the learning rate is divided by 3, and again 20 epochs "
    "later. The dense baseline divides after epochs 60, 70 and 80 instead, "
    "adam never.",
    group="schedule",
    minimum=0,
  )
  optimizer: str = setting(
    "momentum",
    "Optimizer that the sparse method wraps.",
    group="schedule",
    choices=("adam", "momentum", "sgd"),
  )
  l2_scale: float = setting(
    1e-4,
    "Weight decay: adds this factor times each kernel to its gradient.",
    group="schedule",
    minimum=0.0,
    argument="weight_decay",
  )
  network_type: str = setting(
    "fc", "Type of the network.", group="model", choices=("fc",)
  )
  drop_fraction_anneal: str = override(
    MethodFlags, "drop_fraction_anneal", "cosine"
  )
  input_mask_path: str = setting(
    "",
    "Run directory or checkpoint whose layer1/mask selects input pixels: "
    "pixels without an active connection there are left out.",
    group="model",
  )
  sparsity_scale: float = setting(
    0.9,
    "Sparsity of the second layer as a multiple of end_sparsity.",
    group="method",
    minimum=0.0,
    argument="custom_sparsity_map",
  )
  maskupdate_end_step: int = override(MethodFlags, "maskupdate_end_step", 50000)
  mask_record_frequency: int = setting(
    0,
    "Iterations between records of the masks. 0: no records.",
    group="output",
    minimum=0,
  )
  mask_init_method: str = override(
    MethodFlags,
    "mask_init_method",
    "random",
    help="Distribution of the sparsity over layers (here of layer1 alone).",
  )
  prune_begin_step: int = setting(
    2000,
    "prune: first step of pruning.",
    group="method",
    minimum=0,
    less_than=STEP_LIMIT,
    argument="begin_step",
    methods=(registry.PRUNE,),
  )
  prune_end_step: int = setting(
    30000,
    "prune: step at which the final sparsity is reached.",
    group="method",
    less_than=STEP_LIMIT,
    argument="end_step",
    methods=(registry.PRUNE,),
  )
  end_sparsity: float = override(
    MethodFlags,
    "end_sparsity",
    0.98,
    help="Share of zeros of the first layer at the end, in [0, 1).",
    argument=("target_sparsity", "default_sparsity", "custom_sparsity_map"),
  )
  pruning_frequency: int = setting(
    500,
    "prune: steps between mask updates.",
    group="method",
    minimum=1,
    less_than=STEP_LIMIT,
    argument="frequency",
    methods=(registry.PRUNE,),
  )
  threshold_decay: float = setting(
    0.0,
    "Has no effect; kept for the published command lines.",
    group="ignored",
    ignored=True,
  )
  save_path: str = setting(
    "",
    "Directory of the run. Empty: a directory under rigl_runs/mnist that is "
    "named after the settings.",
    group="output",
    defines_run=False,
    alias="output_dir",
  )
  save_model: bool = setting(
    True,
    "Write checkpoints, from which a run resumes.",
    group="output",
    defines_run=False,
  )
  # What the published script does not have.
  use_synthetic_data: bool = setting(
    False, "Train on a few generated digits instead of MNIST.", group="data"
  )
  checkpoint_epochs: int = setting(
    5,
    "Epochs between checkpoints.",
    group="output",
    minimum=1,
    defines_run=False,
  )
  sparse_compute: str = setting(
    NONE,
    "What the sparse layers store and compute. none: dense kernels and masks; "
    "csr: their active connections alone, on the CPU, for methods that need no "
    "others; auto: for each layer the one of these that is faster now. The "
    "connections of a run are the same, and one resumes where the other "
    "stopped. block: active blocks of a kernel alone, on every device; this is "
    "another training.",
    group="devices",
    choices=(NONE, CSR, BLOCK, AUTO),
    defines_run=False,
  )
  block_size: int = setting(
    128,
    "block: the most inputs, and outputs, of a block; the largest number is "
    "taken that divides both sizes of a layer.",
    group="devices",
    minimum=1,
    maximum=2**15,
    defines_run=False,
    ignored=lambda flags: flags.sparse_compute != BLOCK,
  )
  sparse_threads: int = setting(
    0,
    "Threads that share a product of a csr layer; they change no result. 0: "
    "one per core.",
    group="devices",
    minimum=0,
    maximum=1024,
    defines_run=False,
  )
  jit_compile: str = setting(
    "auto",
    "Whether XLA compiles the steps: auto (unless a layer is csr), true, "
    "false.",
    group="devices",
    choices=("auto", "true", "false"),
    defines_run=False,
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    layer2 = self.end_sparsity * self.sparsity_scale
    if not 0 <= layer2 < 1:
      raise ValueError(
        "`sparsity_scale` * `end_sparsity` must be in [0, 1), got "
        f"{self.sparsity_scale} * {self.end_sparsity}."
      )

  def computed_arguments(self, layers: Sequence[str]) -> dict[str, Any]:
    """The sparsities of the second layer and of the last, which is dense.

    Args:
      layers: names of the layers with a sparse kernel, in order.
    """
    custom = dict.fromkeys(layers[-1:], 0.0)
    if len(layers) > 2:
      custom[layers[1]] = self.end_sparsity * self.sparsity_scale
    return {"custom_sparsity_map": custom}
