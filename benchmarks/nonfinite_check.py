# SPDX-License-Identifier: Apache-2.0
"""Times what a script's checks for numbers that are not finite cost a step.

`README.md` describes the measurement and how to read it.
"""

from typing import Any

import rounds
import step_time

# Settings of each script, and steps of a round.
SCRIPTS: dict[str, dict[str, Any]] = {
  "mnist": {"steps": 600},
  "cifar10": {"steps": 20},
  "imagenet": {**step_time.MODELS["resnet50"], "steps": 8},
}
_QUICK: dict[str, dict[str, Any]] = {
  "mnist": {"steps": 20},
  "cifar10": {"steps": 2, "network": {"resnet_depth": 10, "batch_size": 8}},
  "imagenet": {**step_time.QUICK["resnet50"], "steps": 2},
}
# (name, --on_nonfinite, whether the state is checked where it is by default)
_CONTESTANTS = (
  ("no check", "stop", False),
  ("stop", "stop", True),
  ("skip", "skip", True),
)


def main() -> None:
  """Compares steps without checks, with the default ones and with skipping."""
  parser = rounds.argument_parser(__doc__, rounds=10)
  parser.add_argument("--script", choices=sorted(SCRIPTS), default="mnist")
  args = parser.parse_args()
  settings = SCRIPTS[args.script] | {"script": args.script, "seed": args.seed}
  if args.quick:
    settings |= _QUICK[args.script]
  # No update of the masks falls into a round.
  settings |= {"sparse": True, "num_steps": 10**6}
  print(
    f"{args.script}: one gradient step of RigL, over {settings['steps']} a "
    "round, with its share of the checks."
  )
  contestants = [
    rounds.Contestant(
      name,
      "ours_scripts.py",
      "steps",
      settings | {"on_nonfinite": on_nonfinite, "is_checked": is_checked},
    )
    for name, on_nonfinite, is_checked in _CONTESTANTS
  ]
  rounds.compare(contestants, "no check", args)


if __name__ == "__main__":
  main()
