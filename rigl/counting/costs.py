# SPDX-License-Identifier: Apache-2.0
"""Cost of kernels and activations by the MicroNet rules.

The rules are those of the MicroNet challenge (NeurIPS 2019,
https://micronet-challenge.github.io): a multiplication and an addition count
one each. A sparse kernel counts its nonzeros only; it is stored as a bit mask,
one bit per weight, followed by the nonzero values. `rules` applies these costs
to layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

KNOWN_ACTIVATIONS = ("relu", "swish", "sigmoid")
KNOWN_PADDINGS = ("same", "valid")

# (multiplications, additions) per element. An exponential or a division counts
# as a multiplication: sigmoid is 1 / (1 + exp(-x)), swish is x * sigmoid(x).
_ACTIVATION_COST = {
  None: (0, 0),
  "relu": (1, 0),
  "sigmoid": (2, 1),
  "swish": (3, 1),
}


class Count(NamedTuple):
  """Cost of an operation for one example.

  Attributes:
    multiplications: number of multiplications.
    additions: number of additions.
    value_bits: bits of the nonzero weights and the biases.
    mask_bits: bits of the mask of nonzero weights; 0 for a dense kernel.
  """

  multiplications: float = 0
  additions: float = 0
  value_bits: float = 0
  mask_bits: float = 0

  @property
  def flops(self) -> float:
    """Multiplications and additions together."""
    return self.multiplications + self.additions

  @property
  def bits(self) -> float:
    """Bits of storage."""
    return self.value_bits + self.mask_bits

  @property
  def bytes(self) -> float:
    """Bytes of storage."""
    return self.bits / 8

  def plus(self, other: Count) -> Count:
    """Sum of both costs."""
    return Count(*(a + b for a, b in zip(self, other, strict=True)))


def total(counts: Sequence[Count]) -> Count:
  """Sum of several costs.

  >>> total([Count(2, 1), Count(3, 0, 32)]).flops
  6
  """
  result = Count()
  for count in counts:
    result = result.plus(count)
  return result


def activation_cost(activation: str | None, elements: float) -> Count:
  """Cost of an activation function.

  Args:
    activation: one of `KNOWN_ACTIVATIONS`, or None for none.
    elements: number of values that the function is applied to.

  Raises:
    ValueError: if the activation is not known.
  """
  check_activation(activation)
  multiplications, additions = _ACTIVATION_COST[activation]
  return Count(multiplications * elements, additions * elements)


def check_activation(activation: str | None) -> None:
  """Raises a ValueError if the activation is not known."""
  if activation is not None and activation not in KNOWN_ACTIVATIONS:
    raise ValueError(
      f"`activation` must be None or in {KNOWN_ACTIVATIONS}, got "
      f"{activation!r}."
    )


def check_param_bits(param_bits: int) -> None:
  """Raises a ValueError if weights have less than one bit."""
  if param_bits < 1:
    raise ValueError(f"`param_bits` must be at least 1, got {param_bits}.")


def output_size(size: int, window: int, stride: int, padding: str) -> int:
  """Height or width of the result of a convolution.

  >>> output_size(224, 7, 2, 'same'), output_size(230, 7, 2, 'valid')
  (112, 112)

  Args:
    size: height or width of the image, including zeros added beforehand.
    window: height or width of the kernel.
    stride: step of the window, at least 1.
    padding: `same` or `valid`.

  Raises:
    ValueError: if the padding is not known or the image is too small.
  """
  if padding not in KNOWN_PADDINGS:
    raise ValueError(f"`padding` must be in {KNOWN_PADDINGS}, got {padding!r}.")
  if padding == "same":
    return -(-size // stride)
  if size < window:
    raise ValueError(
      f"`input_size` must be at least the kernel's {window} with 'valid' "
      f"padding, got {size}."
    )
  return (size - window) // stride + 1


def kernel_cost(
  size: float,
  outputs: int,
  applications: float,
  n_zeros: float = 0,
  param_bits: int = 32,
  use_bias: bool = True,
  activation: str | None = None,
  results: float | None = None,
) -> Count:
  """Cost of a kernel: every nonzero weight multiplies once per application.

  With z zeros among n weights, P applications and C outputs there are P * (n -
  z) multiplications, P * (n - z - C) additions for the sums and P * C additions
  for the biases.

  >>> kernel_cost(size=20, outputs=4, applications=1, n_zeros=10)
  Count(multiplications=10, additions=10, value_bits=448, mask_bits=20)

  Args:
    size: number of weights.
    outputs: number of output channels.
    applications: number of times that the kernel is applied in one example, for
      images once per pixel of the output.
    n_zeros: number of pruned weights, in [0, size].
    param_bits: bits of a weight or bias, at least 1.
    use_bias: whether each output has a bias (or a batch normalization, which
      can be folded into kernel and bias).
    activation: one of `KNOWN_ACTIVATIONS`, or None.
    results: number of values that all applications compute, if it is not P * C;
      it then takes the place of P * C above.

  Raises:
    ValueError: if `n_zeros`, `param_bits` or `activation` is not as described.
  """
  if not 0 <= n_zeros <= size:
    raise ValueError(f"`n_zeros` must be in [0, {size}], got {n_zeros}.")
  check_param_bits(param_bits)
  ones = size - n_zeros
  if results is None:
    results = applications * outputs
  products = applications * ones
  count = Count(
    products,
    max(products - results, 0) + (results if use_bias else 0),
    (ones + (outputs if use_bias else 0)) * param_bits,
    size if n_zeros > 0 else 0,
  )
  return count.plus(activation_cost(activation, results))
