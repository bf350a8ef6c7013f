# SPDX-License-Identifier: Apache-2.0
"""Times training steps of Keras models, sparse by RigL and dense.

`README.md` describes the measurement and how to read it.
"""

from typing import Any

import rounds

# Models by name. An update is timed by itself, because updates are too rare
# for a round; a hundredth of it counts for each step.
MODELS: dict[str, dict[str, Any]] = {
  "mobilenet": {
    "image_size": 224,
    "width": 1.0,
    "classes": 1000,
    "batch_size": 16,
    "optimizer": "sgd",
    "num_steps": 8,
  },
  "transformer": {
    "length": 128,
    "width": 256,
    "heads": 4,
    "batch_size": 16,
    "optimizer": "adamw",
    "num_steps": 20,
  },
}
_QUICK: dict[str, dict[str, Any]] = {
  "mobilenet": {"image_size": 32, "width": 0.25, "classes": 10},
  "transformer": {"length": 8, "width": 16},
}
_FREQUENCY = 100
_SPARSITY = 0.9


def main() -> None:
  """Compares RigL around an optimizer of Keras with that optimizer alone."""
  parser = rounds.argument_parser(__doc__, rounds=15)
  parser.add_argument("--model", choices=sorted(MODELS), default="mobilenet")
  parser.add_argument(
    "--jit_compile", action="store_true", help="compile the step with XLA"
  )
  args = parser.parse_args()
  settings = MODELS[args.model] | {
    "model": args.model,
    "seed": args.seed,
    "frequency": _FREQUENCY,
    "sparsity": _SPARSITY,
    "jit_compile": args.jit_compile,
  }
  if args.quick:
    settings |= _QUICK[args.model] | {"batch_size": 2, "num_steps": 2}
  print(
    f"{args.model}, batch {settings['batch_size']}, {settings['optimizer']}: "
    f"one step, over {settings['num_steps']} a round, with a share of the mask "
    f"updates every {_FREQUENCY} steps."
  )
  contestants = [
    rounds.Contestant(
      name,
      "keras_model.py",
      "keras_step",
      settings | {"sparse": name != "dense"},
    )
    for name in ("rigl", "dense")
  ]
  rounds.compare(contestants, "dense", args)


if __name__ == "__main__":
  main()
