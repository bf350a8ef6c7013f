# SPDX-License-Identifier: Apache-2.0
"""Benchmark worker: one training step of an MLP with PyTorch's CSR matrices."""

import time
from typing import Any

import protocol
import torch


def step(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Training steps with Nesterov momentum on the values of CSR matrices.

  PyTorch has the gradient of a sparse product for the dense factor and, sampled
  at the pattern, for the sparse one.

  Args:
    settings: the settings of `sparse_training.py`.

  Returns:
    The unit and its information.
  """
  torch.set_num_threads(settings["threads"])
  torch.manual_seed(settings["seed"])
  *hidden, last = zip(settings["sizes"], settings["sizes"][1:], strict=False)
  layers = [_sparse(shape, settings["sparsity"]) for shape in hidden]
  biases = [torch.zeros(shape[1], requires_grad=True) for shape in hidden]
  logits = torch.nn.Linear(*last)
  values = [layer.values().clone().requires_grad_() for layer in layers]
  optimizer = torch.optim.SGD(
    [*values, *biases, *logits.parameters()], 0.01, 0.9, nesterov=True
  )
  x = torch.randn(settings["batch"], settings["sizes"][0])
  y = torch.randint(settings["sizes"][-1], (settings["batch"],))

  def train() -> None:
    optimizer.zero_grad()
    h = x.T
    for layer, value, bias in zip(layers, values, biases, strict=True):
      kernel = torch.sparse_csr_tensor(
        layer.crow_indices(), layer.col_indices(), value, layer.shape
      )
      h = torch.relu(kernel @ h + bias[:, None])
    torch.nn.functional.cross_entropy(logits(h.T), y).backward()
    optimizer.step()

  def unit() -> float:
    start = time.perf_counter()
    for _ in range(settings["num_steps"]):
      train()
    return (time.perf_counter() - start) / settings["num_steps"]

  unit()
  return unit, {"torch": torch.__version__}


def _sparse(shape: tuple[int, int], sparsity: float) -> torch.Tensor:
  """A random kernel [outputs, inputs] in CSR format."""
  inputs, outputs = shape
  kernel = torch.randn(outputs, inputs) / inputs**0.5
  order = torch.rand(outputs * inputs).argsort()
  kernel.view(-1)[order[: int(sparsity * order.numel())]] = 0
  return kernel.to_sparse_csr()


if __name__ == "__main__":
  protocol.main({"step": step}, __doc__)
