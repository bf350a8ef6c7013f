# SPDX-License-Identifier: Apache-2.0
"""Names of a Keras model's variables in the checkpoints of the scripts.

The variable `conv_1/kernel` of a Keras model is `SCOPE/conv_1/weights` there,
its mask `SCOPE/conv_1/mask`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras

from rigl.tensor_names import MASK

# Last parts of names in checkpoints, by those in Keras; the first one is what
# masked layers have.
_LEAVES = {
  "kernel": ("weights", "kernel", "depthwise_weights"),
  "depthwise_kernel": ("depthwise_weights", "depthwise_kernel"),
  "bias": ("biases", "bias"),
}


def find_names(
  variables: Iterable[keras.Variable],
  tensors: Iterable[str],
  name_map: Mapping[str, str] | None = None,
) -> dict[str, str]:
  """Finds the tensors of a checkpoint that belong to variables.

  Args:
    variables: the variables of a Keras model.
    tensors: the names of the tensors of the checkpoint.
    name_map: {path or name of a layer in Keras: its scope in the checkpoint,
      or the end of it}. Layers that are not in it have the same name in both.

  Returns:
    {path of the variable: name of the tensor}.

  Raises:
    ValueError: if there is no tensor of a variable, or several.
  """
  scopes = _Scopes(variables, name_map or {})
  by_leaf: dict[str, list[str]] = {}
  for tensor in tensors:
    by_leaf.setdefault(_split(tensor)[1], []).append(tensor)
  found, problems = {}, []
  for path in scopes.paths:
    scope, leaf = scopes.of(path)
    matches = [
      tensor
      for alias in _LEAVES.get(leaf, (leaf,))
      for tensor in by_leaf.get(alias, ())
      if _ends_with(_split(tensor)[0], scope)
    ]
    if len(matches) == 1:
      found[path] = matches[0]
    else:
      problems.append(f"{path} is {' or '.join(matches) or 'missing'}")
  if problems:
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    raise ValueError(
      "`name_map` must lead every variable to one tensor of the checkpoint: "
      f"{'; '.join(problems[:3])}{more}."
    )
  _check_unique(found)
  return found


def make_names(
  variables: Iterable[keras.Variable],
  name_map: Mapping[str, str] | None = None,
) -> dict[str, str]:
  """Makes names as masked layers have them: `SCOPE/weights`, `SCOPE/biases`.

  Args:
    variables: the variables of a Keras model.
    name_map: {path or name of a layer in Keras: its scope in the checkpoint}.
      Layers that are not in it keep their name.

  Returns:
    {path of the variable: name of the tensor}.

  Raises:
    ValueError: if two variables would have the same name.
  """
  scopes = _Scopes(variables, name_map or {})
  found = {}
  for path in scopes.paths:
    scope, leaf = scopes.of(path)
    found[path] = f"{scope}/{_LEAVES.get(leaf, (leaf,))[0]}"
  _check_unique(found)
  return found


def mask_name(tensor: str) -> str:
  """The name of the mask of a kernel: `conv_1/weights` -> `conv_1/mask`."""
  return f"{_split(tensor)[0]}/{MASK}"


class _Scopes:
  """The scope in checkpoints and the last part of the name of variables."""

  def __init__(
    self, variables: Iterable[keras.Variable], name_map: Mapping[str, str]
  ) -> None:
    self.paths = [variable.path for variable in variables]
    self._name_map = name_map
    layers = {_split(path)[0] for path in self.paths}
    known = layers | {layer.rsplit("/", 1)[-1] for layer in layers}
    unknown = sorted(set(name_map) - known)
    if unknown:
      raise ValueError(
        f"`name_map` must have names of layers of the model, got {unknown[:3]}."
      )

  def of(self, path: str) -> tuple[str, str]:
    layer, leaf = _split(path)
    name = layer.rsplit("/", 1)[-1]
    return self._name_map.get(layer, self._name_map.get(name, name)), leaf


def _split(path: str) -> tuple[str, str]:
  """The scope and the last part of a name."""
  scope, _, leaf = path.rpartition("/")
  return scope, leaf


def _ends_with(scope: str, end: str) -> bool:
  return scope == end or scope.endswith(f"/{end}")


def _check_unique(names: Mapping[str, str]) -> None:
  owners: dict[str, str] = {}
  for path, tensor in names.items():
    if tensor in owners:
      raise ValueError(
        f"`name_map` must give variables different tensors, got {tensor} for "
        f"{owners[tensor]} and {path}."
      )
    owners[tensor] = path
