# SPDX-License-Identifier: Apache-2.0
"""The mask engine: top-k and drop and grow for the layers of a network.

One interface to three implementations of top-k, which give the same masks bit
for bit. `selection` holds the rules of selection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, Literal, TypeAlias, get_args

import tensorflow as tf

from rigl.checks import check_integer, check_number
from rigl.mask_ops import selection
from rigl.mask_ops.keys import compiled_by_shape
from rigl.mask_ops.selection import DropGrow
from rigl.mask_ops.topk_batched import BatchRows
from rigl.mask_ops.topk_numpy import HostRows
from rigl.mask_ops.topk_xla import LayerRows
from rigl.structures import Groups
from rigl.types import Tensor

EngineName: TypeAlias = Literal["auto", "xla", "batched", "numpy"]
ENGINES: tuple[str, ...] = get_args(EngineName)


class MaskEngine:
  """Chooses connections in all layers of a network, in one of three ways.

  * `xla` compiles a program per layer size and runs it layer by layer: the
    fastest on a CPU once compiled.
  * `batched` compiles one program for all layers together: the fastest on GPUs
    and TPUs.
  * `numpy` compiles nothing and works on several layers at a time, on the
    host: the fastest to start. It works eagerly and in graphs, but not inside
    a function that XLA compiles.

  All choose the same connections, bit for bit: exactly as many as asked for,
  ties broken by the lower flat index. (The computation of the scores may round
  differently with and without XLA.)

  Args:
    name: `xla`, `batched`, `numpy`, or `auto`: `batched` if TensorFlow has a
      GPU or a TPU, `numpy` if `tf.config.run_functions_eagerly` is on, where
      nothing is compiled, and else `xla`.
    threads: layers at a time of `numpy`, at least 1. None: one per processor.

  Raises:
    ValueError: if an argument is not as described.

  Example:
    >>> engine = MaskEngine("numpy")
    >>> scores = [tf.constant([1.0, 3.0, 2.0])]
    >>> engine.top_k(scores, [2])[0].numpy().tolist()
    [False, True, True]
  """

  def __init__(
    self, name: EngineName = "auto", threads: int | None = None
  ) -> None:
    if name not in ENGINES:
      raise ValueError(
        f"`mask_engine` must be one of {list(ENGINES)}, got {name!r}."
      )
    if threads is not None:
      check_integer("threads", threads, 1)
    self._name = _best() if name == "auto" else name
    self._threads = threads or os.cpu_count() or 1
    self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}

  @property
  def name(self) -> str:
    """`xla`, `batched` or `numpy`."""
    return self._name

  def __repr__(self) -> str:
    return f"MaskEngine({self._name!r})"

  def top_k(
    self,
    scores: Sequence[Tensor],
    k: Sequence[Tensor | int],
    candidates: Sequence[Tensor] | None = None,
    groups: Sequence[Groups | None] | None = None,
  ) -> list[Tensor]:
    """The masks of the highest scores of every layer, or of its groups.

    The order of scores is that of the real numbers, with +0 equal to -0 and
    NaN below -inf.

    Args:
      scores: [n] of each layer, n of at least 1; float32, float64 (compared as
        float32), bfloat16, float16 or int32.
      k: int32 scalar of each layer, the number of ones, in a layer with groups
        of every group; it is clipped to the number of candidates.
      candidates: bool [n] of each layer; only these can be chosen. None: all.
      groups: of each layer, the groups to choose in, or None for the layer as
        a whole. None: no layer has groups.

    Returns:
      bool [n] of each layer.
    """
    _check_lengths(scores=scores, k=k, candidates=candidates, groups=groups)
    scores = [tf.convert_to_tensor(each) for each in scores]
    counts = [tf.cast(each, tf.int32) for each in k]
    allowed = candidates or [None] * len(scores)
    layers = list(zip(scores, counts, allowed, strict=True))
    return _apply_to_both(
      self._top_k, selection.top_k_of_groups, layers, groups
    )

  def _top_k(
    self, layers: Sequence[tuple[Tensor, Tensor, Tensor | None]]
  ) -> list[Tensor]:
    if self._name == "batched":
      rows = BatchRows([scores.shape[0] for scores, _, _ in layers])
      return selection.top_k(rows, *zip(*layers, strict=True))
    of_layer = top_k_of_layer if self._name == "xla" else _host_top_k
    return [of_layer(*layer) for layer in layers]

  def drop_and_grow(
    self,
    drop_scores: Sequence[Tensor],
    masks: Sequence[Tensor],
    grow_scores: Sequence[Tensor],
    drop_fraction: Tensor | float,
    groups: Sequence[Groups | None] | None = None,
  ) -> list[DropGrow]:
    """Drops the lowest active connections and grows as many of the highest.

    In a layer of n_ones active connections, the int(float32(n_ones) *
    drop_fraction) of lowest drop score are dropped. As many grow among all that
    are not kept, so that a connection can be dropped and grown back at once
    (Evci et al., 2020, https://arxiv.org/abs/1911.11134, Alg. 1). In a layer
    with groups, every group grows as many connections as it lost.

    Args:
      drop_scores: float [n] of each layer, n of at least 1; high values stay.
      masks: bool [n] of each layer.
      grow_scores: float or int32 [n] of each layer; high values grow.
      drop_fraction: float32 scalar in [0, 1], of all layers.
      groups: of each layer, the groups that keep their number of connections,
        or None. None: no layer has groups.

    Returns:
      The result of each layer, bool [n].
    """
    check_fraction(drop_fraction)
    _check_lengths(
      drop_scores=drop_scores,
      masks=masks,
      grow_scores=grow_scores,
      groups=groups,
    )
    fraction = tf.cast(drop_fraction, tf.float32)
    drop, active, grow = (
      [tf.convert_to_tensor(each) for each in column]
      for column in (drop_scores, masks, grow_scores)
    )
    layers = list(zip(drop, active, grow, strict=True))

    def of_groups(
      drop: Tensor, mask: Tensor, grow: Tensor, groups: Groups
    ) -> DropGrow:
      rows = self._rows(mask.shape[0])
      return selection.drop_and_grow_of_groups(
        rows, drop, mask, grow, fraction, groups
      )

    return _apply_to_both(
      lambda some: self._drop_and_grow(some, fraction),
      of_groups,
      layers,
      groups,
    )

  def _drop_and_grow(
    self, layers: Sequence[tuple[Tensor, Tensor, Tensor]], fraction: Tensor
  ) -> list[DropGrow]:
    if self._name == "batched":
      rows = BatchRows([mask.shape[0] for _, mask, _ in layers])
      drop, masks, grow = zip(*layers, strict=True)
      return selection.drop_and_grow(rows, drop, masks, grow, fraction)
    of_layer = (
      drop_and_grow_of_layer if self._name == "xla" else _host_drop_and_grow
    )
    return [of_layer(*layer, fraction) for layer in layers]

  def _rows(self, size: int) -> selection.TopK:
    """What finds the highest keys of one layer, of `size` connections."""
    return HostRows() if self._name == "numpy" else LayerRows(size)

  def map(
    self,
    function: Callable[..., list[Any]],
    layers: Sequence[Any],
    *shared: Tensor,
  ) -> list[Any]:
    """Applies a function to the layers, together or one by one.

    Args:
      function: pure function of a list of layers and `shared`, which returns
        the results of these layers; it may call this engine's `top_k` and
        `drop_and_grow`. It is compiled once per function and shapes.
      layers: of each layer, nested tensors of static shapes, or None.
      *shared: tensors that all layers use.

    Returns:
      The result of each layer.
    """
    if self._name == "numpy":

      def run(layer: Any) -> Any:
        return function([layer], *shared)[0]

      if not tf.executing_eagerly() or self._threads == 1 or len(layers) == 1:
        return [run(layer) for layer in layers]
      with futures.ThreadPoolExecutor(self._threads) as pool:
        return list(pool.map(run, layers))
    if function not in self._compiled:
      self._compiled[function] = compiled_by_shape(function)
    compiled = self._compiled[function]
    if self._name == "batched":
      return compiled(list(layers), *shared)
    return [compiled([layer], *shared)[0] for layer in layers]


@compiled_by_shape
def top_k_of_layer(
  scores: Tensor, k: Tensor, candidates: Tensor | None
) -> Tensor:
  """`selection.top_k` of one layer, compiled by XLA once per size."""
  rows = LayerRows(scores.shape[0])
  return selection.top_k(rows, [scores], [k], [candidates])[0]


@compiled_by_shape
def drop_and_grow_of_layer(
  drop_scores: Tensor, mask: Tensor, grow_scores: Tensor, fraction: Tensor
) -> DropGrow:
  """`selection.drop_and_grow` of one layer, compiled by XLA once per size."""
  rows = LayerRows(mask.shape[0])
  return selection.drop_and_grow(
    rows, [drop_scores], [mask], [grow_scores], fraction
  )[0]


def _apply_to_both(
  to_layers: Callable[[list[Any]], list[Any]],
  to_groups: Callable[..., Any],
  layers: list[Any],
  groups: Sequence[Groups | None] | None,
) -> list[Any]:
  """Applies one function to all layers without groups, one to each other."""
  groups = groups or [None] * len(layers)
  whole = [la for la, own in zip(layers, groups, strict=True) if own is None]
  results = iter(to_layers(whole) if whole else [])
  return [
    next(results) if own is None else to_groups(*layer, own)
    for layer, own in zip(layers, groups, strict=True)
  ]


def _host_top_k(scores: Tensor, k: Tensor, candidates: Tensor | None) -> Tensor:
  return selection.top_k(HostRows(), [scores], [k], [candidates])[0]


def _host_drop_and_grow(
  drop_scores: Tensor, mask: Tensor, grow_scores: Tensor, fraction: Tensor
) -> DropGrow:
  return selection.drop_and_grow(
    HostRows(), [drop_scores], [mask], [grow_scores], fraction
  )[0]


def check_fraction(drop_fraction: Tensor | float) -> None:
  """Raises ValueError unless it is a tensor or a number in [0, 1]."""
  if not tf.is_tensor(drop_fraction):
    check_number("drop_fraction", drop_fraction, 0, 1)


def _check_lengths(**columns: Sequence[Any] | None) -> None:
  """Raises ValueError unless there is one value per layer in each column."""
  lengths: dict[str, int] = {}
  for name, column in columns.items():
    if column is None:
      continue
    if tf.is_tensor(column) or not isinstance(column, Sequence):
      raise ValueError(
        f"`{name}` must be a list with one value per layer, got {column!r}."
      )
    lengths[name] = len(column)
  if len(set(lengths.values())) > 1:
    raise ValueError(
      "There must be one value per layer, got "
      + ", ".join(f"{n} of `{name}`" for name, n in lengths.items())
      + "."
    )


def _best() -> EngineName:
  """The engine that suits the devices."""
  if tf.config.list_physical_devices("GPU"):
    return "batched"
  if tf.config.list_logical_devices("TPU"):
    return "batched"
  return "numpy" if tf.config.functions_run_eagerly() else "xla"
