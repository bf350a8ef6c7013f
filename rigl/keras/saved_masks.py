# SPDX-License-Identifier: Apache-2.0
"""A sparse Keras optimizer in files: its configuration, masks and counters.

`base.SparseOptimizer` adds training steps.
"""

from __future__ import annotations

import warnings
from collections.abc import MutableMapping
from typing import Any

import keras

from rigl.keras.live import model_of
from rigl.keras.masks import MaskOwner
from rigl.keras.saving import NUM_COMPACT, load_state, save_state
from rigl.keras.sparse_kernel import stored_masks

# What an optimizer that is not built has in a file: one counter.
_UNBUILT = {"0"}


class SavedMasks(MaskOwner):
  """An owner of masks that Keras saves and loads.

  Weights that were assigned before they were saved, as `EarlyStopping` does to
  restore the best ones, may be off the masks of a file. The mask of a variable
  then moves to them; if they are more than its connections, or the method fixes
  them, those off the mask become zero, with a warning.

  Raises:
    ValueError: if an argument is not as described.
  """

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal optimizer."""
    settings = self._settings
    filters, distribution = settings.filters, settings.distribution
    if self._kernels:  # Paths stay true where Keras loads other scopes.
      if filters is not None:
        filters = [kernel.path for kernel in self._kernels]
      if not isinstance(distribution, str):
        distribution = {
          k.path: k.sparsity
          for k in self._kernels
          if k.stored_mask is not None or self.starts_dense
        }
    elif callable(filters):
      filters = keras.saving.serialize_keras_object(filters)
    return super().get_config() | {
      "sparsity": settings.sparsity,
      "distribution": distribution
      if isinstance(distribution, str)
      else dict(distribution),
      "filters": filters,
      "seed": settings.seed,
      "mask_engine": settings.mask_engine,
      "structure": settings.structure and str(settings.structure),
    }

  def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
    """Writes masks and counters; Keras saves the inner optimizer by itself.

    Args:
      store: the place in the file.
    """
    masks = stored_masks(self._kernels)
    save_state(store, self._variables, masks, self._count_compact())

  def load_own_variables(self, store: MutableMapping[str, Any]) -> None:
    """Reads masks and counters; Keras loads the inner optimizer by itself.

    An optimizer that is not built yet is built for its model first.

    Args:
      store: the place in the file; without masks if the file has no optimizer,
        or one that was not built, which changes no counters.

    Raises:
      ValueError: if state would be lost, because the file holds other state or
        the optimizer cannot be built.
    """
    keys = set(store.keys())
    if not self.built:
      if not keys & {"mask_0", NUM_COMPACT}:
        return  # Written before this optimizer was built, too.
      self._build_to_load()
    elif keys <= _UNBUILT:
      self._start_from_weights()
      warnings.warn(
        f"The file holds no state of {self.name!r}, which keeps its masks: "
        "the next step sets weights that they leave out to zero.",
        stacklevel=2,
      )
      return
    masks = stored_masks(self._kernels)
    load_state(store, self._variables, masks, self._count_compact())
    # Keras loads the layers of a model before its optimizer.
    self._move_masks()
    if any([kernel.warn_of_lost_weights() for kernel in self._kernels]):
      self._clear()

  def _count_compact(self) -> int:
    return sum(kernel.stored_mask is None for kernel in self._kernels)

  def _build_to_load(self) -> None:
    model = model_of(self)
    if model is None:
      raise ValueError(
        "The file holds the state of an optimizer, but this one is not built: "
        "call model.optimizer.build(model.trainable_variables) before loading."
      )
    # The weights may be those of the file already.
    self._loads = True
    try:
      self.build(model.trainable_variables)
    finally:
      self._loads = False
