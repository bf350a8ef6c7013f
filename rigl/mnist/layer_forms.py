# SPDX-License-Identifier: Apache-2.0
"""The form of each layer: a masked dense kernel, or what is active alone.

`--sparse_compute` says which; with `auto`, two forms are timed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from rigl.mnist.mnist_settings import (
  AUTO,
  BLOCK,
  CSR,
  NONE,
  MnistSettings,
)
from rigl.sparse.timing import StepTimes, time_steps
from rigl.sparse_optimizers import registry

# {layer name: NONE, CSR or BLOCK}.
Forms: TypeAlias = dict[str, str]
# The name of what `auto` took in the choices of a run.
CHOICE = "sparse_compute"


def check(flags: MnistSettings, num_devices: int) -> None:
  """Checks that layers without inactive connections can be trained so.

  Args:
    flags: the settings.
    num_devices: how many devices train together.

  Raises:
    ValueError: naming the setting that does not allow it.
  """
  form = flags.sparse_compute
  if form in (CSR, BLOCK):
    obstacle = (
      _obstacle(flags, num_devices)
      if form == CSR
      else _obstacle_of_blocks(flags)
    )
    if obstacle:
      raise ValueError(f"`sparse_compute`={form} {obstacle}.")


def choose(
  flags: MnistSettings,
  shapes: Mapping[str, tuple[int, int]],
  sparsities: Mapping[str, float],
  num_devices: int = 1,
  earlier: Mapping[str, Any] | None = None,
) -> Forms:
  """The form of every sparse layer.

  Args:
    flags: the settings, which `check` has checked.
    shapes: inputs and outputs of the layers by name, in order.
    sparsities: their shares of zeros by name.
    num_devices: how many devices train together.
    earlier: what `auto` took when this run began. None: it begins now.

  Raises:
    ValueError: if `earlier` is of another network.
  """
  sparse = [name for name in shapes if sparsities.get(name, 0.0) > 0]
  if flags.sparse_compute != AUTO:
    return dict.fromkeys(sparse, flags.sparse_compute)
  if _obstacle(flags, num_devices):
    return dict.fromkeys(sparse, NONE)
  if earlier is not None:
    if set(earlier) != set(sparse) or not {*earlier.values()} <= {NONE, CSR}:
      raise ValueError(
        f"The run holds another choice of `sparse_compute`, {dict(earlier)}; "
        "choose another directory."
      )
    return {name: earlier[name] for name in sparse}
  return _fastest(flags, shapes, {name: sparsities[name] for name in sparse})


def threads(flags: MnistSettings) -> int:
  """The threads that share a product of a layer."""
  return flags.sparse_threads or os.cpu_count() or 1


def _obstacle_of_blocks(flags: MnistSettings) -> str:
  """What the settings have that layers of blocks cannot do; may be empty."""
  method = flags.training_method
  if method == registry.BASELINE:
    return f"needs a sparse `training_method`, got {method!r}"
  if not registry.optimizer_class(method).takes_block_layers:
    able = [
      name
      for name in registry.SPARSE_START
      if registry.optimizer_class(name).takes_block_layers
    ]
    return f"needs a `training_method` in {able}, got {method!r}"
  if flags.uses_estimator:
    return f"needs `runner`=loop or jax, got {flags.runner!r}"
  return ""


def _obstacle(flags: MnistSettings, num_devices: int) -> str:
  """What the settings have that only dense kernels can do; may be empty."""
  method = flags.training_method
  if method == registry.BASELINE:
    return f"needs a sparse `training_method`, got {method!r}"
  optimizer = registry.optimizer_class(method)
  if not optimizer.takes_compact_layers:
    return (
      f"does not go with `training_method`={method!r}: "
      f"{optimizer.why_no_compact_layers}"
    )
  if flags.jit_compile == "true":
    return "does not go with `jit_compile`=true, because XLA cannot compile it"
  if flags.uses_estimator or flags.uses_jax:
    return f"needs `runner`=loop, got {flags.runner!r}"
  if num_devices > 1:
    return (
      "trains on one device, whose cores `sparse_threads` shares out, got "
      f"{num_devices} devices"
    )
  return ""


def _fastest(
  flags: MnistSettings,
  shapes: Mapping[str, tuple[int, int]],
  sparsities: Mapping[str, float],
) -> Forms:
  """Times the layers, and takes the forms whose sum is the shortest.

  One layer without inactive connections takes XLA away from all others.
  """
  first = next(iter(shapes))
  times = {
    name: time_steps(
      *shapes[name],
      sparsity,
      flags.batch_size,
      threads=threads(flags),
      is_first=name == first,
    )
    for name, sparsity in sparsities.items()
  }
  forms = {
    name: CSR if each.csr < each.masked else NONE
    for name, each in times.items()
  }
  mixed = sum(min(each.csr, each.masked) for each in times.values())
  if mixed >= sum(each.masked_xla for each in times.values()):
    forms = dict.fromkeys(times, NONE)
  _print(times, forms)
  return forms


def _print(times: Mapping[str, StepTimes], forms: Forms) -> None:
  for name, each in times.items():
    masked = min(each.masked, each.masked_xla)
    print(
      f"--sparse_compute=auto: {name} {forms[name]}; {each.csr * 1e3:.2f} ms a "
      f"step as csr, {masked * 1e3:.2f} ms masked.",
      flush=True,
    )
