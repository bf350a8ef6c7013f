# SPDX-License-Identifier: Apache-2.0
"""The flags of the training methods.

Every flag is declared once. Its metadata names the optimizer argument that it
decides, so a new flag of a method is one more field here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from rigl import sparse_utils
from rigl.config.settings import STEP_LIMIT, Settings, setting
from rigl.sparse_optimizers import registry
from rigl.sparse_optimizers.drop_grow_options import LAYER_FLOOR
from rigl.sparse_utils.backward_sets import value_of_flag

_UNIFORM, _LOADS_MASKS = "random", "load_mask_dir"
# Flags of which every value but the default is for some methods alone.
_OF_SOME_METHODS = (
  "grow_batches",
  "initial_sparsity",
  "backward_sparsity",
  "track_exploration",
  "soft_memory",
  "across_layers",
  "drop_gradient_weight",
)
# Arguments of optimizers that not every script has a flag for.
_WITHOUT_FLAG = {"custom_sparsity_map": {}, "erk_power_scale": 1.0}


@dataclasses.dataclass(frozen=True)
class MethodFlags(Settings):
  """Flags of the training methods; the settings of every script extend it.

  A script changes a default with `override`, and declares its own flags of
  methods in the same way, with `argument`.
  """

  training_method: str = setting(
    registry.BASELINE,
    "Sparse training method; baseline is dense.",
    group="method",
    choices=tuple(registry.METHODS),
  )
  end_sparsity: float = setting(
    0.9,
    "Share of zeros of all sparse kernels.",
    group="method",
    minimum=0.0,
    less_than=1.0,
    argument=("target_sparsity", "default_sparsity"),
  )
  mask_init_method: str = setting(
    "random",
    "Distribution of the sparsity over layers. Empty: random for methods that "
    "start dense; the others then need the masks of another run.",
    group="method",
    choices=("", *sparse_utils.DISTRIBUTIONS),
    argument="mask_init_method",
  )
  drop_fraction: float = setting(
    0.3,
    "Share of the connections to drop, at first.",
    group="method",
    minimum=0.0,
    maximum=1.0,
    argument="drop_fraction",
  )
  drop_fraction_anneal: str = setting(
    "constant",
    "How the drop fraction declines: constant, cosine, exponential[_K].",
    group="method",
    argument="drop_fraction_anneal",
  )
  grow_init: str = setting(
    "zeros",
    "Initial value of grown connections: zeros, initial_dist, random_normal, "
    "random_uniform, and for rigl grad_scale, grad_sign; all but zeros with "
    "_K to divide by K.",
    group="method",
    argument="grow_init",
  )
  s_momentum: float = setting(
    0.9,
    "Decay of the averaged gradient that method `momentum` grows by.",
    group="method",
    minimum=0.0,
    maximum=1.0,
    argument="momentum",
  )
  rigl_acc_scale: float = setting(
    0.0,
    "rigl: momentum of grown connections as a multiple of the gradient.",
    group="method",
    argument="initial_acc_scale",
  )
  maskupdate_begin_step: int = setting(
    0,
    "First step of mask updates.",
    group="method",
    minimum=0,
    less_than=STEP_LIMIT,
    argument="begin_step",
    methods=registry.BY_WINDOW,
  )
  maskupdate_end_step: int = setting(
    75000,
    "Last step of mask updates; negative: no end.",
    group="method",
    less_than=STEP_LIMIT,
    argument="end_step",
    methods=registry.BY_WINDOW,
  )
  maskupdate_frequency: int = setting(
    100,
    "Steps between mask updates.",
    group="method",
    minimum=1,
    less_than=STEP_LIMIT,
    argument="frequency",
    methods=registry.BY_WINDOW,
  )
  grow_batches: int = setting(
    1,
    "rigl, granet: batches whose gradients are averaged to choose what grows, "
    "at most --maskupdate_frequency. Above 1 it keeps a dense gradient per "
    "layer, in checkpoints as well.",
    group="method",
    minimum=1,
    less_than=STEP_LIMIT,
    records_default=False,
    argument="grow_batches",
  )
  initial_sparsity: float = setting(
    0.0,
    "granet: share of zeros at the start, at most --end_sparsity.",
    group="method",
    minimum=0.0,
    less_than=1.0,
    records_default=False,
    argument="initial_sparsity",
  )
  backward_sparsity: float = setting(
    -1.0,
    "top_kast: share of the weights that are not trained, at most "
    "--end_sparsity. Negative: that of twice as many weights as are active.",
    group="method",
    less_than=1.0,
    records_default=False,
    argument="backward_sparsity",
  )
  track_exploration: bool = setting(
    False,
    "Measure the share of connections that were ever active; top_kast and "
    "methods that drop and grow. Costs one byte per connection, in checkpoints "
    "as well.",
    group="method",
    records_default=False,
    argument="track_exploration",
    methods=registry.BY_WINDOW,
  )
  soft_memory: bool = setting(
    False,
    "set, rigl: an update drops all connections but the number that "
    "--end_sparsity leaves, then grows the share --drop_fraction of it; new "
    "ones train before they are judged. The last update only drops.",
    group="method",
    records_default=False,
    argument="soft_memory",
  )
  across_layers: bool = setting(
    False,
    "set, rigl: compare the connections of all layers, which together keep "
    "their number.",
    group="method",
    records_default=False,
    argument="across_layers",
  )
  layer_floor: float = setting(
    LAYER_FLOOR,
    "Least share of its connections that a layer keeps with --across_layers.",
    group="method",
    minimum=0.0,
    maximum=1.0,
    records_default=False,
    ignored=lambda settings: not settings.across_layers,
    argument="layer_floor",
  )
  drop_gradient_weight: float = setting(
    0.0,
    "set, rigl: connections drop by |weight| + this times |gradient|. Above 0, "
    "an update of set takes the place of a gradient step, as one of rigl does.",
    group="method",
    minimum=0.0,
    records_default=False,
    argument="drop_gradient_weight",
  )
  seed: int = setting(
    0,
    "Seed of everything random.",
    minimum=0,
    less_than=STEP_LIMIT,
    argument="seed",
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    for field in dataclasses.fields(self):
      if field.name in _OF_SOME_METHODS:
        self._check_taken(field)

  def _check_taken(self, field: dataclasses.Field) -> None:
    """Raises ValueError if the method does not take the value of a flag."""
    if getattr(self, field.name) == field.default:
      return
    taking = [
      method
      for method, optimizer in registry.METHODS.items()
      if field.name in registry.argument_names(optimizer)
    ]
    if self.training_method not in taking:
      raise ValueError(
        f"`{field.name}` must be {field.default} for method "
        f"{self.training_method!r}; {taking} take it."
      )

  def method_arguments(self, layers: Sequence[str] = ()) -> dict[str, Any]:
    """The arguments that the flags decide for the optimizer of the method.

    Args:
      layers: names of the layers with a sparse kernel, in order.

    Returns:
      {argument: value}. Optimizers take those they know.

    Raises:
      ValueError: if a flag is missing that the method needs.
    """
    values = {
      name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      for name in arguments_of(field, self.training_method)
    }
    values["mask_init_method"] = self.distribution
    values["backward_sparsity"] = value_of_flag(self.backward_sparsity)
    return {**_WITHOUT_FLAG, **values, **self.computed_arguments(layers)}

  def computed_arguments(self, layers: Sequence[str]) -> dict[str, Any]:
    """Hook: arguments that are not the value of one flag, by name.

    Args:
      layers: names of the layers with a sparse kernel, in order.
    """
    del layers
    return {}

  @property
  def distribution(self) -> str:
    """How the sparsity is distributed over layers.

    Raises:
      ValueError: if the method needs to be told and is not.
    """
    if self.mask_init_method:
      return self.mask_init_method
    # Only the scripts that have this flag can load masks.
    loads = getattr(self, _LOADS_MASKS, None)
    if loads or self.training_method not in registry.SPARSE_START:
      return _UNIFORM
    either = "" if loads is None else f" or `{_LOADS_MASKS}`"
    raise ValueError(
      f"`mask_init_method`{either} must be given for method "
      f"{self.training_method!r}; the former is one of "
      f"{[*sparse_utils.DISTRIBUTIONS]}."
    )

  @property
  def explicit_arguments(self) -> frozenset[str]:
    """The arguments of the method's optimizer that the user typed a flag of."""
    return frozenset(
      name
      for field in dataclasses.fields(self)
      if field.name in self.explicit
      for name in arguments_of(field, self.training_method)
    )


def arguments_of(field: dataclasses.Field, method: str) -> Collection[str]:
  """The arguments that a flag decides for the optimizer of a method.

  Args:
    field: the field of the flag.
    method: name of the training method.
  """
  methods = field.metadata["methods"]
  return field.metadata["argument"] if method in (methods or [method]) else ()
