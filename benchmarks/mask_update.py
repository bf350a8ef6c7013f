# SPDX-License-Identifier: Apache-2.0
"""Times one drop and grow of all kernels of ResNet-50, 90 % sparse (ERK).

`README.md` describes the measurement and how to read it.
"""

import math

import rounds

from rigl import sparse_utils

Shapes = dict[str, tuple[int, ...]]

_BLOCKS_PER_GROUP = (3, 4, 6, 3)


def resnet50_kernels(width: int = 64) -> Shapes:
  """Returns the shapes of the 54 kernels of ResNet-50 by layer name.

  Args:
    width: channels of the first convolution; 64 in ResNet-50.
  """
  kernels: Shapes = {"initial_conv": (7, 7, 3, width)}
  channels = width
  for group, num_blocks in enumerate(_BLOCKS_PER_GROUP):
    inner = width * 2**group
    for block in range(num_blocks):
      name = f"group{group + 1}_block{block + 1}"
      if block == 0:
        kernels[f"{name}_projection"] = (1, 1, channels, 4 * inner)
      kernels[f"{name}_conv1"] = (1, 1, channels, inner)
      kernels[f"{name}_conv2"] = (3, 3, inner, inner)
      kernels[f"{name}_conv3"] = (1, 1, inner, 4 * inner)
      channels = 4 * inner
  return kernels | {"final_dense": (channels, 1000)}


def main() -> None:
  """Compares our update with that of the PyTorch port."""
  args = rounds.argument_parser(__doc__, rounds=10).parse_args()
  shapes = resnet50_kernels(width=8 if args.quick else 64)
  settings = {
    "shapes": shapes,
    "sparsities": sparse_utils.get_sparsities(
      shapes, "erdos_renyi_kernel", 0.9
    ),
    "drop_fraction": 0.3,
    "frequency": 100,
    "seed": args.seed,
  }
  size = sum(math.prod(shape) for shape in shapes.values())
  print(f"One mask update of {len(shapes)} kernels, {size:,} weights.")
  contestants = [
    rounds.Contestant("ours", "ours.py", "mask_update", settings),
    rounds.Contestant(
      "PyTorch port", "torch_port.py", "mask_update", settings, peer=True
    ),
  ]
  rounds.compare(contestants, "ours", args)


if __name__ == "__main__":
  main()
