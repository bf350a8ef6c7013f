# SPDX-License-Identifier: Apache-2.0
"""Infers the model flags of a checkpoint from its variables.

Names give the architecture and the masked layers, shapes the width. Settings
that neither shows (label smoothing, length of training) do not change the
network.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from rigl.counting.architectures import tables
from rigl.imagenet_resnet.model_flags import ModelFlags
from rigl.sparse_optimizers.registry import BASELINE
from rigl.tensor_names import is_mask, mask_of
from rigl.training import checkpoints, warm_start

Shapes = Mapping[str, tuple[int, ...]]

# The first convolution of a block: kind, and number of its group.
_BLOCK = re.compile(
  r"resnet_model/(residual|bottleneck)_1_"
  r"(?:block_group_projection_)?block_group(\d)(?:_\d+_1)?/weights"
)
_DIGITS = 4  # Of widths and expansion factors, which rounding hides.


class _Shape:
  """Stands for a tensor of a checkpoint."""

  def __init__(self, shape: Iterable[int]) -> None:
    self.shape = tuple(shape)


def find_flags(shapes: Shapes) -> ModelFlags:
  """Infers the model flags from the shapes of variables.

  Args:
    shapes: shapes of a checkpoint's tensors by name.

  Raises:
    ValueError: if no model of this package has such variables.
  """
  for flags in _candidates(shapes):
    if _fits(flags, shapes):
      return flags
  raise ValueError(
    "The checkpoint fits no ImageNet model of this package; its first "
    f"variables are {[*sorted(shapes)[:3]]}."
  )


def read_shapes(prefix: str) -> dict[str, tuple[int, ...]]:
  """The shapes of a checkpoint's tensors by name.

  Raises:
    ValueError: if it is not there or damaged.
  """
  return {name: t.shape for name, t in checkpoints.load(prefix).items()}


def command_line(flags: ModelFlags) -> list[str]:
  """The flags that differ from their defaults, as typed on a command line."""
  return [
    f"--{field.name}={getattr(flags, field.name)}"
    for field in dataclasses.fields(flags)
    if getattr(flags, field.name) != field.default
  ]


def _candidates(shapes: Shapes) -> Iterable[ModelFlags]:
  masked = any(map(is_mask, shapes))
  method = "rigl" if masked else BASELINE
  vggs = [name for name in tables.VGGS if f"{name}/fc8/weights" in shapes]
  for name in vggs:
    weights = shapes[f"{name}/fc8/weights"]
    for width in _widths(weights[-2], tables.VGG_CHANNELS[-1]):
      yield ModelFlags(
        model_architecture=name,
        width=width,
        last_layer_sparsity=0.0 if f"{name}/fc8/biases" in shapes else -1.0,
        num_label_classes=weights[-1],
        training_method=method,
      )
  last = _last_layer(shapes)
  if last is None:
    return
  ends: dict[str, Any] = {
    "last_layer_sparsity": 0.0 if _is_dense_end(last) else -1.0,
    "num_label_classes": shapes[last][-1],
    "training_method": method,
  }
  if depth := _resnet_depth(shapes):
    inputs = shapes[last][0] // (4 if depth >= tables.FIRST_BOTTLENECK else 1)
    dense = "resnet_model/initial_conv/initial_conv/weights" in shapes
    for width in _widths(inputs, tables.RESNET_CHANNELS[-1]):
      yield ModelFlags(
        resnet_depth=depth,
        width=width,
        first_layer_sparsity=0.0 if dense else -1.0,
        **ends,
      )
    return
  # Masked only with a sparsity of its own, whose value no variable shows.
  first = 0.5 if mask_of("resnet_model/initial_conv") in shapes else 0.0
  yield from _mobilenets(shapes, {**ends, "first_layer_sparsity": first})


def _mobilenets(shapes: Shapes, ends: dict[str, Any]) -> Iterable[ModelFlags]:
  expand = shapes.get("resnet_model/expand_1x1_1/weights")
  blocks = tables.MOBILENET_V2 if expand else tables.MOBILENET_V1
  name = f"resnet_model/contraction_1x1_{len(blocks) - 1}/weights"
  if name not in shapes:
    return
  if expand:
    factor = expand[-1] / expand[-2]
    ends = {**ends, "expansion_factor": round(factor, _DIGITS)}
  version = "mobilenet_v2" if expand else "mobilenet_v1"
  for width in _widths(shapes[name][-1], blocks[-1][0], 8):
    yield ModelFlags(model_architecture=version, width=width, **ends)


def _widths(channels: int, per_width: int, multiple: int = 1) -> list[float]:
  """Widths that give so many channels, the likeliest first.

  Args:
    channels: the channels of a layer.
    per_width: its channels at width 1.
    multiple: what numbers of channels are rounded to a multiple of.
  """
  middle = channels / per_width
  span = int(1000 * multiple / per_width) + 1
  near = [middle + n / 1000 for n in sorted(range(-span, span + 1), key=abs)]
  found = [*(round(middle, digits) for digits in (1, 2, 3)), middle, *near]
  # 1 is the default.
  return [
    -1.0 if w == 1 else round(w, 6) for w in dict.fromkeys(found) if w > 0
  ]


def _fits(flags: ModelFlags, shapes: Shapes) -> bool:
  with tf.Graph().as_default():  # Nothing is computed.
    model = flags.create_model()
  tensors = {name: _Shape(shape) for name, shape in shapes.items()}
  wanted = dict(model.named_variables)
  if flags.training_method != BASELINE:
    wanted.update({mask_of(n): k for n, k in model.kernels.items()})
  others = [name for name in shapes if warm_start.is_parameter(name)]
  try:
    checkpoints.check_fits("", tensors, wanted, others)
  except ValueError:
    return False
  return True


def _last_layer(shapes: Shapes) -> str | None:
  scope = "resnet_model/final_dense"
  names = (
    f"{scope}/weights",
    f"{scope}/final_dense/weights",
    f"{scope}/kernel",
  )
  return next((name for name in names if name in shapes), None)


def _is_dense_end(name: str) -> bool:
  return name.endswith("/kernel") or "final_dense/final_dense" in name


def _resnet_depth(shapes: Shapes) -> int | None:
  found = [m for name in shapes if (m := _BLOCK.fullmatch(name))]
  kinds = {match[1] for match in found}
  numbers = [int(match[2]) for match in found]
  blocks = tuple(numbers.count(group) for group in (1, 2, 3, 4))
  for depth, groups in tables.RESNETS.items():
    kind = "residual" if depth < tables.FIRST_BOTTLENECK else "bottleneck"
    if kinds == {kind} and blocks == groups:
      return depth
  return None
