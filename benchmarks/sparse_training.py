# SPDX-License-Identifier: Apache-2.0
"""Times training steps of wide MLPs: truly sparse, masked and dense.

`README.md` describes the measurement and how to read it.
"""

import argparse
import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import argument_types
import rounds

# Beside ours, each with and without XLA: what a user would take instead.
_FORMS = ("sparse", "masked", "masked_xla", "dense", "dense_xla")
_PEERS = {
  "torch_csr": "csr",
  "sparseprop": "sparseprop",
  "sparselab": "sparselab",
}

# Medians in seconds by contestant.
Times = Mapping[str, float]


def main() -> None:
  """Compares the forms of a network for each width and sparsity."""
  parser = rounds.argument_parser(__doc__, rounds=5)
  parser.add_argument(
    "--width", type=argument_types.count, nargs="+", default=[1000, 4000]
  )
  parser.add_argument(
    "--sparsity",
    type=argument_types.sparsity,
    nargs="+",
    default=[0.8, 0.9, 0.95, 0.99],
  )
  parser.add_argument("--batch", type=argument_types.count, default=128)
  parser.add_argument(
    "--threads",
    type=argument_types.count,
    default=1,
    help="of every contestant",
  )
  parser.add_argument(
    "--plot",
    type=argument_types.figure,
    help="image file: speed over the best dense",
  )
  args = parser.parse_args()
  if args.quick:
    args.width, args.sparsity = [64], args.sparsity[:1]
  curves: dict[int, dict[float, Times]] = {width: {} for width in args.width}
  for width, sparsity in itertools.product(args.width, sorted(args.sparsity)):
    curves[width][sparsity] = _compare(width, sparsity, args)
  print()
  for width, times in curves.items():
    found = break_even(times)
    text = "none of those measured" if math.isnan(found) else f"{found:.1%}"
    print(f"W={width}: as fast as the best dense step at a sparsity of {text}.")
  if args.plot:
    _plot(curves, pathlib.Path(args.plot))


def _compare(width: int, sparsity: float, args: argparse.Namespace) -> Times:
  settings: dict[str, Any] = {
    "sizes": [784, width, width, 10],
    "sparsity": sparsity,
    "batch": args.batch,
    "threads": args.threads,
    "seed": args.seed,
    "num_steps": 3 if args.quick else max(10, 100_000 // width),
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
    rounds.Contestant(name, "torch_sparse.py", task, settings, peer=True)
    for name, task in _PEERS.items()
  ]
  if args.json:  # A file for each comparison.
    file = pathlib.Path(args.json)
    name = f"{file.stem}-{width}-{sparsity:g}{file.suffix}"
    args = argparse.Namespace(**vars(args) | {"json": file.with_name(name)})
  results = rounds.compare(contestants, "sparse", args)
  return {result.name: result.median for result in results}


def speedup(times: Times) -> float:
  """How many times faster the sparse step is than the best dense one."""
  return min(times["dense"], times["dense_xla"]) / times["sparse"]


def break_even(times: Mapping[float, Times]) -> float:
  """The sparsity from which on the sparse step is faster than a dense one.

  Args:
    times: medians by sparsity, ascending.

  Returns:
    The sparsity, interpolated between measured ones in log(speedup); the lowest
    measured one if it is faster already; NaN if none is.
  """
  points = [(s, math.log(speedup(each))) for s, each in times.items()]
  if points[0][1] >= 0:
    return points[0][0]
  for (s0, y0), (s1, y1) in itertools.pairwise(points):
    if y0 < 0 <= y1:
      return s0 + (s1 - s0) * -y0 / (y1 - y0)
  return math.nan


def _plot(
  curves: Mapping[int, Mapping[float, Times]], path: pathlib.Path
) -> None:
  """Draws the speed over the best dense step by sparsity, a line per width."""
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
  ticks: Sequence[float] = sorted(
    {s for times in curves.values() for s in times}
  )
  for width, times in curves.items():
    ratios = [speedup(each) for each in times.values()]
    axes.plot([1 - s for s in times], ratios, "o-", label=f"width {width}")
  axes.axhline(1, color="black", linewidth=1, linestyle="--")
  axes.set(xscale="log", yscale="log", xlabel="sparsity")
  axes.set_ylabel("speed, in parts of the best dense step")
  axes.invert_xaxis()
  axes.set_xticks([1 - s for s in ticks], [f"{s:.0%}" for s in ticks])
  axes.set_xticks([], minor=True)
  marks = [m for m in (0.5, 1, 2, 5, 10, 20) if axes.get_ylim()[0] <= m]
  axes.set_yticks(marks, [f"{m:g}" for m in marks])
  axes.set_yticks([], minor=True)
  axes.grid(alpha=0.3)
  axes.legend()
  figure.savefig(path, dpi=150)


if __name__ == "__main__":
  main()
