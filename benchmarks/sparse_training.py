# SPDX-License-Identifier: Apache-2.0
"""Times training steps of wide MLPs: truly sparse, masked and dense.

`README.md` describes the measurement and how to read it.
"""

import argparse
from typing import Any

import rounds

# Beside ours, each with and without XLA: what a user would take instead.
_FORMS = ("sparse", "masked", "masked_xla", "dense", "dense_xla")
_PEERS = {"torch_csr": "torch_sparse.py"}


def main() -> None:
  """Compares the forms of a network for each width and sparsity."""
  parser = rounds.argument_parser(__doc__, rounds=5)
  parser.add_argument("--width", type=int, nargs="+", default=[1000, 4000])
  parser.add_argument(
    "--sparsity", type=float, nargs="+", default=[0.9, 0.95, 0.99]
  )
  parser.add_argument("--batch", type=int, default=128)
  parser.add_argument(
    "--threads", type=int, default=1, help="of every contestant"
  )
  args = parser.parse_args()
  if args.quick:
    args.width, args.sparsity = [64], [0.9]
  for width in args.width:
    for sparsity in args.sparsity:
      _compare(width, sparsity, args)


def _compare(width: int, sparsity: float, args: argparse.Namespace) -> None:
  settings: dict[str, Any] = {
    "sizes": [784, width, width, 10],
    "sparsity": sparsity,
    "batch": args.batch,
    "threads": args.threads,
    "seed": args.seed,
    "num_steps": 3 if args.quick else max(3, 20_000 // width),
  }
  print(
    f"\n784-{width}-{width}-10, {sparsity:.1%} sparse, batch {args.batch}, "
    f"{args.threads} thread(s): one training step, over "
    f"{settings['num_steps']} a round."
  )
  contestants = [
    rounds.Contestant(form, "sparse_mlp.py", "step", settings | {"form": form})
    for form in _FORMS
  ]
  contestants += [
    rounds.Contestant(name, worker, "step", settings, peer=True)
    for name, worker in _PEERS.items()
  ]
  rounds.compare(contestants, "sparse", args)


if __name__ == "__main__":
  main()
