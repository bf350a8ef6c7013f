# SPDX-License-Identifier: Apache-2.0
"""Times training iterations, sparse by RigL and dense, and a PyTorch port.

`README.md` describes the measurement and how to read it.
"""

from typing import Any

import mask_update
import rounds

from rigl import sparse_utils


def _wide_resnet(depth: int, width: int) -> dict[str, tuple[int, ...]]:
  """Kernel shapes of a WRN, in the order of its layers."""
  shapes: dict[str, tuple[int, ...]] = {"conv_1": (3, 3, 3, 16)}
  inputs = 16
  for group in (2, 3, 4):
    outputs = 4 * 2**group * width
    shapes[f"skip_conv_{group}"] = (1, 1, inputs, outputs)
    for block in range((depth - 4) // 6):
      shapes[f"conv_{group}_{block}_1"] = (3, 3, inputs, outputs)
      shapes[f"conv_{group}_{block}_2"] = (3, 3, outputs, outputs)
      inputs = outputs
  return {f"resnet_model/{n}": s for n, s in shapes.items()} | {
    "resnet_model/logits": (inputs, 10)
  }


def _erk(
  shapes: dict[str, tuple[int, ...]], sparsity: float, dense: str
) -> dict[str, float]:
  """ERK sparsities of all layers but one."""
  sparse = {n: s for n, s in shapes.items() if not n.endswith(f"/{dense}")}
  return sparse_utils.get_sparsities(sparse, "erdos_renyi_kernel", sparsity, {})


def _resnet50(width: int, size: int) -> dict[str, Any]:
  """ResNet-50 for a batch of 16, 80 % sparse."""
  shapes = mask_update.resnet50_kernels(width)
  return {
    "shapes": shapes,
    "sparsities": sparse_utils.get_sparsities(
      shapes, "erdos_renyi_kernel", 0.8
    ),
    "sparsity": 0.8,
    "width": width / 64,
    "image_shape": (size, size, 3),
    "num_classes": 1000,
    "num_examples": 64,
    "batch_size": 16,
    "learning_rate": 0.00625,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "drop_fraction": 0.3,
    "frequency": 100,
    "num_steps": 8,
    # The script's own run, and not its loop: an update is timed by itself, and
    # a hundredth of it counts for each step.
    "worker": "ours_imagenet.py",
    "update_apart": True,
  }


_WRN = _wide_resnet(22, 2)
# Models by name; the settings are those of the training on the model's data.
MODELS: dict[str, dict[str, Any]] = {
  "mnist_fc": {
    "shapes": {
      "layer1": (784, 300),
      "layer2": (300, 100),
      "layer3": (100, 10),
    },
    "sparsities": {"layer1": 0.98, "layer2": 0.882},
    "image_shape": (784,),
    "num_classes": 10,
    "num_examples": 60_000,
    "batch_size": 100,
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "drop_fraction": 0.3,
    "frequency": 100,
    "num_steps": 1000,
  },
  "wrn_22_2": {
    "shapes": _WRN,
    "sparsities": _erk(_WRN, 0.9, dense="conv_1"),
    "image_shape": (32, 32, 3),
    "num_classes": 10,
    "num_examples": 10_000,
    "batch_size": 128,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "drop_fraction": 0.3,
    # Five times as often as in training, for rounds of a bearable length.
    "frequency": 20,
    "num_steps": 20,
  },
  "resnet50": _resnet50(64, 224),
}
QUICK: dict[str, dict[str, Any]] = {
  "resnet50": _resnet50(8, 32) | {"num_steps": 2, "batch_size": 2},
}
_QUICK_OTHERS = {"num_examples": 1000, "frequency": 2, "num_steps": 4}


def main() -> None:
  """Compares our training loop with that of the PyTorch port."""
  parser = rounds.argument_parser(__doc__, rounds=10)
  parser.add_argument("--model", choices=sorted(MODELS), default="mnist_fc")
  args = parser.parse_args()
  settings = MODELS[args.model] | {"model": args.model, "seed": args.seed}
  if args.quick:
    settings |= QUICK.get(args.model, _QUICK_OTHERS)
  print(
    f"{args.model}, batch {settings['batch_size']}: one iteration, over "
    f"{settings['num_steps']} a round, masks updated every "
    f"{settings['frequency']}."
  )
  contestants = [
    rounds.Contestant(
      f"{library} {'rigl' if sparse else 'dense'}",
      worker,
      "step_time",
      settings | {"sparse": sparse},
      peer=library != "ours",
    )
    for library, worker in (
      ("ours", settings.get("worker", "ours.py")),
      ("torch", "torch_port.py"),
    )
    for sparse in (True, False)
  ]
  rounds.compare(contestants, "ours rigl", args)


if __name__ == "__main__":
  main()
