# SPDX-License-Identifier: Apache-2.0
"""Options of drop and grow: soft memory, scope and drop scores.

The wrappers of `tf.compat.v1.train` and of Keras optimizers share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rigl import mask_ops
from rigl.checks import check_flag, check_number
from rigl.mask_ops import DropGrow, MaskEngine, keep_and_drop_counts
from rigl.schedules import UpdateSchedule
from rigl.sparse_optimizers.across_layers import (
  floors_of,
  keep_and_grow_across,
  totals_of,
)
from rigl.sparse_optimizers.soft_memory import (
  Counts,
  check_soft_memory,
  keep_and_grow,
  soft_counts,
)
from rigl.types import Tensor

# Seldom binding: it is there so that no layer loses nearly all of its
# connections, after which no gradient reaches the layers before it.
LAYER_FLOOR = 0.1


@dataclass(frozen=True)
class DropGrowOptions:
  """What SET and RigL can do otherwise than as published.

  Attributes:
    schedule: when masks are updated, and the drop fraction f.
    soft_memory: whether an update drops all but the target number n of
      connections and grows int(n * f), which the next update drops.
    across_layers: whether all layers together keep their number, without those
      that were given all of their connections, which stay dense.
    layer_floor: least share of its target number that a layer keeps then, in
      [0, 1]; at least one connection.
    drop_gradient_weight: at least 0; this times |gradient| is added to the drop
      score, which is |weight| and noise.

  Raises:
    ValueError: if a value is not as described.
  """

  schedule: UpdateSchedule
  soft_memory: bool = False
  across_layers: bool = False
  layer_floor: float = LAYER_FLOOR
  drop_gradient_weight: float = 0.0

  def __post_init__(self) -> None:
    check_soft_memory(self.soft_memory, self.schedule)
    check_flag("across_layers", self.across_layers)
    check_number("layer_floor", self.layer_floor, 0, 1)
    check_number("drop_gradient_weight", self.drop_gradient_weight, 0)

  def check_structure(self, structure: str | None) -> None:
    """Raises ValueError if masks with a structure shall change their counts."""
    for name, value in self._counting().items():
      if structure is not None and value:
        raise ValueError(
          f"`structure` must be None with `{name}`, because it fixes the "
          f"number of connections, got {structure!r}."
        )

  def check_unused(self, method: str) -> None:
    """Raises ValueError if an option is set, for methods that take none.

    Args:
      method: name of the method.
    """
    defaults = DropGrowOptions(self.schedule).arguments()
    for name, value in self.arguments().items():
      if value != defaults[name]:
        raise ValueError(
          f"`{name}` must be {defaults[name]} for {method}, got {value!r}: "
          "RigL and SET take it."
        )

  def check_stored(self, parts: str) -> None:
    """Raises ValueError if layers that store active parts alone lack an option.

    Args:
      parts: what they store, `connections` or `blocks`.
    """
    for name, value in self._counting().items():
      if value:
        raise ValueError(
          f"`{name}` must be False with layers that store only their active "
          f"{parts}, because their number never changes."
        )
    if self.drop_gradient_weight:
      raise ValueError(
        "`drop_gradient_weight` must be 0 with layers that store only their "
        f"active {parts}, got {self.drop_gradient_weight:g}."
      )

  def _counting(self) -> dict[str, bool]:
    return {
      "soft_memory": self.soft_memory,
      "across_layers": self.across_layers,
    }

  @property
  def changes_counts(self) -> bool:
    """Whether layers do not keep their number of connections."""
    return self.soft_memory or self.across_layers

  def arguments(self) -> dict[str, Any]:
    """The arguments of the optimizers, by name."""
    return {
      **self._counting(),
      "layer_floor": self.layer_floor,
      "drop_gradient_weight": self.drop_gradient_weight,
    }

  def in_use(self) -> dict[str, object]:
    """The arguments that have an effect, for `repr`."""
    used = {name: value for name, value in self.arguments().items() if value}
    if not self.across_layers:
      used.pop("layer_floor", None)
    return used

  def is_last(self, step: Tensor) -> Tensor:
    """Whether no update follows one at `step`, int64; it drops a surplus."""
    return self.schedule.is_last_update_step(step)

  def choose(
    self,
    engine: MaskEngine,
    drop_scores: Sequence[Tensor],
    masks: Sequence[Tensor],
    grow_scores: Sequence[Tensor],
    targets: Sequence[Tensor],
    fraction: Tensor,
    is_last: Tensor,
  ) -> list[DropGrow]:
    """Chooses the connections of an update.

    Args:
      engine: chooses the connections.
      drop_scores: float32 [n] of each layer; high values stay.
      masks: bool [n] of each layer.
      grow_scores: float [n] of each layer; high values grow.
      targets: int32 scalars, connections of each layer without a surplus.
      fraction: float32 scalar, the drop fraction.
      is_last: bool scalar, whether no update follows.

    Returns:
      The result of each layer, bool [n].
    """
    active = [mask_ops.count_ones(mask) for mask in masks]
    sizes = [mask.shape[0] for mask in masks]
    if self.across_layers:
      dense, ones, target, size = totals_of(active, targets, sizes)
      counts = self._counts(ones, target, size, fraction, is_last)
      return keep_and_grow_across(
        engine,
        drop_scores,
        masks,
        grow_scores,
        Counts(counts.keep + dense, counts.total + dense),
        floors_of(targets, sizes, self.layer_floor),
      )
    of_layers = [
      self._counts(*each, fraction, is_last)
      for each in zip(active, targets, sizes, strict=True)
    ]
    return keep_and_grow(engine, drop_scores, masks, grow_scores, of_layers)

  def _counts(
    self,
    active: Tensor,
    target: Tensor,
    size: Tensor | int,
    fraction: Tensor,
    is_last: Tensor,
  ) -> Counts:
    if self.soft_memory:
      return soft_counts(active, target, size, fraction, is_last)
    keep, _ = keep_and_drop_counts(active, fraction)
    return Counts(keep, active)
