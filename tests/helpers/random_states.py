# SPDX-License-Identifier: Apache-2.0
"""Random states of sparse optimizers, and what must hold in every one.

Hypothesis draws a `State`; `check` trains it for some iterations beside the
plain optimizer and checks the promises after each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from sparse_methods import BUDGETED, DROP_GROW, METHODS

from rigl import sparse_utils

v1 = tf.compat.v1.train

INNER: dict[str, Callable[[], Any]] = {
  "sgd": lambda: v1.GradientDescentOptimizer(0.1),
  "momentum": lambda: v1.MomentumOptimizer(0.1, 0.9),
  "nesterov": lambda: v1.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
  "adam": lambda: v1.AdamOptimizer(0.01),
  "adagrad": lambda: v1.AdagradOptimizer(0.1),
  "adadelta": lambda: v1.AdadeltaOptimizer(0.1),
  "ftrl": lambda: v1.FtrlOptimizer(0.1),
  "rmsprop": lambda: v1.RMSPropOptimizer(0.01, momentum=0.9),
  "centered": lambda: v1.RMSPropOptimizer(0.01, centered=True),
  "proximal": lambda: v1.ProximalGradientDescentOptimizer(
    0.1, l1_regularization_strength=0.01
  ),
}
# The optimizers that TensorFlow computes in float16 and bfloat16 as well.
DTYPES = {
  "float32": tf.float32,
  "float64": tf.float64,
  "float16": tf.float16,
  "bfloat16": tf.bfloat16,
}
# It decays at inactive weights too.
_NOT_AT_REST = ("rms",)
GRADIENTS = ("normal", "zero", "equal", "one", "tiny", "large")


@dataclass(frozen=True)
class State:
  """A sparse optimizer before its first iteration.

  Attributes:
    method: row of `sparse_methods.METHODS`.
    inner: key of `INNER`.
    dtype: key of `DTYPES`.
    shapes: shapes of the kernels.
    num_ones: active connections of each kernel at the start.
    target: the sparsity of methods with a target.
    begin, length, frequency: the update window; `length` may be -1, no end.
    drop_fraction: share that is dropped.
    anneal: how it falls.
    grow_init: initial weights of grown connections.
    weight_decay: weight decay.
    is_used: whether the wrapped optimizer made steps before.
    gradients: kind of the gradients of each iteration.
    seed: of weights, masks and gradients.
  """

  method: str
  inner: str
  dtype: str
  shapes: tuple[tuple[int, ...], ...]
  num_ones: tuple[int, ...]
  target: float
  begin: int
  length: int
  frequency: int
  drop_fraction: float
  anneal: str
  grow_init: str
  weight_decay: float
  is_used: bool
  gradients: tuple[str, ...]
  seed: int


# Arguments of the rows of `BUDGETED` that make them what they are.
_BUDGET = ("soft_memory", "across_layers", "drop_gradient_weight")


@st.composite
def states(draw: Any, max_iterations: int = 4) -> State:
  """Draws a state."""
  sizes = st.sampled_from([1] * 8 + [2, 3, 5] * 4 + [0])
  shape = st.lists(sizes, min_size=1, max_size=4).map(tuple)
  shapes = tuple(draw(st.lists(shape, min_size=1, max_size=3)))
  method = draw(st.sampled_from([*METHODS]))
  inner = draw(st.sampled_from([*INNER]))
  # TensorFlow has this one in float32 alone.
  dtypes = ["float32"] if inner == "proximal" else [*DTYPES]
  inits = [
    name + ("_0.5" if name.startswith("grad") else "")
    for name in getattr(METHODS[method].make, "grow_inits", ["zeros"])
  ]
  return State(
    method=method,
    inner=inner,
    dtype=draw(st.sampled_from(dtypes)),
    shapes=shapes,
    num_ones=tuple(
      draw(st.integers(0, int(np.prod(shape)))) for shape in shapes
    ),
    target=draw(st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.99])),
    begin=draw(st.integers(0, 2)),
    length=draw(st.sampled_from([-1, 0, 1, 5])),
    frequency=draw(st.integers(1, 3)),
    drop_fraction=draw(
      st.one_of(st.sampled_from([0.0, 0.3, 1.0]), st.floats(0, 1, width=32))
    ),
    anneal=draw(
      st.sampled_from(["constant", "cosine", "exponential", "exponential_3"])
    ),
    grow_init=draw(st.sampled_from(inits)),
    weight_decay=draw(st.sampled_from([0.0, 0.01])),
    is_used=draw(st.booleans()),
    gradients=tuple(
      draw(
        st.lists(
          st.sampled_from(GRADIENTS), min_size=1, max_size=max_iterations
        )
      )
    ),
    seed=draw(st.integers(0, 2**31 - 1)),
  )


def _arguments(state: State) -> dict[str, Any]:
  """The arguments of the method's optimizer."""
  arguments = {"weight_decay": state.weight_decay, "seed": state.seed}
  end = -1 if state.length < 0 else state.begin + state.length
  window = {
    "begin_step": state.begin,
    "end_step": end,
    "frequency": state.frequency,
  }
  if state.method in (*DROP_GROW, *BUDGETED):
    own = METHODS[state.method].arguments
    budget = {n: v for n, v in own.items() if n in _BUDGET}
    if "soft_memory" in budget:
      window["end_step"] = state.begin + max(state.length, state.frequency)
    arguments |= (
      window
      | budget
      | {
        "drop_fraction": state.drop_fraction,
        "drop_fraction_anneal": state.anneal,
        "grow_init": state.grow_init,
      }
    )
  elif state.method == "granet":
    arguments |= window | {
      "end_step": state.begin + max(state.length, state.frequency),
      "target_sparsity": state.target,
      "drop_fraction": state.drop_fraction,
      "drop_fraction_anneal": state.anneal,
      "grow_init": state.grow_init,
    }
  elif state.method == "prune":
    arguments |= window | {
      "end_step": state.begin + max(state.length, 1),
      "target_sparsity": state.target,
    }
  elif state.method == "top_kast":
    arguments |= window | {"default_sparsity": state.target}
  elif state.method in ("snip", "dnw"):
    arguments |= {
      "default_sparsity": state.target,
      "mask_init_method": "random",
    }
  return arguments


def _gradient(
  kind: str, shape: tuple[int, ...], dtype: Any, rng: np.random.Generator
) -> np.ndarray:
  """A finite gradient, whose square is finite as well."""
  normal = rng.normal(size=shape)
  values = {
    "normal": normal,
    "zero": np.zeros(shape) * np.sign(normal),  # 0 and -0.
    "equal": np.ones(shape),
    "one": (np.arange(normal.size) == 0).reshape(shape) * 1.0,
    "tiny": normal * 1e-6,
    "large": normal * 30,
  }[kind]
  return np.asarray(values, dtype.as_numpy_dtype)


def _slot_starts(state: State) -> dict[str, float]:
  """The values of the slots that no step has used."""
  weight = tf.Variable(tf.zeros([1], DTYPES[state.dtype]))
  inner = INNER[state.inner]()
  inner._create_slots([weight])
  return {
    name: float(inner.get_slot(weight, name).numpy()[0])
    for name in inner.get_slot_names()
  }


def check(state: State, engine: str, compile: str) -> None:
  """Checks the promises in a state; the arguments are those of `Twin`.

  Kernels without weights are refused, unless there are no masks.
  """
  is_empty = any(0 in shape for shape in state.shapes)
  if is_empty and METHODS[state.method].start != "none":
    with pytest.raises(ValueError, match=r"kernel of 'layer\d' must"):
      Twin(state, engine, compile)
    return
  Twin(state, engine, compile).train()


class Twin:
  """A state in training, beside the plain optimizer on the same gradients.

  Args:
    state: the state.
    engine: the mask engine.
    compile: what an iteration becomes: `eager`, `graph` or `jit`.
  """

  def __init__(self, state: State, engine: str, compile: str) -> None:
    self.state, self._rng = state, np.random.default_rng(state.seed)
    dtype = DTYPES[state.dtype]
    values = [
      np.asarray(self._rng.normal(size=shape), dtype.as_numpy_dtype)
      for shape in state.shapes
    ]
    self.kernels = [
      tf.Variable(value, name=f"layer{i}/weights")
      for i, value in enumerate(values)
    ]
    self._initial, self._given = values, list[list[Any]]()
    inner = INNER[state.inner]()
    if state.is_used:
      for _ in range(2):
        self._given.append(self._draw("normal"))
        inner.apply_gradients(zip(self._given[-1], self.kernels, strict=True))
    self._num_plain = len(self._given)  # Before there was any decay.
    method = METHODS[state.method]
    self.optimizer = method.make(inner, **_arguments(state), mask_engine=engine)
    self.step = tf.Variable(0, dtype=tf.int64)
    if method.start == "dense":
      self.optimizer.create_masks(self.kernels)
    elif method.start == "sparse":
      self.optimizer.create_masks(self.kernels, self._masks())
    self.optimizer.create_slots(self.kernels)
    self._start, self._slot_starts = self.counts(), _slot_starts(state)
    self._iterate = self._apply
    if compile != "eager":
      self._iterate = tf.function(
        self._apply, jit_compile=compile == "jit", autograph=False
      )

  def _apply(self, gradients: list[Any]) -> None:
    pairs = zip(gradients, self.kernels, strict=True)
    self.optimizer.apply_gradients(pairs, self.step)

  def _draw(self, kind: str) -> list[Any]:
    dtype = DTYPES[self.state.dtype]
    return [
      tf.constant(_gradient(kind, shape, dtype, self._rng))
      for shape in self.state.shapes
    ]

  def _masks(self) -> dict[str, np.ndarray]:
    masks = {}
    for i, (shape, ones) in enumerate(
      zip(self.state.shapes, self.state.num_ones, strict=True)
    ):
      flat = np.arange(int(np.prod(shape))) < ones
      masks[f"layer{i}"] = self._rng.permutation(flat).reshape(shape)
    return masks

  def counts(self) -> list[int]:
    return [
      int(np.count_nonzero(layer.mask.numpy()))
      for layer in self.optimizer.layers
    ]

  def train(self) -> None:
    """Makes all iterations, and checks before and after each."""
    if not self.is_finite() and not self._plain_is_finite():
      return  # The plain steps before made it so.
    self.check()
    for kind in self.state.gradients:
      gradients, before = self._draw(kind), self.counts()
      self._given.append(gradients)
      self._iterate(gradients)
      if not self.is_finite() and not self._plain_is_finite():
        return  # Nothing is promised any more.
      self.check()
      self._check_counts(before)

  def is_finite(self) -> bool:
    """Whether all weights are."""
    return all(np.isfinite(_float(kernel)).all() for kernel in self.kernels)

  def _plain_is_finite(self) -> bool:
    """Whether the plain optimizer, used or new, gives finite weights."""
    old = INNER[self.state.inner]()
    weights = [tf.Variable(value) for value in self._initial]
    for number, gradients in enumerate(self._given):
      decayed = gradients
      if number >= self._num_plain:
        decayed = self._decayed(gradients, weights)
      none = self._decayed([tf.zeros_like(g) for g in gradients], weights)
      old.apply_gradients(zip(decayed, weights, strict=True))
      for given in (decayed, none):
        fresh = [tf.Variable(weight) for weight in weights]
        new = INNER[self.state.inner]()
        for _ in range(2):
          new.apply_gradients(zip(given, fresh, strict=True))
        weights_of_all = (*weights, *fresh)
        if not all(np.isfinite(_float(v)).all() for v in weights_of_all):
          return False
    return True

  def _decayed(self, gradients: list[Any], weights: list[Any]) -> list[Any]:
    """Gradients with the weight decay, which matrices have."""
    return [
      g + tf.constant(self.state.weight_decay, g.dtype) * w
      if len(w.shape) > 1
      else g
      for g, w in zip(gradients, weights, strict=True)
    ]

  def check(self) -> None:
    """Weights are finite; off the masks they are zero and slots at rest."""
    assert self.is_finite(), "a weight is not finite"
    for kernel, layer in zip(self.kernels, self.optimizer.layers, strict=False):
      mask, weights = layer.mask.numpy(), _float(kernel)
      assert not weights[~mask].any(), "weights off the mask"
      if METHODS[self.state.method].trains_inactive:
        continue
      for name in self.optimizer.get_slot_names():
        slot = self.optimizer.get_slot(kernel, name)
        if slot is None or name in _NOT_AT_REST:
          continue
        rest, start = _float(slot)[~mask], self._slot_starts[name]
        assert (rest == start).all(), f"slot {name}: {rest}, not {start}"

  def _check_counts(self, before: list[int]) -> None:
    method, now = self.state.method, self.counts()
    if METHODS[method].conserved:
      assert now == self._start, "the number of connections changed"
      return
    if method in BUDGETED:
      self._check_budget(now)
      return
    if method == "granet":  # It prunes over all layers.
      size = sum(layer.size for layer in self.optimizer.layers)
      least = int(round(size * (1 - self.state.target)))
      assert least - 1 <= sum(now) <= sum(before), (least, before, now)
      assert min(now) >= 1
      return
    for layer, old, ones in zip(
      self.optimizer.layers, before, now, strict=True
    ):
      size = int(np.prod(layer.kernel.shape))
      least = size - sparse_utils.get_n_zeros(size, self.state.target)
      if method == "prune":  # The published rounding of pruning.
        share = np.float32(1) - np.float32(self.state.target)
        least = int(np.round(np.float32(size) * share))
      assert ones >= least and ones <= old, (least, old, ones)
      if method == "dnw" or (method == "snip" and ones != size):
        assert ones == least

  def _check_budget(self, now: list[int]) -> None:
    """The numbers with soft memory, or over all layers."""
    budget = METHODS[self.state.method].arguments
    soft = "soft_memory" in budget
    share = np.float32(self.state.drop_fraction if soft else 0.0)
    sizes = [layer.size for layer in self.optimizer.layers]
    numbers = list(zip(self._start, now, sizes, strict=True))
    if "across_layers" in budget:
      for given, ones, _ in numbers:
        assert ones >= min(given, 1), "a layer lost its last connection"
      numbers = [(sum(self._start), sum(now), sum(sizes))]
    for given, ones, size in numbers:
      assert given <= ones <= min(given + int(np.float32(given) * share), size)


def _float(variable: Any) -> np.ndarray:
  return np.asarray(variable.numpy(), np.float64)
