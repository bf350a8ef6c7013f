# SPDX-License-Identifier: Apache-2.0
"""Times the programs in its own folder on one device, with JAX and NumPy alone.

`block_sparse.py` writes the folder and copies this script into it. The programs
of a group have one turn each in every round, in random order.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import random
import statistics
import time
from typing import Any

import numpy as np
from jax_client import Client

_FOLDER = pathlib.Path(__file__).parent
_SECONDS_PER_TURN = 0.2


class Timed:
  """A program, its inputs on the device, and its times.

  Args:
    client: runs it on one device.
    described: as `block_sparse.py` wrote it.
    tables: arrays of small inputs.
  """

  def __init__(
    self, client: Client, described: dict[str, Any], tables: Any
  ) -> None:
    self.name = described["name"]
    self.seconds: list[float] = []
    self.calls = 1
    self._described, self._tables = described, tables
    self._client = client
    self._program = client.compile(described["text"])

  def load(self) -> None:
    """Draws the inputs, and finds out how many calls make a turn."""
    self._values = {
      each["name"]: _input(self._client, each, self._tables, number)
      for number, each in enumerate(self._described["inputs"])
    }
    self._turn()
    took = max(self._turn(), 1e-6)
    self.calls = max(1, min(200, round(_SECONDS_PER_TURN / took)))
    self._turn()

  def measure(self) -> None:
    """Adds the seconds per call of a turn."""
    self.seconds.append(self._turn())

  def free(self) -> None:
    """Lets the device forget the inputs."""
    self._values.clear()

  def _turn(self) -> float:
    start = time.perf_counter()
    for _ in range(self.calls):
      results = self._call()
    for each in [*results, *self._values.values()]:
      each.block_until_ready()
    return (time.perf_counter() - start) / self.calls

  def _call(self) -> list[Any]:
    """Calls the program; what it returns of its inputs replaces them."""
    names = [each["name"] for each in self._described["inputs"]]
    results = self._program([self._values[name] for name in names])
    for name, value in zip(self._described["outputs"], results, strict=True):
      if name in self._values:
        self._values[name] = value
    return results


def _input(
  client: Client, described: dict[str, Any], tables: Any, number: int
) -> Any:
  if "table" in described:
    return client.put(tables[described["table"]])
  import jax

  dtype = jax.numpy.dtype(described["dtype"])
  drawn = jax.jit(
    lambda: (
      jax.random.normal(jax.random.key(number), described["shape"], dtype)
      * described["scale"]
    ).astype(dtype),
  )
  return drawn()


def main() -> None:
  """Prints a table per group: medians, spread, how much faster than dense."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rounds", type=int, default=10)
  parser.add_argument("--platform", help="cpu or gpu; default: JAX's choice")
  parser.add_argument("--json", help="file to write all measurements to")
  parser.add_argument("--only", default="", help="groups that hold this text")
  parser.add_argument("--quick", action="store_true", help="2 rounds")
  args = parser.parse_args()
  if args.rounds < 1:
    parser.error(f"--rounds must be at least 1, got {args.rounds}.")
  if args.json and not pathlib.Path(args.json).absolute().parent.is_dir():
    parser.error(f"--json: there is no directory for {args.json!r}.")
  import jax

  try:
    client = Client(args.platform, 1)
  except ValueError as error:
    parser.error(f"--platform: {error}")
  device = jax.devices(client.platform)[0]
  jax.config.update("jax_default_device", device)
  print(f"jax {jax.__version__}, {device.device_kind}")
  tables = np.load(_FOLDER / "tables.npz")
  with gzip.open(_FOLDER / "programs.json.gz", "rt") as file:
    programs = json.load(file)
  measured: dict[str, dict[str, list[float]]] = {}
  shuffle = random.Random(0).shuffle
  for group in dict.fromkeys(program["group"] for program in programs):
    if args.only not in group:
      continue
    timed = [
      Timed(client, program, tables)
      for program in programs
      if program["group"] == group
    ]
    for each in timed:
      each.load()
    for _ in range(2 if args.quick else args.rounds):
      for each in shuffled(timed, shuffle):
        each.measure()
    for each in timed:
      each.free()
    measured[group] = {each.name: each.seconds for each in timed}
    print(table(group, measured[group]), flush=True)
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(measured, indent=2) + "\n")


def shuffled(items: list[Timed], shuffle: Any) -> list[Timed]:
  """A copy in random order."""
  copy = list(items)
  shuffle(copy)
  return copy


def table(group: str, measured: dict[str, list[float]]) -> str:
  """Medians in ms, spread, and the speed over the fastest dense program."""
  medians = {name: statistics.median(s) for name, s in measured.items()}
  dense = min(m for name, m in medians.items() if name.startswith("dense"))
  width = max(len(group), *(len(name) for name in measured))
  lines = [
    f"{group:{width}} {'ms':>9} {'min':>9} {'max':>9} {'speed-up':>9}",
  ]
  for name, seconds in measured.items():
    ms = (1e3 * t for t in (medians[name], min(seconds), max(seconds)))
    cells = " ".join(f"{t:9.3f}" for t in ms)
    lines.append(f"{name:{width}} {cells} {dense / medians[name]:9.2f}")
  return "\n".join(lines) + "\n"


if __name__ == "__main__":
  main()
