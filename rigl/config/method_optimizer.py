# SPDX-License-Identifier: Apache-2.0
"""The optimizer, masks and sparsities that the flags of a method ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import sparse_utils
from rigl.config.method_flags import MethodFlags
from rigl.configurable import call_configured, configurable
from rigl.sparse_optimizers import SparseOptimizer, registry
from rigl.sparse_optimizers.kernels import (
  as_variable,
  block_layers,
  compact_layers,
)
from rigl.types import Variable


def check_method(flags: MethodFlags) -> None:
  """Checks the arguments of the method, before anything is made.

  Call it in the scope of the `tf.distribute` strategy: it starts TensorFlow.

  Args:
    flags: the flags.

  Raises:
    ValueError: if a flag or a gin binding of the method is not as described.
  """
  _make_optimizer(flags, tf.compat.v1.train.GradientDescentOptimizer(1.0), ())


def create_optimizer(
  flags: MethodFlags,
  inner: tf.compat.v1.train.Optimizer,
  kernels: Mapping[str, Variable],
  masks: Mapping[str, np.ndarray] | None = None,
  weight_decay_filter: Callable[[Variable], bool] | None = None,
  init_masks: bool = True,
) -> SparseOptimizer:
  """Makes the optimizer of the training method, with its masks.

  Args:
    flags: the flags.
    inner: the optimizer that makes the steps.
    kernels: the kernels to sparsify, by layer name. Layers of `rigl.sparse`
      have their connections already.
    masks: initial masks by layer name, for methods that start sparse. None:
      random ones.
    weight_decay_filter: returns whether a variable has weight decay. None: all
      of rank 2 and more.
    init_masks: whether to make initial masks. False where they will come from
      a checkpoint.

  Returns:
    The optimizer; the pruned weights of the kernels are zero.

  Raises:
    ValueError: if a flag is not as described.
  """
  method = flags.training_method
  starts_sparse = method in registry.SPARSE_START
  if masks is not None and not starts_sparse:
    raise ValueError(
      f"`load_mask_dir`: method {method!r} takes no initial masks, "
      f"{[*registry.SPARSE_START]} do."
    )
  optimizer = _make_optimizer(flags, inner, list(kernels), weight_decay_filter)
  if method == registry.BASELINE:
    return optimizer
  if not starts_sparse:
    optimizer.create_masks(kernels)
  elif not init_masks:
    zeros = {n: tf.zeros(k.shape, tf.bool) for n, k in kernels.items()}
    optimizer.create_masks(kernels, zeros)
  elif masks is not None:
    optimizer.create_masks(kernels, masks)
  else:
    call_configured(
      initial_masks,
      flags.explicit_arguments,
      optimizer=optimizer,
      kernels=kernels,
      flags=flags,
      erk_power_scale=flags.method_arguments()["erk_power_scale"],
    )
  return optimizer


def _make_optimizer(
  flags: MethodFlags,
  inner: tf.compat.v1.train.Optimizer,
  layers: Sequence[str],
  weight_decay_filter: Callable[[Variable], bool] | None = None,
) -> SparseOptimizer:
  """Makes the optimizer of the training method, without masks."""
  optimizer_class = registry.optimizer_class(flags.training_method)
  known = registry.argument_names(optimizer_class)
  arguments = flags.method_arguments(layers)
  return call_configured(
    optimizer_class,
    flags.explicit_arguments,
    optimizer=inner,
    weight_decay_filter=weight_decay_filter,
    **{name: value for name, value in arguments.items() if name in known},
  )


@configurable(denylist=["optimizer", "kernels", "flags"])
def initial_masks(
  optimizer: SparseOptimizer | None,
  kernels: Mapping[str, Any],
  flags: MethodFlags,
  erk_power_scale: float = 1.0,
) -> dict[str, float]:
  """Gives the kernels random masks of the sparsity that the flags set.

  Args:
    optimizer: the optimizer that gets the masks. None: there are none yet, and
      the sparsities are planned.
    kernels: the kernels, or only their shapes, by layer name. Layers of
      `rigl.sparse` keep their connections.
    flags: the flags.
    erk_power_scale: exponent scale of `erdos_renyi_kernel`.

  Returns:
    {layer name: sparsity}.
  """
  arguments = flags.method_arguments(list(kernels))
  distribution = (
    arguments["mask_init_method"],
    arguments["default_sparsity"],
    arguments["custom_sparsity_map"],
    erk_power_scale,
  )
  stored = compact_layers(kernels) | block_layers(kernels)
  if optimizer is not None and not stored:
    return optimizer.sparsify(kernels, *distribution)
  found = sparse_utils.get_sparsities(kernels, *distribution)
  if optimizer is not None:
    masks = {
      name: sparse_utils.get_mask_random(
        kernel.shape, found[name], optimizer.seed, name
      )
      for name, kernel in kernels.items()
      if id(as_variable(kernel)) not in stored
    }
    optimizer.create_masks(kernels, masks)
  return found


def planned_sparsities(
  flags: MethodFlags, shapes: Mapping[str, Sequence[int]]
) -> dict[str, float]:
  """The sparsities that `create_optimizer` will give kernels.

  For methods that start dense, those that they go to.

  Args:
    flags: the flags.
    shapes: shapes of the kernels by layer name.

  Returns:
    {layer name: sparsity}.

  Raises:
    ValueError: if a flag is not as described.
  """
  arguments = flags.method_arguments(list(shapes))
  found: dict[str, float] = call_configured(
    initial_masks,
    flags.explicit_arguments,
    optimizer=None,
    kernels=shapes,
    flags=flags,
    erk_power_scale=arguments["erk_power_scale"],
  )
  return found
