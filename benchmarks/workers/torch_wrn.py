# SPDX-License-Identifier: Apache-2.0
"""A wide residual network in PyTorch, and the preprocessing of its images.

The same as `rigl.cifar_resnet`: the comparison is of libraries.
"""

import torch
from torch.nn import functional


class WideResNet(torch.nn.Module):
  """WRN-depth-width with dropout of 0.3.

  Its modules stand in the order of the layers, kernels of projections first.
  """

  def __init__(self, depth: int, width: int, num_classes: int) -> None:
    super().__init__()
    self.first = torch.nn.Conv2d(3, 16, 3, padding=1, bias=False)
    blocks, inputs = [], 16
    for group, channels in enumerate((16, 32, 64)):
      for index in range((depth - 4) // 6):
        stride = 2 if group and not index else 1
        blocks.append(_Block(inputs, channels * width, stride))
        inputs = channels * width
    self.blocks = torch.nn.Sequential(*blocks)
    self.norm = torch.nn.BatchNorm2d(inputs)
    self.last = torch.nn.Linear(inputs, num_classes)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Maps float [batch, 3, 32, 32] to logits."""
    features = functional.relu(self.norm(self.blocks(self.first(images))))
    return self.last(features.mean((2, 3)))


class _Block(torch.nn.Module):
  """A pre-activation block."""

  def __init__(self, inputs: int, outputs: int, stride: int) -> None:
    super().__init__()
    self.norm1 = torch.nn.BatchNorm2d(inputs)
    self.skip = None
    if inputs != outputs:
      self.skip = torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    self.norm2 = torch.nn.BatchNorm2d(outputs)
    self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

  def forward(self, inputs: torch.Tensor) -> torch.Tensor:
    """Adds the result of two convolutions to the inputs."""
    active = functional.relu(self.norm1(inputs))
    added = inputs if self.skip is None else self.skip(active)
    features = functional.relu(self.norm2(self.conv1(active)))
    return added + self.conv2(functional.dropout(features, 0.3))


def prepare(images: torch.Tensor) -> torch.Tensor:
  """Standardises, shifts by up to 4 pixels and mirrors, at random.

  Args:
    images: uint8 [batch, 32, 32, 3].

  Returns:
    float32 [batch, 3, 32, 32].
  """
  values = images.permute(0, 3, 1, 2).float()
  mean = values.mean((1, 2, 3), keepdim=True)
  deviation = values.std((1, 2, 3), correction=0, keepdim=True)
  values = (values - mean) / deviation.clamp(min=3072**-0.5)
  count, _, size, _ = values.shape
  place, number = torch.arange(size), torch.arange(count)
  shifts = torch.randint(-4, 5, (2, count, 1))
  flip = torch.randint(0, 2, (count, 1)).bool()
  rows = _mirrored(place + shifts[0], size)
  columns = torch.where(flip, size - 1 - place, place)
  columns = _mirrored(columns + shifts[1], size)
  cropped = values.permute(0, 2, 3, 1)[
    number[:, None, None], rows[:, :, None], columns[:, None, :]
  ]
  return cropped.permute(0, 3, 1, 2).contiguous()  # The port needs it so.


def _mirrored(index: torch.Tensor, size: int) -> torch.Tensor:
  index = torch.where(index < 0, -1 - index, index)
  return torch.where(index >= size, 2 * size - 1 - index, index)
