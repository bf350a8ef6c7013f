# SPDX-License-Identifier: Apache-2.0
"""Initial values of grown connections: the `grow_init` argument.

Pure functions of flat tensors, for all connections of a layer; the caller
selects those that grow.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from rigl import mask_ops
from rigl.types import Tensor

WEIGHT_METHODS = ("zeros", "initial_dist", "random_normal", "random_uniform")
GRADIENT_METHODS = ("grad_scale", "grad_sign")


@dataclass(frozen=True)
class GrowInit:
  """A parsed `grow_init`.

  Attributes:
    method: one of `WEIGHT_METHODS` and `GRADIENT_METHODS`.
    divisor: divisor of the values, > 0.
  """

  method: str
  divisor: float


def parse_grow_init(grow_init: str, allowed: tuple[str, ...]) -> GrowInit:
  """Reads `zeros` or `METHOD[_K]`, such as `random_normal_10`.

  Args:
    grow_init: the setting.
    allowed: the methods that the optimizer knows.

  Raises:
    ValueError: if the method is not among them or K is not above 0.
  """
  for method in allowed if isinstance(grow_init, str) else ():
    if grow_init == method:
      return GrowInit(method, 1.0)
    if grow_init.startswith(method + "_") and method != "zeros":
      divisor = _positive_number(grow_init[len(method) + 1 :])
      if divisor is not None:
        return GrowInit(method, divisor)
  names = ", ".join(m if m == "zeros" else f"{m}[_K]" for m in allowed)
  raise ValueError(
    f"`grow_init` must be one of {names} with K > 0, got {grow_init!r}."
  )


def _positive_number(text: str) -> float | None:
  try:
    number = float(text)
  except ValueError:
    return None
  return number if 0 < number < float("inf") else None


def grown_values(
  init: GrowInit,
  weights: Tensor,
  mask: Tensor,
  gradient: Tensor | None,
  initial: Tensor | None,
  normal: Tensor | None,
  uniform: Tensor | None,
) -> Tensor:
  """Initial values of grown connections, for every connection of a layer.

  Statistics are taken over the active weights. (In the published code they are
  taken over all raw weights, also those that the mask hides.)

  Args:
    init: the parsed `grow_init`. Tensors that its method does not need may be
      None.
    weights: float [n], zero where the mask is.
    mask: bool [n], the mask before the update.
    gradient: float [n], for `grad_*`.
    initial: float [n], the layer's weights before training, for
      `initial_dist`, which draws from them (with replacement; the published
      code shuffles them).
    normal: float [n] of mean 0 and standard deviation 1, for `random_normal`.
    uniform: float [n] in [0, 1), for `random_uniform` and `initial_dist`.

  Returns:
    float [n].
  """
  if init.method == "zeros":
    return tf.zeros_like(weights)
  if init.method == "grad_scale":
    values = gradient
  elif init.method == "grad_sign":
    values = tf.sign(gradient)
  elif init.method == "initial_dist":
    size = weights.shape[0]
    index = tf.cast(uniform * tf.cast(size, tf.float32), tf.int32)
    values = tf.gather(initial, tf.minimum(index, size - 1))
  else:
    active = tf.cast(weights, tf.float32)
    count = tf.cast(tf.maximum(mask_ops.count_ones(mask), 1), tf.float32)
    if init.method == "random_normal":
      mean = tf.reduce_sum(active) / count
      squares = tf.where(mask, tf.square(active - mean), 0.0)
      values = normal * tf.sqrt(tf.reduce_sum(squares) / count)
    else:
      bound = tf.reduce_sum(tf.abs(active)) / count
      values = tf.multiply(2.0, uniform) - 1.0
      values *= bound
  return tf.cast(values, weights.dtype) / init.divisor
