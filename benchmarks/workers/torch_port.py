# SPDX-License-Identifier: Apache-2.0
"""Benchmark worker of the PyTorch port, `rigl-torch`.

It uses all cores, by the defaults of PyTorch; no thread number is set.
"""

import importlib.metadata
import importlib.util
import math
import sys
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import data
import memory
import numpy as np
import protocol
import torch
import torch_resnet
import torch_wrn


def _import_scheduler() -> type:
  """Imports the port, with a stand-in where torchvision is not installed.

  The port asks whether modules are of two classes of torchvision, and uses
  nothing else of it.
  """
  if importlib.util.find_spec("torchvision") is None:
    blocks = {name: type(name, (), {}) for name in ("Bottleneck", "BasicBlock")}
    torchvision = types.ModuleType("torchvision")
    torchvision.models = types.SimpleNamespace(
      resnet=types.SimpleNamespace(**blocks)
    )
    sys.modules["torchvision"] = torchvision
  from rigl_torch.RigL import RigLScheduler

  return RigLScheduler


RigLScheduler = _import_scheduler()


def mask_update(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """One drop and grow of all layers: `RigLScheduler._rigl_step`.

  Args:
    settings: the settings of `mask_update.py`.

  Returns:
    The unit and its information.
  """
  layers = RandomLayers(settings)

  def unit() -> float:
    layers.renew()
    start = time.perf_counter()
    layers.update()
    return time.perf_counter() - start

  info = _info()
  for which in ("first", "later"):
    layers.renew()
    info[f"{which}_peak_mib"] = memory.peak_growth_mib(layers.update)
  masks = layers.masks()
  unit()
  return unit, info | data.mask_info(masks, layers.masks())


class RandomLayers:
  """Sparse modules without a network around them.

  Args:
    settings: the settings of `mask_update.py`.
  """

  def __init__(self, settings: protocol.Settings) -> None:
    torch.manual_seed(settings["seed"])
    modules = {name: _module(s) for name, s in settings["shapes"].items()}
    model = torch.nn.Sequential(*modules.values())
    self._optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    self._pruner = _pruner(model, self._optimizer, modules, settings)

  @torch.no_grad()
  def renew(self) -> None:
    """Draws active weights, their momentum and gradients, as after backward."""
    pruner = self._pruner
    for weights, mask, hook in zip(
      pruner.W, pruner.backward_masks, pruner.backward_hook_objects, strict=True
    ):
      state = self._optimizer.state[weights]
      if weights.grad is None:
        weights.grad = torch.empty_like(weights)
        state["momentum_buffer"] = torch.empty_like(weights)
      for tensor in (weights, weights.grad, state["momentum_buffer"]):
        tensor.normal_()
        if mask is not None:
          tensor.mul_(mask)
      if hook is not None:
        if hook.dense_grad is None:
          hook.dense_grad = torch.empty_like(weights)
        hook.dense_grad.normal_()

  def update(self) -> None:
    """The unit that is measured."""
    self._pruner._rigl_step()

  def masks(self) -> list[np.ndarray]:
    """Returns copies of the masks."""
    return [
      np.ones(weights.shape, bool) if mask is None else mask.numpy().copy()
      for weights, mask in zip(
        self._pruner.W, self._pruner.backward_masks, strict=True
      )
    ]


def step_time(
  settings: protocol.Settings,
) -> tuple[protocol.Unit, dict[str, Any]]:
  """Training iterations of a model, with their share of mask updates.

  Args:
    settings: the settings of `step_time.py`.

  Returns:
    The unit and its information.
  """
  trainer = Trainer(settings)
  unit = trainer.train
  if settings.get("update_apart"):
    unit = trainer.train_and_update
  unit()
  return unit, _info() | {"active": trainer.num_active()}


# Makes a model; `MODELS` holds one per name.
Made = tuple[
  torch.nn.Module,
  dict[str, torch.nn.Module],
  Callable[[torch.Tensor], torch.Tensor],
]


class Trainer:
  """The training loop of the port's README, on data in memory.

  Args:
    settings: the settings of `step_time.py`.
  """

  def __init__(self, settings: protocol.Settings) -> None:
    torch.manual_seed(settings["seed"])
    self._settings = settings
    self._data = data.RandomData(settings)
    self._images = torch.from_numpy(self._data.images)
    self._labels = torch.from_numpy(self._data.labels)
    self._model, layers, self._prepare = MODELS[settings["model"]](settings)
    self._optimizer = _nesterov(self._model, settings)
    self._pruner = lambda: True
    if settings["sparse"]:
      self._pruner = _pruner(self._model, self._optimizer, layers, settings)

  def train(self) -> float:
    """Makes `num_steps` iterations; returns the seconds of each."""
    periods = torch.from_numpy(self._data.periods())
    start = time.perf_counter()
    for period in periods:
      for batch in period:
        self._iterate(batch)
    return (time.perf_counter() - start) / self._settings["num_steps"]

  def train_and_update(self) -> float:
    """Makes `num_steps` steps and an update.

    Returns:
      The seconds of a step with its share of updates.
    """
    count, frequency = self._settings["num_steps"], self._settings["frequency"]
    *batches, last = torch.from_numpy(self._data.batches(count + 1))
    self._pruner_step(0)
    start = time.perf_counter()
    for batch in batches:
      self._iterate(batch)
    seconds = (time.perf_counter() - start) / count
    if self._settings["sparse"]:
      self._pruner_step(frequency - 1)
      start = time.perf_counter()
      self._iterate(last)
      seconds += (time.perf_counter() - start) / frequency
    return seconds

  def _pruner_step(self, step: int) -> None:
    """Says how many iterations the port has seen."""
    if self._settings["sparse"]:
      self._pruner.step = step

  def _iterate(self, batch: torch.Tensor) -> None:
    images = self._prepare(self._images[batch])
    self._optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(
      self._model(images), self._labels[batch]
    )
    loss.backward()
    if self._pruner():
      self._optimizer.step()

  def num_active(self) -> int:
    """The number of nonzero weights of the kernels."""
    kernels = (p for p in self._model.parameters() if p.ndim > 1)
    return sum(int(torch.count_nonzero(kernel)) for kernel in kernels)


def _nesterov(
  model: torch.nn.Module, settings: protocol.Settings
) -> torch.optim.Optimizer:
  """SGD with Nesterov momentum; biases do not decay."""
  parameters = list(model.parameters())
  groups = [
    {
      "params": [p for p in parameters if p.ndim > 1],
      "weight_decay": settings["weight_decay"],
    },
    {"params": [p for p in parameters if p.ndim <= 1]},
  ]
  return torch.optim.SGD(
    groups,
    settings["learning_rate"],
    momentum=settings["momentum"],
    nesterov=True,
  )


def _mnist_fc(settings: protocol.Settings) -> Made:
  layers = {
    name: torch.nn.Linear(*shape) for name, shape in settings["shapes"].items()
  }
  modules = []
  for layer in layers.values():
    modules += [layer, torch.nn.ReLU()]
  model = torch.nn.Sequential(*modules[:-1])
  return model, layers, lambda images: images.float().div_(255.0)


def _wrn_22_2(settings: protocol.Settings) -> Made:
  model = torch_wrn.WideResNet(22, 2, settings["num_classes"])
  kinds = (torch.nn.Conv2d, torch.nn.Linear)
  layers = [m for m in model.modules() if isinstance(m, kinds)]
  named = dict(zip(settings["shapes"], layers, strict=True))
  return model, named, torch_wrn.prepare


def _resnet50(settings: protocol.Settings) -> Made:
  width = round(64 * settings["width"])
  model = torch_resnet.ResNet50(settings["num_classes"], width)
  kinds = (torch.nn.Conv2d, torch.nn.Linear)
  layers = [m for m in model.modules() if isinstance(m, kinds)]
  named = dict(zip(settings["shapes"], layers, strict=True))
  return model, named, torch_resnet.prepare


# A model, its kernels' modules by layer name, and its preprocessing.
MODELS = {"mnist_fc": _mnist_fc, "wrn_22_2": _wrn_22_2, "resnet50": _resnet50}


def _module(shape: list[int]) -> torch.nn.Module:
  """A layer whose kernel has the given shape ([height, width,] in, out)."""
  *window, n_in, n_out = shape
  if window:
    return torch.nn.Conv2d(n_in, n_out, tuple(window), bias=False)
  return torch.nn.Linear(n_in, n_out, bias=False)


def _pruner(
  model: torch.nn.Module,
  optimizer: torch.optim.Optimizer,
  layers: Mapping[str, torch.nn.Module],
  settings: protocol.Settings,
) -> Any:
  """The port's scheduler, with the sparsities and random masks of a state.

  On its own it makes uniform sparsities only; others come in as the state
  that it resumes from.
  """
  sparsities = [settings["sparsities"].get(name, 0.0) for name in layers]
  kernels = [layer.weight for layer in layers.values()]
  state = {
    "S": sparsities,
    "backward_masks": [
      _random_mask(kernel, sparsity) if sparsity > 0 else None
      for kernel, sparsity in zip(kernels, sparsities, strict=True)
    ],
    "step": 0,
    "rigl_steps": 0,
    "delta_T": settings["frequency"],
    "alpha": settings["drop_fraction"],
    "T_end": 10**12,  # Too far away for its cosine to fall.
    "static_topo": False,
    "sparsity_distribution": "uniform",
    "grad_accumulation_n": 1,
    "ignore_linear_layers": False,
  }
  return RigLScheduler(
    model, optimizer, delta=settings["frequency"], state_dict=state
  )


def _random_mask(kernel: torch.Tensor, sparsity: float) -> torch.Tensor:
  num_zeros = math.floor(sparsity * kernel.numel())
  mask = torch.ones(kernel.numel(), dtype=torch.bool)
  mask[torch.randperm(kernel.numel())[:num_zeros]] = False
  return mask.reshape(kernel.shape)


def _info() -> dict[str, Any]:
  port = importlib.metadata.version("rigl-torch")
  return {"library": f"torch {torch.__version__}, rigl-torch {port}"}


if __name__ == "__main__":
  protocol.main({"mask_update": mask_update, "step_time": step_time}, __doc__)
