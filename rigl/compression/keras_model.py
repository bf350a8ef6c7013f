# SPDX-License-Identifier: Apache-2.0
"""Structural compression of Keras models."""

from __future__ import annotations

import collections
from typing import Any

import keras
import numpy as np

from rigl.compression import keras_layers, operations
from rigl.compression.liveness import Liveness, Node


def compress(model: keras.Model) -> keras.Model:
  """Removes dead inputs, channels and neurons; see `rigl.compress`."""
  functional = _functional(model)
  reading = _Reading(functional)
  liveness = Liveness(reading.nodes, reading.outputs)
  rebuilt = _Rebuilding(reading, liveness)
  inputs = [
    keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
    for tensor in functional.inputs
  ]
  starts = [
    rebuilt.selected(tensor, node)
    for tensor, node in zip(inputs, reading.inputs, strict=True)
  ]
  outputs = functional._run_through_graph(starts, operation_fn=rebuilt.layer)
  structure = functional._inputs_struct
  result = keras.Model(
    keras.tree.pack_sequence_as(structure, inputs), outputs, name=model.name
  )
  rebuilt.assign()
  return result


def _functional(model: keras.Model) -> Any:
  """The model as a functional one.

  Raises:
    ValueError: if it is of another kind or not built.
  """
  if not isinstance(model, keras.Model) or not model.built:
    raise ValueError(
      "`model` must be a Keras model that is built, got "
      f"{type(model).__name__}."
    )
  if isinstance(model, keras.Sequential):
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
  if not hasattr(model, "_run_through_graph"):
    raise ValueError(
      "`model` must be a Sequential or functional model, whose layers are "
      f"known before it runs, got a {type(model).__name__}."
    )
  return model


class _Reading:
  """The graph of a functional model.

  Attributes:
    nodes: all nodes, in the order of computation.
    inputs: those of the inputs.
    outputs: those of the outputs.
    of_layer: the node of each layer that may be changed, by its `id`.
  """

  def __init__(self, model: Any) -> None:
    self.nodes: list[Node] = []
    self.of_layer: dict[int, Node] = {}
    calls = [
      call
      for depth in sorted(model._nodes_by_depth, reverse=True)
      for call in model._nodes_by_depth[depth]
      if call.operation is not None and not call.is_input
    ]
    uses = collections.Counter(id(call.operation) for call in calls)
    known: dict[int, Node] = {}
    for tensor in model.inputs:
      source = operations.Source(_channels(tensor))
      known[id(tensor)] = self._add(source, [], tensor.name)
    self.inputs = [*self.nodes]
    for call in calls:
      inputs = [known[id(tensor)] for tensor in call.input_tensors]
      node = None
      if uses[id(call.operation)] == 1:
        node = self._read(call.operation, inputs)
      if node is not None:
        known[id(call.outputs[0])] = node
        continue
      for other in inputs:  # An unknown layer needs all of its inputs.
        self._add(operations.Opaque(0), [other], "")
      for tensor in call.outputs:
        opaque = operations.Opaque(_channels(tensor))
        known[id(tensor)] = self._add(opaque, [], "")
    self.outputs = [known[id(tensor)] for tensor in model.outputs]

  def _read(self, layer: Any, inputs: list[Node]) -> Node | None:
    """The node of a layer; None if it is not known."""
    operation = keras_layers.read(layer, len(inputs))
    if operation is None:
      return None
    if isinstance(operation, operations.Flatten) and _is_input(inputs[0]):
      # Its places may be left out one by one.
      self._add(operations.Opaque(0), inputs, "")
      operation, inputs = operations.Source(operation.channels), []
    node = self._add(operation, inputs, layer.name)
    self.of_layer[id(layer)] = node
    return node

  def _add(
    self, operation: operations.Operation, inputs: list[Node], name: str
  ) -> Node:
    node = Node(operation, inputs, name)
    self.nodes.append(node)
    return node


def _is_input(node: Node) -> bool:
  """Whether a node is an input, or a function of each value of one."""
  while isinstance(node.operation, operations.Map) and len(node.inputs) == 1:
    node = node.inputs[0]
  return isinstance(node.operation, operations.Source)


def _channels(tensor: Any) -> int:
  """The last dimension of a tensor; 1 if it is open or there is none."""
  shape = tensor.shape
  return int(shape[-1]) if len(shape) > 1 and shape[-1] else 1


class _Rebuilding:
  """Makes the layers of the smaller model."""

  def __init__(self, reading: _Reading, liveness: Liveness) -> None:
    self._reading, self._liveness = reading, liveness
    self._new: dict[int, Any] = {}
    self._weights: list[tuple[Any, list[np.ndarray]]] = []

  def selected(self, tensor: Any, node: Node) -> Any:
    """The channels of an input that stay."""
    kept = self._liveness.kept(node)
    if kept.all():
      return tensor
    places = [int(place) for place in np.flatnonzero(kept)]
    return keras.ops.take(tensor, places, axis=-1)

  def layer(self, layer: Any) -> Any:
    """The smaller layer of one; operations without weights as they are."""
    if id(layer) in self._new:
      return self._new[id(layer)]
    new = layer
    node = self._reading.of_layer.get(id(layer))
    if isinstance(layer, keras.Layer):
      if node is not None:
        new, weights = keras_layers.smaller(layer, node, self._liveness)
      else:
        new = type(layer).from_config(layer.get_config())
        weights = layer.get_weights()
      self._weights.append((new, weights))
    self._new[id(layer)] = new
    if node is not None and isinstance(node.operation, operations.Source):
      return lambda values: self.selected(new(values), node)
    return new

  def assign(self) -> None:
    """Gives the layers, which are built now, their weights."""
    for layer, weights in self._weights:
      layer.set_weights(weights)
