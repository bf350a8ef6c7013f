"""The settings of the MNIST script, each of them a flag.

Names and defaults are those of the published script; what is ours is marked
at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import gin

from rigl import sparse_utils
from rigl.config.runner_flag import runner_setting
from rigl.config.settings import check, setting
from rigl.distribution.strategies import StrategySettings
from rigl.methods import METHODS, MethodSettings, method_settings

_STEP_LIMIT = 2**31


@gin.configurable(module="rigl")
@dataclasses.dataclass(frozen=True)
class MnistSettings(StrategySettings):
  """All settings of a run on MNIST; the help texts say what they mean."""

  mnist: str = setting(
    "",
    "Directory with the four IDX files of MNIST; empty: those of the package.",
    defines_run=False,
  )
  batch_size: int = setting(100, "Examples a training step.", low=1)
  learning_rate: float = setting(0.2, "Initial learning rate.", low=0.0)
  momentum: float = setting(
    0.9, "Momentum of the optimizer.", low=0.0, below=1.0
  )
  use_nesterov: bool = setting(True, "Whether the momentum is Nesterov's.")
  num_epochs: int = setting(200, "Epochs to train.", low=1, high=10**6)
  lr_drop_epoch: int = setting(
    75,
    "Epoch after which the learning rate is divided by 3, and again 20 epochs "
    "later. The dense baseline divides after epochs 60, 70 and 80 instead.",
    low=0,
  )
  optimizer: str = setting(
    "momentum",
    "Optimizer that makes the steps.",
    choices=("adam", "momentum", "sgd"),
  )
  l2_scale: float = setting(
    1e-4,
    "Weight decay of the kernels: adds this times w to gradients.",
    low=0.0,
  )
  network_type: str = setting("fc", "Type of the network.", choices=("fc",))
  training_method: str = setting(
    "baseline", "Sparse training method; baseline is dense.", choices=METHODS
  )
  drop_fraction: float = setting(
    0.3, "Share of the connections to drop, at first.", low=0.0, high=1.0
  )
  drop_fraction_anneal: str = setting(
    "cosine",
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
  input_mask_path: str = setting(
    "",
    "Run directory or checkpoint whose layer1/mask says which pixels to use: "
    "those without a connection there are left out.",
  )
  sparsity_scale: float = setting(
    0.9, "Sparsity of the second layer as a multiple of end_sparsity.", low=0.0
  )
  rigl_acc_scale: float = setting(
    0.0, "rigl: momentum of grown connections as a multiple of the gradient."
  )
  maskupdate_begin_step: int = setting(
    0, "First step of mask updates.", low=0, below=_STEP_LIMIT
  )
  maskupdate_end_step: int = setting(
    50000, "Last step of mask updates; negative: no end.", below=_STEP_LIMIT
  )
  maskupdate_frequency: int = setting(
    100, "Steps between mask updates.", low=1, below=_STEP_LIMIT
  )
  mask_record_frequency: int = setting(
    0, "Iterations between records of the masks; 0: no records.", low=0
  )
  mask_init_method: str = setting(
    "random",
    "Distribution of the sparsity over layers (here of layer1 alone).",
    choices=sparse_utils.KNOWN_METHODS,
  )
  prune_begin_step: int = setting(
    2000, "prune: first step of pruning.", low=0, below=_STEP_LIMIT
  )
  prune_end_step: int = setting(
    30000, "prune: step at which the sparsity is reached.", below=_STEP_LIMIT
  )
  end_sparsity: float = setting(
    0.98, "Share of zeros of the first layer at the end.", low=0.0, below=1.0
  )
  pruning_frequency: int = setting(
    500, "prune: steps between mask updates.", low=1, below=_STEP_LIMIT
  )
  threshold_decay: float = setting(
    0.0, "Has no effect; kept for the published command lines."
  )
  save_path: str = setting(
    "",
    "Directory of the run. Empty: a directory under rigl_runs/mnist that the "
    "settings name.",
    defines_run=False,
  )
  save_model: bool = setting(
    True,
    "Whether to write checkpoints, which a run resumes from.",
    defines_run=False,
  )
  seed: int = setting(0, "Seed of everything random.", low=0, below=_STEP_LIMIT)
  # What the published script does not have.
  use_synthetic_data: bool = setting(
    False, "Train on a few generated digits instead of MNIST."
  )
  checkpoint_epochs: int = setting(
    5, "Epochs between checkpoints.", low=1, defines_run=False
  )

  runner: str = runner_setting()

  def __post_init__(self) -> None:
    check(self)
    layer2 = self.end_sparsity * self.sparsity_scale
    if not 0 <= layer2 < 1:
      raise ValueError(
        "`sparsity_scale` * `end_sparsity` must be in [0, 1), got "
        f"{self.sparsity_scale} * {self.end_sparsity}."
      )

  def method(
    self, typed: frozenset[str], layers: Sequence[str]
  ) -> MethodSettings:
    """The part that the training method needs.

    Args:
      typed: names of the flags that the user typed.
      layers: the names of the network's layers. The second has a sparsity of
        its own and the last is dense.
    """
    custom = {layers[-1]: 0.0}
    if len(layers) > 2:
      custom[layers[1]] = self.end_sparsity * self.sparsity_scale
    if typed & {"sparsity_scale", "end_sparsity"}:
      typed |= {"custom_sparsity_map"}
    return method_settings(
      self,
      typed,
      {"weight_decay": "l2_scale"},
      custom_sparsity_map=custom,
    )
