# SPDX-License-Identifier: Apache-2.0
"""Benchmark worker: a training step of an MLP with sparse layers of PyTorch.

One task per library: PyTorch's own CSR matrices, SparseProp (Nikdan et al.,
2023, https://arxiv.org/abs/2302.04852) and SparseLab.
"""

import functools
import importlib.metadata
import os
import time
from typing import Any

import protocol


def step(
  library: str, settings: protocol.Settings
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Training steps with Nesterov momentum.

  Args:
    library: name of a task.
    settings: the settings of `sparse_training.py`.

  Returns:
    The unit and its information.
  """
  # Before the library starts its threads.
  os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
  import torch

  torch.set_num_threads(settings["threads"])
  torch.manual_seed(settings["seed"])
  *hidden, last = zip(settings["sizes"], settings["sizes"][1:], strict=False)
  make = {"csr": _csr, "sparseprop": _sparseprop, "sparselab": _sparselab}
  layers = [make[library](*shape, settings["sparsity"]) for shape in hidden]
  network = torch.nn.Sequential()
  for layer in layers:
    network.extend([layer, torch.nn.ReLU()])
  network.append(torch.nn.Linear(*last))
  optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, nesterov=True)
  x = torch.randn(settings["batch"], settings["sizes"][0])
  y = torch.randint(settings["sizes"][-1], (settings["batch"],))

  def train() -> None:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(x), y).backward()
    optimizer.step()

  def unit() -> float:
    train()  # After other processes had the caches.
    start = time.perf_counter()
    for _ in range(settings["num_steps"]):
      train()
    return (time.perf_counter() - start) / settings["num_steps"]

  unit()
  package = "torch" if library == "csr" else library
  return unit, {package: importlib.metadata.version(package)}


def _csr(inputs: int, outputs: int, sparsity: float) -> Any:
  """A layer of PyTorch's CSR matrices.

  PyTorch has the gradient of a sparse product for the dense factor and, sampled
  at the pattern, for the sparse one.
  """
  import torch

  kernel = _kernel(inputs, outputs, sparsity).to_sparse_csr()

  class Layer(torch.nn.Module):
    def __init__(self) -> None:
      super().__init__()
      self.values = torch.nn.Parameter(kernel.values().clone())
      self.bias = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
      matrix = torch.sparse_csr_tensor(
        kernel.crow_indices(), kernel.col_indices(), self.values, kernel.shape
      )
      return (matrix @ x.T).T + self.bias

  return Layer()


def _sparseprop(inputs: int, outputs: int, sparsity: float) -> Any:
  import torch
  from sparseprop.modules import SparseLinear

  dense = torch.nn.Linear(inputs, outputs)
  dense.weight.data = _kernel(inputs, outputs, sparsity)
  return SparseLinear.from_dense(dense)


def _sparselab(inputs: int, outputs: int, sparsity: float) -> Any:
  import sparselab

  return sparselab.SparseLinear(inputs, outputs, sparsity=sparsity)


def _kernel(inputs: int, outputs: int, sparsity: float) -> Any:
  """A random kernel [outputs, inputs] with zeros."""
  import torch

  kernel = torch.randn(outputs, inputs) / inputs**0.5
  order = torch.rand(outputs * inputs).argsort()
  kernel.view(-1)[order[: int(sparsity * order.numel())]] = 0
  return kernel


if __name__ == "__main__":
  tasks = ("csr", "sparseprop", "sparselab")
  protocol.main(
    {name: functools.partial(step, name) for name in tasks}, __doc__
  )
