# SPDX-License-Identifier: Apache-2.0
"""What the operations of a graph do with variables."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from rigl.counting.graphs import kernels, kinds, products
from rigl.counting.graphs.labels import Label, Use, Weights, merged
from rigl.types import Tensor


class Uses:
  """Finds the uses of variables, operation by operation.

  Args:
    variables: the variables of the model.
    labels: what is known of each tensor, by its name; grows.
  """

  def __init__(
    self, variables: Sequence[Weights], labels: dict[str, Label]
  ) -> None:
    self._variables = variables
    self._labels = labels
    self.found: list[Use] = []
    self._read: dict[int, tf.Operation] = {}
    self._biases: set[int] = set()
    self._count = 0

  def add(self, operation: tf.Operation) -> None:
    """Notes what an operation does, after all those that it depends on."""
    inputs = [self._labels[tensor.name] for tensor in operation.inputs]
    if operation.type not in (*kinds.SHAPES, *kinds.WRITES, *kinds.READS):
      for label in inputs:
        for weights in label.sources:
          self._read.setdefault(weights, operation)
    if operation.type == "IdentityN":
      outputs = inputs
    elif operation.type == "Switch":
      outputs = [inputs[0]] * 2  # A condition of TensorFlow 1.
    elif operation.type in kinds.SHAPES:
      outputs = [Label()] * len(operation.outputs)
    elif any(label.varies for label in inputs) or self._is_applied(
      operation, inputs
    ):
      outputs = [self._varying(operation, inputs)] * len(operation.outputs)
    else:
      outputs = [self._constant(operation, inputs)] * len(operation.outputs)
    for tensor, label in zip(operation.outputs, outputs, strict=True):
      self._labels[tensor.name] = label

  def add_stored(self) -> None:
    """Notes variables that are read, but of which no use was found."""
    used = {use.weights for use in self.found} | self._biases
    for weights, operation in self._read.items():
      if weights not in used and self._variables[weights].must_count:
        self._note(Use(weights, "embedding", operation))

  def _is_applied(
    self, operation: tf.Operation, inputs: Sequence[Label]
  ) -> bool:
    """Whether a product applies a kernel to what is the same for all examples.

    The first state of a recurrent layer is an example.
    """
    product = products.product_of(operation)
    if product is None:
      return False
    known = [bool(inputs[i].sources) for i in product.factors]
    return sorted(known) == [False, True]

  def _note(self, use: Use) -> None:
    self._count += 1
    use.order = self._count
    self.found.append(use)

  def _constant(
    self, operation: tf.Operation, inputs: Sequence[Label]
  ) -> Label:
    """The label of a result that depends on no example."""
    label = merged(inputs)
    if operation.type in kinds.REDUCTIONS and _extent(operation.outputs[0]) < 2:
      # The norm or the largest weight of a kernel is no kernel.
      kept = (s for s in label.sources if self._variables[s].rank < 2)
      return Label(False, tuple(kept))
    return label

  def _varying(self, operation: tf.Operation, inputs: Sequence[Label]) -> Label:
    """Notes the use of variables together with the examples."""
    kind = operation.type
    product = products.product_of(operation)
    if product is not None:
      return self._product(operation, inputs, product)
    if kind in kinds.PYTHON and any(
      t.dtype.is_floating for t in operation.outputs
    ):
      self._problem(operation, -1, "runs Python code, which cannot be seen")
    owners = [n.owner for n in inputs if n.owner is not None]
    owner = max(owners, key=lambda use: use.order) if owners else None
    changing = [label for label in inputs if label.varies]
    if kind in kinds.SUMS and owner and len(changing) == 1:
      self._bias(operation, inputs, owner)
    elif kind in kinds.SUMS:
      self._elementwise(operation, inputs, "addition")
    elif kind in kinds.SCALES:
      self._elementwise(operation, inputs, "multiplication")
    elif kind in kinds.COPIES:
      self._copy(operation, inputs)
    elif kind not in kinds.WRITES:
      self._refuse(operation, inputs)
    picked = self._picked(operation, inputs)
    return self._output(operation, inputs, owner, picked)

  def _output(
    self,
    operation: tf.Operation,
    inputs: Sequence[Label],
    owner: Use | None,
    picked: tuple[int, ...],
  ) -> Label:
    """Label of a varying result; notes bias and activation of its owner."""
    kind = operation.type
    sigmoid_of = ""
    if kind == "Sigmoid":
      sigmoid_of = _unscaled(operation.inputs[0], self._labels).name
    elif kind in kinds.SAME_VALUES:
      sigmoid_of = inputs[0].sigmoid_of
    if owner is None:
      return Label(True, picked, None, sigmoid_of)
    if kind in kinds.ACTIVATIONS:
      owner.activation = owner.activation or kinds.ACTIVATIONS[kind]
      owner = None
    elif kind == "Mul" and self._is_swish(operation, inputs):
      owner.activation = "swish"
      owner = None
    elif kind not in kinds.BETWEEN:
      owner = None
    elif kind in kinds.NORMS:
      owner.use_bias = True
    return Label(True, picked, owner, sigmoid_of)

  def _is_swish(self, operation: tf.Operation, inputs: Sequence[Label]) -> bool:
    """Whether a product is one of a value and its sigmoid."""
    names = {_unscaled(t, self._labels).name for t in operation.inputs}
    return any(label.sigmoid_of in names for label in inputs)

  def _product(
    self,
    operation: tf.Operation,
    inputs: Sequence[Label],
    product: products.Product,
  ) -> Label:
    """Notes a product; the factor that depends on variables is the kernel."""
    # The kernel may be one of several that the examples choose from.
    places = [i for i in product.factors if inputs[i].sources]
    places = [i for i in places if not inputs[i].varies] or places[:1]
    if not places:
      is_convolution = "conv" in operation.type.lower()
      if is_convolution and inputs[product.factors[1]].varies:
        problem = "has a kernel that is computed from the examples"
        self._problem(operation, -1, problem)
      return Label(True)
    uses = kernels.uses_of_factor(
      operation,
      operation.inputs[places[0]],
      inputs[places[0]].sources,
      product,
      self._variables,
    )
    for use in uses:
      self._note(use)
    return Label(True, (), uses[0]) if uses else Label(True)

  def _bias(
    self, operation: tf.Operation, inputs: Sequence[Label], owner: Use
  ) -> None:
    """Notes what is added to the outputs of a kernel."""
    outputs = self._outputs(owner)
    for tensor, label in zip(operation.inputs, inputs, strict=True):
      if not label.varies:
        if self._must_count(label) and products.elements(tensor) != outputs:
          self._elementwise(operation, inputs, "addition")
        else:
          owner.use_bias = True
          self._biases.update(label.sources)

  def _outputs(self, owner: Use) -> float | None:
    """Number of results for each application of a kernel."""
    size = self._variables[owner.weights].size
    if not owner.multiplications or owner.results is None:
      return None
    return owner.results * size / owner.multiplications

  def _elementwise(
    self, operation: tf.Operation, inputs: Sequence[Label], kind: str
  ) -> None:
    """Notes the addition of a variable, or the product with it."""
    results = products.elements(operation.outputs[0])
    for label in inputs:
      for weights in self._must_count(label):
        use = Use(weights, kind, operation, 0, results)
        if kind == "multiplication":
          use.multiplications = results
        if results is None:
          use.problem = "has an unknown size"
        self._note(use)

  def _copy(self, operation: tf.Operation, inputs: Sequence[Label]) -> None:
    """Notes that weights are looked up or copied."""
    is_pick = operation.type in kinds.PICKS
    for label in inputs:
      for weights in () if label.varies else label.sources:
        variable = self._variables[weights]
        if variable.must_count or (is_pick and variable.is_table):
          self._note(Use(weights, "embedding", operation))

  def _refuse(self, operation: tf.Operation, inputs: Sequence[Label]) -> None:
    """Notes variables in an operation whose cost is not known."""
    for label in inputs:
      for weights in self._must_count(label):
        self._problem(operation, weights, "is not understood")

  def _problem(
    self, operation: tf.Operation, weights: int, problem: str
  ) -> None:
    self._note(Use(weights, "", operation, problem=problem))

  def _must_count(self, label: Label) -> list[int]:
    """Variables of a tensor that does not depend on the examples."""
    if label.varies:
      return []
    return [s for s in label.sources if self._variables[s].must_count]

  def _picked(
    self, operation: tf.Operation, inputs: Sequence[Label]
  ) -> tuple[int, ...]:
    """Variables of kernels of which the examples choose one."""
    if not operation.outputs:
      return ()
    kind, first, result = operation.type, inputs[0], operation.outputs[0]
    if kind in kinds.PICKS and not first.varies:
      rest = result.shape.rank or 0
      is_slice = kind.endswith("Slice")
      indices = 0 if is_slice else operation.inputs[1].shape.rank or 0
      # The rows of a matrix are embeddings, which no one multiplies with.
      return tuple(
        s
        for s in self._must_count(first)
        if self._variables[s].rank >= 3 and rest - indices >= 2
      )
    if kind in ("Select", "SelectV2") and not any(n.varies for n in inputs[1:]):
      return merged(inputs[1:]).sources
    if kind in kinds.SCALES:
      # A kernel whose rows or columns the examples scale.
      sizes = [products.elements(t) or 0 for t in operation.inputs]
      return tuple(
        s
        for n, size in zip(inputs, sizes, strict=True)
        for s in self._must_count(n)
        if size == max(sizes) > min(sizes)
      )
    if kind in kinds.SAME_VALUES:
      return first.sources if first.varies else ()
    return ()


def _extent(tensor: Tensor) -> int:
  """Number of dimensions of more than one element; 2 if unknown."""
  if tensor.shape.rank is None:
    return 2
  return sum(size != 1 for size in tensor.shape.as_list())


def _unscaled(tensor: Tensor, labels: dict[str, Label]) -> Tensor:
  """The tensor before casts and products with constants."""
  while True:
    operation = tensor.op
    if operation.type in kinds.SAME_VALUES:
      tensor = operation.inputs[0]
    elif operation.type == "IdentityN":
      tensor = operation.inputs[tensor.value_index]
    elif operation.type == "Mul":
      varying = [t for t in operation.inputs if labels[t.name].varies]
      if len(varying) != 1:
        return tensor
      (tensor,) = varying
    else:
      return tensor
