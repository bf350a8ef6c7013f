# SPDX-License-Identifier: Apache-2.0
"""Times what the MNIST script adds to its compiled steps.

`README.md` describes the measurement and how to read it.
"""

import rounds


def main() -> None:
  """Compares epochs of the whole script with as many bare steps."""
  parser = rounds.argument_parser(__doc__, rounds=10)
  args = parser.parse_args()
  settings = {"num_epochs": 1 if args.quick else 5}
  print(
    f"MNIST, RigL: one iteration, over {settings['num_epochs']} epochs a round."
  )
  contestants = [
    rounds.Contestant(name, "ours.py", "mnist_run", settings | {"whole": whole})
    for name, whole in (("bare steps", False), ("whole run", True))
  ]
  rounds.compare(contestants, "bare steps", args)


if __name__ == "__main__":
  main()
