# SPDX-License-Identifier: Apache-2.0
"""Cost of a layer, counted by walking over its weights and its outputs."""

import numpy as np

from rigl.counting.costs import Count

# (multiplications, additions) of each output.
_ACTIVATIONS = {
  None: (0, 0),
  "relu": (1, 0),
  "sigmoid": (2, 1),
  "swish": (3, 1),
}


def applications(spec):
  """Number of places of the window, in the image with zeros around it."""
  if spec.kind == "dense":
    return 1
  count = 1
  sizes = zip(spec.input_size, spec.kernel_shape, spec.strides, strict=False)
  for size, window, stride in sizes:
    padded = size + window - 1 if spec.padding == "same" else size
    count *= len(range(0, padded - window + 1, stride))
  return count


def count(spec, n_zeros, param_bits):
  """Counts products, sums and bits of a layer with pruned weights."""
  kernel = np.ones(np.prod(spec.kernel_shape), int)
  kernel[:n_zeros] = 0  # Row by row, so that outputs have equally many.
  outputs = spec.kernel_shape[-1]
  if spec.kind == "depthwise_conv2d":
    outputs *= spec.kernel_shape[-2]
  multiplications = additions = bits = 0
  for column in kernel.reshape(-1, outputs).T:
    products = int(column.sum())
    of_activation = _ACTIVATIONS[spec.activation]
    multiplications += products + of_activation[0]
    additions += max(products - 1, 0) + spec.use_bias + of_activation[1]
    bits += (products + spec.use_bias) * param_bits
  places = applications(spec)
  mask_bits = kernel.size if n_zeros else 0
  return Count(multiplications * places, additions * places, bits, mask_bits)
