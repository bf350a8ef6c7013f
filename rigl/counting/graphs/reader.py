# SPDX-License-Identifier: Apache-2.0
"""Reads a graph with all functions, branches and loops inside it.

All operations are copied into one flat graph, operation after operation, with
the sizes that they have for these examples. A function is copied wherever it is
called, a condition with all its branches, and the body of a loop once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import function_def_to_graph

from rigl.counting.graphs import node_lists
from rigl.counting.graphs.constants import Constants
from rigl.counting.graphs.labels import (
  Label,
  Use,
  Weights,
  merged,
  weights_of,
)
from rigl.counting.graphs.loops import LoopVariable, count_iterations
from rigl.counting.graphs.uses import Uses
from rigl.types import Tensor

_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "TPUPartitionedCall")
_BRANCHES = ("Case", "If", "StatelessCase", "StatelessIf")
_LOOPS = ("StatelessWhile", "While")


class Reader:
  """Finds the uses of variables in a traced function.

  Args:
    function: the function.
    variables: its variables by the identities of their handles.

  Attributes:
    variables: the variables that the function uses.
    uses: what it does with them, in the order of its operations.
  """

  def __init__(
    self,
    function: tf.types.experimental.ConcreteFunction,
    variables: Mapping[int, Any],
  ) -> None:
    self.variables: list[Weights] = []
    self._labels: dict[str, Label] = {}
    self._graph = tf.Graph()
    self._constants = Constants(self._graph)
    self._uses = Uses(self.variables, self._labels)
    captured = {inner.name: outer for outer, inner in function.graph.captures}
    found = {
      name: weights_of(outer, variables.get(id(outer)), number)
      for number, (name, outer) in enumerate(captured.items())
      if outer.dtype == tf.resource
    }
    definition = function.graph.as_graph_def(add_shapes=True)
    self._library = {f.signature.name: f for f in definition.library.function}
    with self._graph.as_default():
      only_functions = tf.compat.v1.GraphDef()
      only_functions.library.CopyFrom(definition.library)
      only_functions.versions.CopyFrom(definition.versions)
      tf.graph_util.import_graph_def(only_functions, name="")
      known = {
        tensor.name: self._input(tensor, tensor.name in captured, found)
        for tensor in function.graph.inputs
      }
      results = [tensor.op.name for tensor in function.graph.outputs]
      results += [
        operation.name for operation in function.graph.control_outputs
      ]
      try:
        self._copy(definition.node, known, results)
        self._uses.add_stored()
      finally:
        self._constants.close()

  @property
  def uses(self) -> list[Use]:
    """What the function does with its variables."""
    return self._uses.found

  def _input(
    self,
    tensor: Tensor,
    is_captured: bool,
    found: Mapping[str, Weights | None],
  ) -> Tensor:
    """A tensor of the flat graph for an input of the function."""
    weights = found.get(tensor.name)
    if weights is None:
      new = tf.compat.v1.placeholder(tensor.dtype, tensor.shape)
      self._labels[new.name] = Label(not is_captured)
      return new
    new = tf.raw_ops.VarHandleOp(
      dtype=weights.dtype,
      shape=tf.TensorShape(weights.shape),
      shared_name=f"variable_{len(self.variables)}",
    )
    self._labels[new.name] = Label(False, (len(self.variables),))
    self.variables.append(weights)
    return new

  def _copy(
    self,
    nodes: Sequence[Any],
    known: dict[str, Tensor],
    results: Iterable[str],
  ) -> None:
    """Copies nodes of a graph or function into the flat graph.

    Args:
      nodes: definitions of the nodes.
      known: tensors of the flat graph by names of the nodes' inputs; grows by
        their outputs.
      results: names of the nodes whose values are asked for. TensorFlow does
        not run what they do not need.
    """
    pending: list[Any] = []
    for node in node_lists.ordered(node_lists.needed(nodes, results), known):
      action = self._action(node)
      if action is None:
        pending.append(node)
        continue
      self._import(pending, known)
      pending = []
      inputs = [
        known[node_lists.full(n)] for n in node.input if not n.startswith("^")
      ]
      for index, tensor in enumerate(action(node, inputs)):
        known[f"{node.name}:{index}"] = tensor
    self._import(pending, known)

  def _action(self, node: Any) -> Callable[..., list[Tensor]] | None:
    """The method that reads a call, condition or loop; None for others."""
    if node.op in _CALLS:
      return lambda n, inputs: self._call(n.attr["f"].func.name, inputs)
    if node.op in self._library:
      return lambda n, inputs: self._call(n.op, inputs)
    if node.op in _BRANCHES:
      return self._branches
    return self._loop if node.op in _LOOPS else None

  def _import(self, nodes: Sequence[Any], known: dict[str, Tensor]) -> None:
    """Copies operations, and notes what they do with variables."""
    if not nodes:
      return
    definition = tf.compat.v1.GraphDef()
    own = {node.name for node in nodes}
    outer = {}
    for node in nodes:
      new = definition.node.add()
      new.CopyFrom(node)
      del new.input[:]
      new.device = ""
      new.attr.pop("_class", None)
      new.attr.pop("_output_shapes", None)
      for name in node.input:
        if name.startswith("^"):
          continue
        new.input.append(name)
        if name.split(":")[0] not in own:
          outer[node_lists.full(name)] = known[node_lists.full(name)]
    # A name of its own for each copy.
    scope = f"part_{len(self._labels)}"
    operations = tf.graph_util.import_graph_def(
      definition,
      input_map=outer,
      return_elements=[node.name for node in nodes],
      name=scope,
    )
    for node, operation in zip(nodes, operations, strict=True):
      # Programs may know sizes that do not follow from the operations.
      shapes = node.attr["_output_shapes"].list.shape
      for tensor, shape in zip(operation.outputs, shapes, strict=False):
        if tensor.shape.is_compatible_with(tf.TensorShape(shape)):
          tensor.set_shape(shape)
      self._uses.add(operation)
      for index, tensor in enumerate(operation.outputs):
        known[f"{node.name}:{index}"] = tensor

  def _call(self, name: str, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Copies a function with given inputs; returns its results."""
    function = self._library[name]
    definition, names = function_def_to_graph.function_def_to_graph_def(
      function
    )
    arguments = [arg.name for arg in function.signature.input_arg]
    known = {
      names[argument]: tensor
      for argument, tensor in zip(arguments, inputs, strict=False)
    }
    returned = [arg.name for arg in function.signature.output_arg]
    results = [names[function.ret[name]] for name in returned]
    nodes = [result.split(":")[0] for result in results]
    self._copy(definition.node, known, [*nodes, *function.control_ret.values()])
    return [known[node_lists.full(result)] for result in results]

  def _branches(self, node: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Copies all branches; counts the one with the most multiplications."""
    if node.op.endswith("If"):
      names = [node.attr[f"{n}_branch"].func.name for n in ("then", "else")]
    else:
      names = [function.name for function in node.attr["branches"].list.func]
    choice, *arguments = inputs
    value = self._constants.value(choice)
    if value is not None:
      place = int(not value) if node.op.endswith("If") else int(value)
      place = place if 0 <= place < len(names) else len(names) - 1
      return self._call(names[place], arguments)
    branches = [
      self._aside(functools.partial(self._call, name, arguments))
      for name in names
    ]
    costs = [sum(u.multiplications or 0 for u in uses) for _, uses in branches]
    chosen = costs.index(max(costs))
    for index, (_, uses) in enumerate(branches):
      for use in uses:
        if index != chosen:
          use.times(0)
          use.activation, use.use_bias = None, False
      self.uses.extend(uses)
    return [
      self._either(tensors, choice, chosen)
      for tensors in zip(*(results for results, _ in branches), strict=True)
    ]

  def _either(
    self, tensors: Sequence[Tensor], choice: Tensor, chosen: int
  ) -> Tensor:
    """A tensor that stands for one of several."""
    labels = [self._labels[t.name] for t in tensors]
    label = merged(labels)
    if self._labels[choice.name].varies or label.varies:
      # If all are kernels, the examples choose one of them.
      label = Label(True, label.sources, labels[chosen].owner)
    return self._stand_in(tensors, label)

  def _stand_in(self, tensors: Sequence[Tensor], label: Label) -> Tensor:
    """A new tensor, of the sizes that some tensors have in common."""
    shape = tensors[0].shape
    for other in tensors[1:]:
      shape = shape.most_specific_compatible_shape(other.shape)
    new = tf.compat.v1.placeholder(tensors[0].dtype, shape)
    self._labels[new.name] = label
    return new

  def _aside(
    self, read: Callable[[], list[Tensor]]
  ) -> tuple[list[Tensor], list[Use]]:
    """Calls `read`; returns its results and the uses that it found."""
    outer, self._uses.found = self._uses.found, []
    try:
      results = read()
      return results, self._uses.found
    finally:
      self._uses.found = outer

  def _loop(self, node: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Copies the body of a loop; counts it once per iteration."""
    body, condition = (node.attr[n].func.name for n in ("body", "cond"))
    state = [
      LoopVariable.before(tensor, self._labels[tensor.name])
      for tensor in inputs
    ]
    # Repeated until labels and sizes hold for every iteration.
    while True:
      variables = [self._argument(variable) for variable in state]
      results, uses = self._aside(
        functools.partial(self._call, body, variables)
      )
      after = [
        variable.after(argument, result, self._labels[result.name])
        for variable, argument, result in zip(
          state, variables, results, strict=True
        )
      ]
      if after == state:
        break
      state = after
    (goes_on,), tests = self._aside(lambda: self._call(condition, variables))
    number = count_iterations(
      self._constants, goes_on, inputs, variables, results
    )
    for use in [*uses, *tests]:
      if number is None:
        use.problem = use.problem or "is in a loop of unknown length"
      else:
        use.times(number + any(use is other for other in tests))
    self.uses.extend([*uses, *tests])
    return [
      self._stand_in([start, result], variable.label)
      if result.dtype not in (tf.resource, tf.variant)
      else result
      for start, result, variable in zip(inputs, results, state, strict=True)
    ]

  def _argument(self, variable: LoopVariable) -> Tensor:
    """A tensor that stands for a variable of a loop in any iteration."""
    start = variable.start
    if variable.is_constant or start.dtype == tf.resource:
      return start
    if start.dtype == tf.variant:
      new = tf.identity(start)  # It knows the sizes of lists.
    else:
      new = tf.compat.v1.placeholder(start.dtype, variable.shape)
    self._labels[new.name] = variable.label
    return new
