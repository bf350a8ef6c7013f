# SPDX-License-Identifier: Apache-2.0
"""Kinds of operations, by what they do with variables and examples."""

from __future__ import annotations

# Activations, with their names in the tables of layers.
ACTIVATIONS = {"Relu": "relu", "Relu6": "relu", "Sigmoid": "sigmoid"}
# Normalisations, which have a bias.
NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# They add a bias if one of their inputs does not depend on the examples.
SUMS = ("Add", "AddV2", "AddN", "BiasAdd", "Sub")
# They multiply or divide, value by value.
SCALES = ("Div", "DivNoNan", "Mul", "MulNoNan", "RealDiv")
# Their results have the values of their inputs, perhaps in another order.
SAME_VALUES = (
  "BatchToSpaceND",
  "Cast",
  "CheckNumerics",
  "EnsureShape",
  "ExpandDims",
  "Identity",
  "PreventGradient",
  "Reshape",
  "Squeeze",
  "StopGradient",
  "Transpose",
)
# Operations that may stand between a kernel and its bias or activation.
BETWEEN = (*NORMS, *SUMS, *SAME_VALUES, "Mul", "RealDiv")
# They pick some of the values of their first input.
PICKS = (
  "Gather",
  "GatherNd",
  "GatherV2",
  "ResourceGather",
  "ResourceGatherNd",
  "Slice",
  "StridedSlice",
  "TensorListGetItem",
)
# They copy values, and compute nothing with them.
COPIES = (
  *PICKS,
  "Concat",
  "ConcatV2",
  "DynamicStitch",
  "Fill",
  "MirrorPad",
  "Pack",
  "PadV2",
  "ParallelDynamicStitch",
  "Select",
  "SelectV2",
  "TensorListPushBack",
  "TensorListSetItem",
  "TensorScatterUpdate",
)
# Their results depend on the shapes of their inputs only.
SHAPES = (
  "OnesLike",
  "Rank",
  "Shape",
  "ShapeN",
  "Size",
  "VariableShape",
  "ZerosLike",
)
# They reduce values to fewer, such as a norm.
REDUCTIONS = ("EuclideanNorm", "L2Loss", "Max", "Mean", "Min", "Prod", "Sum")
# They write to variables.
WRITES = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
# TensorFlow reads variables even if nothing needs their values.
READS = ("Identity", "ReadVariableOp")
# They run code of Python.
PYTHON = ("EagerPyFunc", "PyFunc", "PyFuncStateless")
