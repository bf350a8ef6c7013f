# SPDX-License-Identifier: Apache-2.0
"""The same network of dense layers under masks, and of sparse layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import rigl.keras
import rigl.sparse

INPUTS, HIDDEN, CLASSES = 12, 8, 12
SPARSITY, FREQUENCY = 0.6, 3
_RNG = np.random.default_rng(7)
IMAGES = _RNG.normal(size=(40, 16, INPUTS)).astype(np.float32)
LABELS = _RNG.integers(CLASSES, size=(40, 16))

_SCHEDULE = {"frequency": FREQUENCY}
_GROW = {**_SCHEDULE, "drop_fraction": 0.4, "grow_init": "random_normal"}
# Arguments of each method that trains sparse layers.
METHODS: dict[str, dict[str, Any]] = {
  "rigl": {**_GROW, "begin_step": 1},
  "set": _GROW,
  "snfs": _GROW,
  "static": _GROW,
  "snip": {},
  "pruning": {**_SCHEDULE, "end_step": 9},
  "fixed_mask": {},
}
STARTS_DENSE = ("snip", "pruning")

INNER = {
  "momentum": lambda **o: keras.optimizers.SGD(0.1, momentum=0.9, **o),
  "nesterov": lambda **o: keras.optimizers.SGD(
    0.1, momentum=0.9, nesterov=True, **o
  ),
  "adam": lambda **o: keras.optimizers.Adam(0.01, **o),
  "adamw": lambda **o: keras.optimizers.AdamW(0.01, weight_decay=0.1, **o),
  "adagrad": lambda **o: keras.optimizers.Adagrad(0.1, **o),
  "ema": lambda **o: keras.optimizers.SGD(
    0.1, momentum=0.9, use_ema=True, ema_overwrite_frequency=5, **o
  ),
}


def make_model(**options: Any) -> keras.Model:
  """Two dense layers with the same weights at every call."""
  keras.utils.set_random_seed(3)
  return keras.Sequential(
    [
      keras.Input([INPUTS]),
      keras.layers.Dense(HIDDEN, "relu", name="hidden", **options),
      keras.layers.Dense(CLASSES, name="logits", **options),
    ]
  )


class Pair:
  """A model in masked training, and one of sparse layers.

  Args:
    method: a key of `METHODS`.
    inner: the wrapped optimizer, a key of `INNER`.
    eager: whether the sparse model trains eagerly.
    layer_options: arguments of the dense layers.
    inner_options: further arguments of the wrapped optimizer.
    **options: further arguments of the method.
  """

  def __init__(
    self,
    method: str,
    inner: str = "momentum",
    eager: bool = False,
    layer_options: dict[str, Any] | None = None,
    inner_options: dict[str, Any] | None = None,
    **options: Any,
  ) -> None:
    def optimizer() -> Any:
      return rigl.keras.METHODS[method](
        INNER[inner](**(inner_options or {})),
        SPARSITY,
        mask_engine="numpy",
        seed=5,
        **{**METHODS[method], **options},
      )

    self.masked = make_model(**(layer_options or {}))
    compile_(self.masked, optimizer())
    self.masked.optimizer.build(self.masked.trainable_variables)
    masks = None
    if method in STARTS_DENSE:
      kernels = [layer.kernel for layer in self.masked.layers]
      masks = {kernel.path: np.ones(kernel.shape) for kernel in kernels}
    self.sparse = rigl.sparse.convert(self.masked, masks=masks)
    compile_(self.sparse, optimizer(), run_eagerly=eager)
    self.sparse.optimizer.build(self.sparse.trainable_variables)

  def train(self, n: int, start: int = 0) -> None:
    """Trains both for n calls of `train_on_batch`, and compares the losses."""
    for i in range(start, start + n):
      losses = [
        model.train_on_batch(IMAGES[i], LABELS[i])
        for model in (self.masked, self.sparse)
      ]
      np.testing.assert_allclose(*losses, rtol=1e-4)

  def check(self) -> None:
    """Compares masks, weights and slots."""
    one, other = (m.optimizer for m in (self.masked, self.sparse))
    assert int(one.iterations) == int(other.iterations)
    assert one.changed_in_last_update() == other.changed_in_last_update()
    for mine, theirs, dense, layer in zip(
      one.sparse_kernels,
      other.sparse_kernels,
      self.masked.layers,
      self.sparse.layers,
      strict=True,
    ):
      mask = mine.mask.numpy()
      np.testing.assert_array_equal(layer.mask(), mask)
      np.testing.assert_array_equal(theirs.whole_mask.numpy(), mask)
      kernel = layer.kernel()
      assert not kernel[~mask].any()
      np.testing.assert_allclose(
        kernel, dense.kernel.numpy(), rtol=2e-4, atol=2e-5
      )
      np.testing.assert_allclose(layer.bias, dense.bias, rtol=2e-4, atol=2e-5)
      positions = layer.positions.numpy()
      used = positions < mask.size
      for slot, own in zip(mine.slots.all(), theirs.slots.all(), strict=True):
        assert own.variable.shape == layer.values.shape
        np.testing.assert_allclose(
          own.variable.numpy()[used],
          slot.variable.numpy().reshape(-1)[positions[used]],
          rtol=1e-3,
          atol=1e-5,
        )


def compile_(model: Any, optimizer: Any, **options: Any) -> Any:
  """Compiles a model for classification, without XLA."""
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(optimizer, loss, jit_compile=False, **options)
  return model


def state(model: keras.Model) -> list[np.ndarray]:
  """All weights of the model and all variables of its optimizer."""
  return [v.numpy() for v in [*model.weights, *model.optimizer.variables]]
