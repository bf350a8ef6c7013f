# SPDX-License-Identifier: Apache-2.0
"""Prints the flags of the ImageNet model of a checkpoint.

  python scripts/checkpoint_flags.py path/to/model.ckpt-3200000

prints the flags for `imagenet_train_eval.py` and `rigl-predict`, one per line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
from rigl.imagenet_resnet.published import checkpoint_flags


def main(arguments: Sequence[str] | None = None) -> int:
  """Prints the flags."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("prefix", help="the checkpoint without .index")
  prefix = parser.parse_args(arguments).prefix
  try:
    flags = checkpoint_flags.find_flags(checkpoint_flags.read_shapes(prefix))
  except ValueError as error:
    print(f"error: {prefix}: {error}", file=sys.stderr)
    return 1
  print("\n".join(checkpoint_flags.command_line(flags)))
  return 0


if __name__ == "__main__":
  sys.exit(main())
