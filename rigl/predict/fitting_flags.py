# SPDX-License-Identifier: Apache-2.0
"""Flags with which a checkpoint would fit, for errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from rigl.cifar_resnet.cifar_data import VERSIONS
from rigl.imagenet_resnet.published import checkpoint_flags
from rigl.mnist.mnist_data import NUM_PIXELS
from rigl.sparse_optimizers.registry import BASELINE
from rigl.tensor_names import is_mask, mask_of

Shapes = Mapping[str, tuple[int, ...]]

# Flags that change no variable.
_FREE = ("data_format", "precision")
_ENDS = ("first_layer_sparsity", "last_layer_sparsity")


def fitting_flags(
  task: str, shapes: Shapes, used: Mapping[str, Any]
) -> list[str]:
  """The flags that make a checkpoint fit, as typed on a command line.

  Args:
    task: name of the task.
    shapes: shapes of the checkpoint's tensors by name.
    used: values of the task's flags that do not fit.

  Returns:
    Those that differ from the used ones; empty if it fits no model.
  """
  wanted = _FINDERS[task](shapes)
  return [
    f"--{name}={value}"
    for name, value in wanted.items()
    if name in used
    and name not in _FREE
    and not _is_same(name, used[name], value)
  ]


def _is_same(name: str, a: Any, b: Any) -> bool:
  """Whether two values of a flag give the same variables."""
  if name == "training_method":
    return (a == BASELINE) == (b == BASELINE)
  if name in _ENDS:
    return (a == 0) == (b == 0)
  if name == "width":
    return (a if a > 0 else 1.0) == (b if b > 0 else 1.0)
  return bool(a == b)


def _method(shapes: Shapes) -> str:
  masked = any(
    is_mask(name) or name.endswith(("/positions", "/outputs_of"))
    for name in shapes
  )
  return "rigl" if masked else BASELINE


def _imagenet(shapes: Shapes) -> dict[str, Any]:
  try:
    return vars(checkpoint_flags.find_flags(shapes))
  except ValueError:
    return {}


def _cifar(shapes: Shapes) -> dict[str, Any]:
  scope = "resnet_model"
  last = _first_of(
    shapes, f"{scope}/logits/weights", f"{scope}/logits/logits/weights"
  )
  first = _first_of(
    shapes, f"{scope}/conv_1/weights", f"{scope}/conv_1/conv_1/weights"
  )
  blocks = {
    match[1]
    for name in shapes
    if (match := re.match(rf"{scope}/conv_4_(\d+)_1/", name))
  }
  if last is None or first is None or not blocks:
    return {}
  rows, classes = shapes[last]
  known = [
    n for n, version in VERSIONS.items() if version.num_classes == classes
  ]
  return {
    "dataset": known[0] if known else "",
    "num_classes": classes,
    "resnet_depth": 6 * len(blocks) + 4,
    "resnet_width": rows // 64,
    "prune_first_layer": mask_of(f"{scope}/conv_1") in shapes,
    "prune_last_layer": mask_of(f"{scope}/logits") in shapes,
    "training_method": _method(shapes),
  }


def _mnist(shapes: Shapes) -> dict[str, Any]:
  first = _first_of(shapes, "layer1/weights", "layer1/kernel", "layer1/values")
  if first is None:
    return {}
  wanted: dict[str, Any] = {"training_method": _method(shapes)}
  if first != "layer1/values" and shapes[first][0] != NUM_PIXELS:
    wanted["input_mask_path"] = "RUN, whose first mask kept the pixels"
  return wanted


def _first_of(shapes: Shapes, *names: str) -> str | None:
  return next((name for name in names if name in shapes), None)


_FINDERS: Mapping[str, Callable[[Shapes], dict[str, Any]]] = {
  "imagenet": _imagenet,
  "cifar10": _cifar,
  "mnist": _mnist,
}
