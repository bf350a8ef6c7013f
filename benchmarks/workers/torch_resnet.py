# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 in PyTorch, and the preprocessing of its images.

The same as `rigl.imagenet_resnet`: the comparison is of libraries.
"""

import torch
from torch.nn import functional

_BLOCKS = (3, 4, 6, 3)
_MEAN, _STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ResNet50(torch.nn.Module):
  """ResNet-50 v1 with the stride on the 3x3 convolution.

  Its modules stand in the order of the layers, kernels of projections first.
  """

  def __init__(self, num_classes: int, width: int = 64) -> None:
    super().__init__()
    self.first = torch.nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
    self.norm = torch.nn.BatchNorm2d(width)
    blocks, inputs = [], width
    for group, size in enumerate(_BLOCKS):
      inner = width * 2**group
      for index in range(size):
        stride = 2 if group and not index else 1
        blocks.append(_Block(inputs, inner, stride, index == 0))
        inputs = 4 * inner
    self.blocks = torch.nn.Sequential(*blocks)
    self.last = torch.nn.Linear(inputs, num_classes)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Maps float [batch, 3, 224, 224] to logits."""
    features = functional.relu(self.norm(self.first(images)))
    features = functional.max_pool2d(features, 3, 2, padding=1)
    return self.last(self.blocks(features).mean((2, 3)))


class _Block(torch.nn.Module):
  """A bottleneck."""

  def __init__(
    self, inputs: int, inner: int, stride: int, projects: bool
  ) -> None:
    super().__init__()
    outputs = 4 * inner
    self.skip = self.skip_norm = None
    if projects:
      self.skip = torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False)
      self.skip_norm = torch.nn.BatchNorm2d(outputs)
    self.conv1 = torch.nn.Conv2d(inputs, inner, 1, bias=False)
    self.norm1 = torch.nn.BatchNorm2d(inner)
    self.conv2 = torch.nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
    self.norm2 = torch.nn.BatchNorm2d(inner)
    self.conv3 = torch.nn.Conv2d(inner, outputs, 1, bias=False)
    self.norm3 = torch.nn.BatchNorm2d(outputs)

  def forward(self, inputs: torch.Tensor) -> torch.Tensor:
    """Adds the result of three convolutions to the inputs."""
    added = inputs
    if self.skip is not None:
      added = self.skip_norm(self.skip(inputs))
    features = functional.relu(self.norm1(self.conv1(inputs)))
    features = functional.relu(self.norm2(self.conv2(features)))
    return functional.relu(self.norm3(self.conv3(features)) + added)


def prepare(images: torch.Tensor) -> torch.Tensor:
  """Normalises the colours.

  Args:
    images: uint8 [batch, height, width, 3].

  Returns:
    float32 [batch, 3, height, width].
  """
  values = (images.float() / 255.0 - torch.tensor(_MEAN)) / torch.tensor(
    _STDDEV
  )
  return values.permute(0, 3, 1, 2).contiguous()  # The port needs it so.
