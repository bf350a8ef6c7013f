# SPDX-License-Identifier: Apache-2.0
"""The flag that makes a training longer, and the steps that it multiplies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from rigl.config.method_flags import MethodFlags, arguments_of
from rigl.config.settings import setting
from rigl.sparse_optimizers import registry

# Arguments of optimizers that are steps of the window of mask updates.
_WINDOW = ("begin_step", "end_step")
_MULTIPLIER = "training_steps_multiplier"


@dataclasses.dataclass(frozen=True)
class LengthFlags(MethodFlags):
  """Method flags whose steps a multiplier stretches.

  Attributes:
    steps_flag: name of the setting with the gradient steps to train.

  Raises:
    ValueError: if no step remains, or if a setting is outside its range.
  """

  steps_flag: ClassVar[str]

  training_steps_multiplier: float = setting(
    1.0,
    "Multiplies the steps of training, of mask updates' and pruning's begin "
    "and end, and of the learning rate's drops (not of SGDR).",
    group="schedule",
    minimum=0.0,
    maximum=1000.0,
    argument=_WINDOW,
    methods=(*registry.BY_WINDOW, registry.PRUNE),
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.total_steps < 1:
      raise ValueError(
        f"`training_steps_multiplier` * `{self.steps_flag}` must be at least "
        f"1, got {self.training_steps_multiplier} * "
        f"{getattr(self, self.steps_flag)}."
      )

  @property
  def total_steps(self) -> int:
    """Gradient steps to train, with the multiplier."""
    return self.multiplied(getattr(self, self.steps_flag))

  def multiplied(self, step: int) -> int:
    """A step times the multiplier; a negative step stays as it is."""
    return step if step < 0 else int(step * self.training_steps_multiplier)

  def computed_arguments(self, layers: Sequence[str]) -> dict[str, Any]:
    """The window of mask updates, multiplied; not their frequency.

    Args:
      layers: names of the layers with a sparse kernel, in order.
    """
    arguments = super().computed_arguments(layers)
    for field in dataclasses.fields(self):
      decided = arguments_of(field, self.training_method)
      for name in set(decided) & set(_WINDOW):
        if field.name != _MULTIPLIER:
          arguments[name] = self.multiplied(getattr(self, field.name))
    return arguments
