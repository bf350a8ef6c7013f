"""Training methods by their name: the flags of a script make an optimizer.

What the methods do is said by `rigl.sparse_optimizers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from rigl import sparse_optimizers
from rigl.config.settings import configured
from rigl.types import Variable

# Methods whose optimizers drop and grow.
_DYNAMIC = {
  "set": sparse_optimizers.SparseSETOptimizer,
  "static": sparse_optimizers.SparseStaticOptimizer,
  "momentum": sparse_optimizers.SparseMomentumOptimizer,
  "rigl": sparse_optimizers.SparseRigLOptimizer,
}
# Methods that start dense and have a target sparsity.
_ONE_SHOT = {
  "snip": sparse_optimizers.SparseSnipOptimizer,
  "dnw": sparse_optimizers.SparseDNWOptimizer,
}

METHODS = ("baseline", "scratch", "prune", *_ONE_SHOT, *_DYNAMIC)


@dataclass(frozen=True)
class MethodSettings:
  """What the methods need of a script's flags, under the flags' names.

  Attributes:
    training_method: one of `METHODS`.
    end_sparsity: overall share of zeros, in [0, 1).
    mask_init_method: its distribution, see `sparse_utils.get_sparsities`.
    custom_sparsity_map: {layer name: sparsity} for layers that differ.
    weight_decay: see `SparseOptimizer`.
    seed: see `SparseOptimizer`.
    drop_fraction: this and the next eight are arguments of the dynamic
      methods, see `DropGrowOptimizer`.
    drop_fraction_anneal: see there.
    grow_init: see there.
    s_momentum: see `SparseMomentumOptimizer`.
    rigl_acc_scale: see `SparseRigLOptimizer`.
    maskupdate_begin_step: see `DropGrowOptimizer`.
    maskupdate_end_step: see there.
    maskupdate_frequency: see there.
    prune_begin_step: this and the next two are those of gradual pruning.
    prune_end_step: see `SparsePruningOptimizer`.
    pruning_frequency: see there.
    typed: names of the flags that the user typed, which win over gin; also
      the names above that typed flags of other names decide.
    erk_power_scale: exponent scale of `erdos_renyi_kernel`.
  """

  training_method: str
  end_sparsity: float
  mask_init_method: str
  custom_sparsity_map: Mapping[str, float]
  weight_decay: float
  seed: int
  drop_fraction: float
  drop_fraction_anneal: str
  grow_init: str
  s_momentum: float
  rigl_acc_scale: float
  maskupdate_begin_step: int
  maskupdate_end_step: int
  maskupdate_frequency: int
  prune_begin_step: int
  prune_end_step: int
  pruning_frequency: int
  typed: frozenset[str] = field(default_factory=frozenset)
  erk_power_scale: float = 1.0


def method_settings(
  settings: Any,
  typed: frozenset[str],
  flag_names: Mapping[str, str],
  **values: Any,
) -> MethodSettings:
  """Takes what the methods need out of a script's settings.

  Args:
    settings: the settings, a dataclass.
    typed: names of the flags that the user typed.
    flag_names: the name there of an attribute that has another one here.
    **values: attributes by name that are not taken from the settings.
  """
  found = dict(values)
  for attribute in fields(MethodSettings):
    name = flag_names.get(attribute.name, attribute.name)
    if attribute.name not in found and hasattr(settings, name):
      found[attribute.name] = getattr(settings, name)
    if name in typed:
      typed |= {attribute.name}
  return MethodSettings(typed=typed, **found)


_FLAG_NAMES = {
  "begin_step": "maskupdate_begin_step",
  "end_step": "maskupdate_end_step",
  "frequency": "maskupdate_frequency",
  "momentum": "s_momentum",
  "initial_acc_scale": "rigl_acc_scale",
  "default_sparsity": "end_sparsity",
}
_PRUNE_FLAG_NAMES = {
  "begin_step": "prune_begin_step",
  "end_step": "prune_end_step",
  "frequency": "pruning_frequency",
  "target_sparsity": "end_sparsity",
}


def create_optimizer(
  inner: tf.compat.v1.train.Optimizer,
  kernels: Mapping[str, Variable],
  settings: MethodSettings,
  masks: Mapping[str, np.ndarray] | None = None,
  decays: Callable[[Variable], bool] | None = None,
  restored: bool = False,
) -> sparse_optimizers.SparseOptimizer:
  """Makes the optimizer of a method, with its masks.

  Args:
    inner: the optimizer that makes the steps.
    kernels: the kernels to sparsify, by layer name.
    settings: the flags.
    masks: initial masks by layer name, for methods that start sparse. None:
      random ones.
    decays: says which variables have weight decay. None: all of rank 2 and
      more.
    restored: whether the masks will come from a checkpoint, so that none are
      made here.

  Returns:
    The optimizer; the pruned weights of the kernels are zero.

  Raises:
    ValueError: if a setting is not as described.
  """
  method = settings.training_method
  if method not in METHODS:
    raise ValueError(
      f"`training_method` must be one of {sorted(METHODS)}, got {method!r}."
    )
  if masks is not None and method not in (*_DYNAMIC, "scratch"):
    raise ValueError(
      f"`load_mask_dir`: method {method!r} takes no initial masks, "
      f"{['scratch', *_DYNAMIC]} do."
    )
  common = dict(
    optimizer=inner,
    weight_decay=settings.weight_decay,
    weight_decay_filter=decays,
    seed=settings.seed,
  )
  if method == "baseline":
    return _call(sparse_optimizers.SparseFixedMaskOptimizer, settings, **common)
  target = dict(
    mask_init_method=settings.mask_init_method,
    custom_sparsity_map=settings.custom_sparsity_map,
    erk_power_scale=settings.erk_power_scale,
  )
  if method in _ONE_SHOT:
    optimizer = _call(
      _ONE_SHOT[method],
      settings,
      default_sparsity=settings.end_sparsity,
      **target,
      **common,
    )
    optimizer.create_masks(kernels)
  elif method == "prune":
    optimizer = _create_pruning(settings, **target, **common)
    optimizer.create_masks(kernels)
  else:
    optimizer = _create_masked(method, settings, **common)
    if restored:
      masks = {n: tf.zeros(k.shape, tf.bool) for n, k in kernels.items()}
    if masks is None:
      _call(
        initial_masks,
        settings,
        optimizer=optimizer,
        kernels=kernels,
        settings=settings,
        erk_power_scale=settings.erk_power_scale,
      )
    else:
      optimizer.create_masks(kernels, masks)
  return optimizer


def _create_pruning(settings: MethodSettings, **arguments: Any) -> Any:
  return configured(
    sparse_optimizers.SparsePruningOptimizer,
    settings.typed,
    _PRUNE_FLAG_NAMES,
    begin_step=settings.prune_begin_step,
    end_step=settings.prune_end_step,
    frequency=settings.pruning_frequency,
    target_sparsity=settings.end_sparsity,
    **arguments,
  )


def _create_masked(method: str, settings: MethodSettings, **common: Any) -> Any:
  if method == "scratch":
    return _call(sparse_optimizers.SparseFixedMaskOptimizer, settings, **common)
  own = {}
  if method == "momentum":
    own["momentum"] = settings.s_momentum
  if method == "rigl":
    own["initial_acc_scale"] = settings.rigl_acc_scale
  return _call(
    _DYNAMIC[method],
    settings,
    begin_step=settings.maskupdate_begin_step,
    end_step=settings.maskupdate_end_step,
    frequency=settings.maskupdate_frequency,
    drop_fraction=settings.drop_fraction,
    drop_fraction_anneal=settings.drop_fraction_anneal,
    grow_init=settings.grow_init,
    **own,
    **common,
  )


def _call(function: Any, method: MethodSettings, /, **arguments: Any) -> Any:
  return configured(function, method.typed, _FLAG_NAMES, **arguments)


@gin.configurable(module="rigl", denylist=["optimizer", "kernels", "settings"])
def initial_masks(
  optimizer: sparse_optimizers.SparseOptimizer,
  kernels: Mapping[str, Variable],
  settings: MethodSettings,
  erk_power_scale: float = 1.0,
) -> dict[str, float]:
  """Gives the kernels random masks; see `SparseOptimizer.sparsify`.

  Args:
    optimizer: the optimizer that gets the masks.
    kernels: the kernels by layer name.
    settings: the flags.
    erk_power_scale: exponent scale of `erdos_renyi_kernel`.

  Returns:
    {layer name: sparsity}.
  """
  return optimizer.sparsify(
    kernels,
    settings.mask_init_method,
    settings.end_sparsity,
    settings.custom_sparsity_map,
    erk_power_scale,
  )
