"""Drop and grow by a schedule: the base of SET, static, SNFS and RigL.

All four drop by magnitude; what each grows by stands in its own file.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import host_masks, layer_batch, mask_ops
from rigl.schedules import UpdateSchedule
from rigl.sparse_optimizers import base, graph_control, sparse_layer
from rigl.sparse_optimizers.grow_init import (
  WEIGHT_METHODS,
  grown_values,
  parse_grow_init,
)
from rigl.types import Tensor, Variable

# Streams of random numbers within one update of one layer.
_DROP_STREAM, _GROW_STREAM, _NORMAL_STREAM, _UNIFORM_STREAM = range(4)


class DropGrowOptimizer(base.SparseOptimizer):
  """Drops and grows connections by a schedule; the base of four methods.

  An update drops, in every layer, a share of the active connections, those of
  smallest |weight|, and grows as many others, the highest of
  `_grow_scores`. Grown connections that were inactive start at `grow_init`,
  with fresh slots; the others keep their weights and slots.

  Attributes:
    batch_layers: whether an update takes all layers at once, which changes no
      bit but is faster on GPUs and TPUs, where it is the default.

  A method says `_grow_scores`, which connections count as new (`_new`) and
  whether an update is an iteration of its own (`update_is_iteration`).

  Args:
    optimizer: the `tf.compat.v1.train` optimizer that makes the steps.
    begin_step: first step that may update, at least 0.
    end_step: last step that may update; negative for no end.
    frequency: least number of steps between two updates.
    drop_fraction: initial share of the active connections to drop, in [0, 1].
    drop_fraction_anneal: `constant`, `cosine`, `exponential[_K]`, see
      `schedules.UpdateSchedule`.
    use_locking: as in `tf.compat.v1.train.Optimizer`.
    grow_init: `zeros`, or one of `initial_dist`, `random_normal`,
      `random_uniform`, with `_K` to divide by K; see `growth`.
    name: name of the optimizer. None: that of the class.
    noise_std: standard deviation of the noise that breaks ties between
      weights of equal magnitude when dropping; 0 breaks them by position.
    weight_decay: see `SparseOptimizer`.
    decays: see `SparseOptimizer`.
    seed: see `SparseOptimizer`.

  Raises:
    ValueError: if an argument is not as described.
  """

  grow_inits: tuple[str, ...] = WEIGHT_METHODS

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    begin_step: int,
    end_step: int,
    frequency: int,
    drop_fraction: float = 0.1,
    drop_fraction_anneal: str = "constant",
    use_locking: bool = False,
    grow_init: str = "zeros",
    name: str | None = None,
    *,
    noise_std: float = 1e-5,
    weight_decay: float = 0.0,
    decays: Callable[[Variable], bool] | None = None,
    seed: int = 0,
  ) -> None:
    super().__init__(
      optimizer,
      use_locking,
      name,
      weight_decay=weight_decay,
      decays=decays,
      seed=seed,
    )
    self._schedule = UpdateSchedule(
      begin_step, end_step, frequency, drop_fraction, drop_fraction_anneal
    )
    self._grow_init = parse_grow_init(grow_init, self.grow_inits)
    if not 0 <= noise_std < np.inf:
      raise ValueError(f"`noise_std` must be >= 0, got {noise_std}.")
    self._noise_std = float(noise_std)
    self._last_update_step: Variable | None = None
    self._initial_weights: dict[str, Variable] = {}
    # One program a layer size, whatever the layer.
    self._compiled_update = mask_ops.compiled_by_shape(self._update_layer)
    self._compiled_batch = mask_ops.compiled_by_shape(self._update_batch)
    self._pool: futures.ThreadPoolExecutor | None = None
    self.batch_layers = bool(
      tf.config.list_physical_devices("GPU")
      or tf.config.list_logical_devices("TPU")
    )

  @property
  def schedule(self) -> UpdateSchedule:
    """When updates are due and what share they drop."""
    return self._schedule

  @property
  def last_update_step(self) -> Variable:
    """int64 variable: the step of the last update, -frequency before any."""
    if self._last_update_step is None:
      raise RuntimeError("Create the masks first, with sparsify().")
    return self._last_update_step

  def _create_state(self) -> None:
    self._last_update_step = self._new_state(
      np.int64(self._schedule.initial_last_update_step),
      "last_mask_update_step",
    )

  def steps_to_update(self, step: int) -> int | None:
    """See the base class."""
    last = int(self.last_update_step.numpy())
    # An update that follows a gradient step is never due before one.
    first = step if self.update_is_iteration else step + 1
    due = self._schedule.next_update_step(first, last)
    return None if due is None else due - step

  def mark_updated(self, step: Tensor) -> list[tf.Operation]:
    """See the base class."""
    return [self.last_update_step.assign(step)]

  def drop_fraction(self, step: int) -> float:
    """See the base class."""
    return float(self._schedule.drop_fraction_at(step))

  def _iterate(
    self, gradients: list[tuple[Tensor, Variable]], step: Variable
  ) -> tf.Operation | None:
    stepped = self.apply_masked_gradients(gradients, step, reduced=True)
    with graph_control.after(stepped):
      return graph_control.branch(
        self._is_due(step), lambda: self.update_masks(None, step)
      )

  def _is_due(self, step: Variable) -> Tensor:
    last = tf.convert_to_tensor(self.last_update_step)
    return self._schedule.is_update_step(tf.cast(step, tf.int64), last)

  def update_masks(
    self,
    grads_and_vars: base.GradsAndVars | None = None,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Drops and grows in every layer; see the base class."""
    step = self.global_step if global_step is None else global_step
    gradients = None
    if self.update_is_iteration:
      if grads_and_vars is None:
        raise ValueError("`grads_and_vars` is needed to update these masks.")
      gradients = (
        list(grads_and_vars)
        if reduced
        else self.reduce_gradients(grads_and_vars)
      )
    step = tf.cast(step, tf.int64)
    fraction = self._schedule.drop_fraction_at(tf.cast(step, tf.float32), tf)
    operations = self.mark_updated(step)
    inputs = [
      self._inputs(layer, self._signal(layer, gradients), key)
      for layer, key in zip(
        self._layers,
        sparse_layer.layer_keys(self._layers, self._seed, step),
        strict=True,
      )
    ]
    if self.batch_layers:
      results = self._compiled_batch(inputs, fraction)
      for layer, result in zip(self._layers, results, strict=True):
        operations += self._assign(layer, *result)
      return graph_control.group(operations)

    if self._pool is not None and tf.executing_eagerly():
      fractions = [float(fraction)] * len(inputs)
      results = self._pool.map(self._update_on_host, inputs, fractions)
    else:
      results = (self._compiled_update(each, fraction) for each in inputs)
    for layer, result in zip(self._layers, list(results), strict=True):
      operations += self._assign(layer, *result)
    return graph_control.group(operations)

  def update_on_host(self, threads: int) -> bool:
    """See the base class."""
    self._pool = futures.ThreadPoolExecutor(threads)
    return True

  def _inputs(
    self, layer: sparse_layer.SparseLayer, signal: Tensor | None, key: Tensor
  ) -> dict[str, Any]:
    """What the update of a layer needs, as flat tensors."""
    slots = self._slots_of(layer.kernel)
    inputs = dict(
      weights=layer.kernel,
      mask=layer.mask,
      signal=signal,
      initial=self._initial_weights.get(layer.name),
      slots=[slot for slot, _ in slots],
    )
    return tf.nest.map_structure(_flat, inputs) | dict(
      slot_starts=tf.constant([start for _, start in slots], tf.float32),
      key=key,
    )

  def _assign(
    self,
    layer: sparse_layer.SparseLayer,
    weights: Tensor,
    mask: Tensor,
    slots: list,
  ) -> list[tf.Operation]:
    own = [slot for slot, _ in self._slots_of(layer.kernel)]
    return [
      variable.assign(tf.reshape(value, variable.shape))
      for variable, value in zip(
        [layer.kernel, layer.mask, *own], [weights, mask, *slots], strict=True
      )
    ]

  def _update_layer(
    self, inputs: dict[str, Any], fraction: Tensor
  ) -> tuple[Tensor, Tensor, list[Tensor]]:
    """One drop and grow of flat tensors; returns weights, mask and slots."""
    drop_scores, grow_scores = self._scores(**inputs)
    result = mask_ops.drop_and_grow(
      drop_scores, inputs["mask"], grow_scores, fraction
    )
    return self._updated(result, **inputs)

  def _update_on_host(
    self, inputs: dict[str, Any], fraction: float
  ) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The same, eagerly: nothing has to be compiled."""
    drop_keys, grow_keys = (
      mask_ops.order_keys(scores).numpy() for scores in self._scores(**inputs)
    )
    new, grown = host_masks.drop_and_grow(
      drop_keys, inputs["mask"].numpy(), grow_keys, fraction
    )
    result = mask_ops.DropGrow(tf.constant(new), tf.constant(grown))
    return self._updated(result, **inputs)

  def _update_batch(
    self, inputs: list[dict[str, Any]], fraction: Tensor
  ) -> list[tuple[Tensor, Tensor, list[Tensor]]]:
    """The same for all layers at once."""
    scores = [self._scores(**each) for each in inputs]
    results = layer_batch.drop_and_grow(
      [drop for drop, _ in scores],
      [each["mask"] for each in inputs],
      [grow for _, grow in scores],
      fraction,
    )
    return [
      self._updated(result, **each)
      for result, each in zip(results, inputs, strict=True)
    ]

  def _scores(
    self,
    weights: Tensor,
    mask: Tensor,
    signal: Tensor | None,
    key: Tensor,
    **_: Any,
  ) -> tuple[Tensor, Tensor]:
    """What a layer's connections are dropped and grown by."""
    drop_scores = tf.abs(tf.cast(weights, tf.float32))
    if self._noise_std:
      noise = mask_ops.random_bell(weights.shape[0], _stream(key, _DROP_STREAM))
      drop_scores += self._noise_std * noise
    grow_key = _stream(key, _GROW_STREAM)
    return drop_scores, self._grow_scores(mask, signal, grow_key)

  def _updated(
    self,
    result: mask_ops.DropGrow,
    weights: Tensor,
    mask: Tensor,
    signal: Tensor | None,
    initial: Tensor | None,
    slots: list[Tensor],
    slot_starts: Tensor,
    key: Tensor,
  ) -> tuple[Tensor, Tensor, list[Tensor]]:
    new = self._new(result, mask)
    values = self._grown_values(weights, mask, signal, initial, key)
    zero = tf.zeros([], weights.dtype)
    weights = tf.where(new, values, tf.where(result.mask, weights, zero))
    slots = [
      self._reset_slot(slot, slot_starts[i], new, result.mask, signal)
      for i, slot in enumerate(slots)
    ]
    return weights, result.mask, slots

  def _grown_values(
    self,
    weights: Tensor,
    mask: Tensor,
    signal: Tensor | None,
    initial: Tensor | None,
    key: Tensor,
  ) -> Tensor:
    size, method = weights.shape[0], self._grow_init.method
    normal = uniform = None
    if method == "random_normal":
      normal = self._random_normal(size, _stream(key, _NORMAL_STREAM))
    elif method in ("random_uniform", "initial_dist"):
      uniform = self._random_uniform(size, _stream(key, _UNIFORM_STREAM))
    return grown_values(
      self._grow_init, weights, mask, signal, initial, normal, uniform
    )

  def _reset_slot(
    self, slot: Tensor, start: Tensor, new: Tensor, mask: Tensor, signal: Tensor
  ) -> Tensor:
    """New and inactive connections have slots as before the first step."""
    del signal
    return tf.where(mask & ~new, slot, tf.cast(start, slot.dtype))

  def _prepare_layer(self, layer: sparse_layer.SparseLayer) -> None:
    if self._grow_init.method == "initial_dist":
      self._initial_weights[layer.name] = self._new_state(
        layer.kernel.read_value(), f"{layer.kernel_name}/initial"
      )

  # What a method says.

  def _signal(
    self, layer: sparse_layer.SparseLayer, gradients: list | None
  ) -> Tensor | None:
    """What the growth is derived from, with the kernel's shape; or None."""
    del layer, gradients
    return None

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    """Float [n]: the highest that are not kept grow."""
    raise NotImplementedError

  def _new(self, result: mask_ops.DropGrow, old_mask: Tensor) -> Tensor:
    """Bool [n]: the connections that start anew."""
    return result.grown & ~old_mask

  # Random numbers, apart so that tests can replace them.

  def _random_normal(self, size: int, key: Tensor) -> Tensor:
    # Box and Muller's, because the library's differ with and without XLA.
    radius = 1.0 - mask_ops.random_uniform(size, key)
    angle = 2.0 * np.pi * mask_ops.random_uniform(size, _stream(key, 4))
    return tf.sqrt(-2.0 * tf.math.log(radius)) * tf.cos(angle)

  def _random_uniform(self, size: int, key: Tensor) -> Tensor:
    return mask_ops.random_uniform(size, key)


def _stream(key: Tensor, stream: int) -> Tensor:
  return key + tf.constant([stream * 0x9E3779B1 & 0xFFFFFFFF, 0], tf.uint32)


def _flat(value: Any) -> Tensor | None:
  return None if value is None else tf.reshape(value, [-1])
