# SPDX-License-Identifier: Apache-2.0
"""Tries random states of sparse optimizers in blocks, as many as are wanted.

  python tests/helpers/try_random_states.py --log=states.jsonl --blocks=0:20 \\
    --kinds=eager-numpy,jit-xla

A block is a hundred states that its number decides. Each runs in a process of
its own and becomes a line of the log. Blocks that the log has already are left
out, so that the same command resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import pathlib
import subprocess
import sys

import hypothesis

from rigl.config import tensorflow_environment  # noqa: F401 - Comes first.

# isort: split
import random_states
from hypothesis import HealthCheck, Phase, settings

KINDS = tuple(
  f"{compile}-{engine}"
  for compile, engine in itertools.product(
    ("eager", "graph", "jit"), ("numpy", "xla", "batched")
  )
  if (compile, engine) != ("jit", "numpy")  # NumPy is not compiled.
)


def try_block(kind: str, block: int, size: int) -> tuple[int, str]:
  """Tries the states of a block.

  Args:
    kind: one of `KINDS`.
    block: its number.
    size: the number of states.

  Returns:
    How many were tried, and the first violation; empty if there is none.
  """
  compile, engine = kind.split("-")
  tried: list[random_states.State] = []

  @hypothesis.seed(block)
  @settings(
    max_examples=size,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
  )
  @hypothesis.given(random_states.states())
  def check(state: random_states.State) -> None:
    tried.append(state)
    random_states.check(state, engine, compile)

  try:
    check()
  except Exception as error:  # Whatever it is, it is a violation.
    return len(tried), f"{tried[-1]}: {type(error).__name__}: {error}"
  return len(tried), ""


def _try_all(options: argparse.Namespace) -> int:
  """Tries blocks in processes of their own; returns the violations."""
  log = pathlib.Path(options.log)
  lines = log.read_text().splitlines() if log.exists() else []
  rows = [json.loads(line) for line in lines]
  first, _, end = options.blocks.partition(":")
  for block, kind in itertools.product(
    range(int(first), int(end)), options.kinds.split(",")
  ):
    if any((row["kind"], row["block"]) == (kind, block) for row in rows):
      continue
    command = [
      *(sys.executable, __file__, f"--one={kind}", f"--blocks={block}"),
      f"--size={options.size}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    row = {"kind": kind, "block": block, "states": 0, "violation": ""}
    if done.returncode:
      row["violation"] = f"exit code {done.returncode}: {done.stderr[-2000:]}"
    else:
      row |= json.loads(done.stdout.splitlines()[-1])
    rows.append(row)
    with log.open("a") as file:
      file.write(json.dumps(row) + "\n")
    if row["violation"]:
      print(f"VIOLATION {kind}, block {block}: {row['violation']}", flush=True)
  counts = collections.Counter[str]()
  for row in rows:
    counts[row["kind"]] += row["states"]
  violations = sum(bool(row["violation"]) for row in rows)
  for kind, count in sorted(counts.items()):
    print(f"{kind}: {count}")
  print(f"{sum(counts.values())} states, {violations} violations")
  return violations


def main() -> None:
  """Tries the blocks of the command line."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--log", default="states.jsonl", help="lines of JSON")
  parser.add_argument("--blocks", default="0:10", help="FIRST:END")
  parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {KINDS}")
  parser.add_argument("--size", type=int, default=100, help="states of a block")
  parser.add_argument("--one", default="", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.one:
    states, violation = try_block(
      options.one, int(options.blocks), options.size
    )
    print(json.dumps({"states": states, "violation": violation}))
    return
  sys.exit(min(_try_all(options), 1))


if __name__ == "__main__":
  main()
