# SPDX-License-Identifier: Apache-2.0
"""Settings that all ImageNet models share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from rigl import layers

DATA_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}
INIT_METHODS = ("baseline", "sparse")


@dataclasses.dataclass(frozen=True)
class ModelSettings:
  """Settings of an ImageNet model.

  Attributes:
    num_classes: number of logits.
    width: factor of the number of channels; 1 if it is not positive.
    prune_first_layer: whether the first kernel may be sparsified. None: as in
      the published graphs, where only that of VGG may.
    prune_last_layer: whether the last kernel may be sparsified.
    init_method: how these kernels start. `baseline`: as in a dense network;
      `sparse`: scaled for the inputs that stay active.
    init_sparsity: share of zeros that `sparse` scales for, one for all layers
      or by layer name.
    data_format: `channels_last` or `channels_first`, how the model computes;
      it takes images with the channels last in any case.
    precision: `float32` or `bfloat16`, the type it computes in; variables,
      statistics, the last layer and logits are float32 in any case.
    seed: decides the initial weights.

  Raises:
    ValueError: if a setting is not as described.
  """

  num_classes: int = 1000
  width: float = 1.0
  prune_first_layer: bool | None = None
  prune_last_layer: bool = True
  init_method: str = "baseline"
  init_sparsity: float | Mapping[str, float] = 0.0
  data_format: str = "channels_last"
  precision: str = "float32"
  seed: int = 0

  def __post_init__(self) -> None:
    if self.num_classes < 1:
      raise ValueError(f"`num_classes` must be >= 1, got {self.num_classes}.")
    for name, known in (
      ("init_method", INIT_METHODS),
      ("data_format", DATA_FORMATS),
      ("precision", layers.PRECISIONS),
    ):
      value = getattr(self, name)
      if value not in known:
        raise ValueError(f"`{name}` must be one of {[*known]}, got {value!r}.")

  @property
  def layer_format(self) -> str:
    """The data format as layers take it, `NHWC` or `NCHW`."""
    return DATA_FORMATS[self.data_format]

  @property
  def dtype(self) -> tf.DType:
    """The type that the model computes in."""
    return layers.PRECISIONS[self.precision]

  def channels(self, number: float) -> float:
    """A number of channels multiplied by the width, not rounded."""
    return number * (self.width if self.width > 0 else 1.0)

  def initializer(
    self, base: layers.Initializer, layer: str, prunable: bool
  ) -> layers.Initializer:
    """The initialiser of a kernel.

    Args:
      base: initializer of the dense network.
      layer: name of the layer.
      prunable: whether the kernel may be sparsified.

    Raises:
      ValueError: if `init_sparsity` leaves out the layer.
    """
    if self.init_method == "baseline" or not prunable:
      return base
    sparsity = self.init_sparsity
    if isinstance(sparsity, Mapping):
      if layer not in sparsity:
        raise ValueError(f"`init_sparsity` has no value for {layer!r}.")
      sparsity = sparsity[layer]
    return layers.sparse(base, sparsity)
