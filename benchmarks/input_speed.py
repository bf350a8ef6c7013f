# SPDX-License-Identifier: Apache-2.0
"""Times the training input against decoding and resizing of whole JPEGs.

`README.md` describes the measurement and how to read it.
"""

import rounds

_SETTINGS = {
  "num_images": 256,
  "height": 375,
  "width": 500,
  "image_size": 224,
  "batch_size": 32,
}
_QUICK = {"num_images": 8, "batch_size": 4}


def main() -> None:
  """Compares the pipelines on the same JPEGs."""
  args = rounds.argument_parser(__doc__, rounds=10).parse_args()
  settings = _SETTINGS | {"seed": args.seed}
  if args.quick:
    settings |= _QUICK
  print(
    f"One training image of one core, from JPEGs of {settings['width']} x "
    f"{settings['height']} pixels to batches of {settings['image_size']} x "
    f"{settings['image_size']}."
  )
  contestants = [
    rounds.Contestant(
      name,
      "input_pipelines.py",
      "batches",
      settings | {"pipeline": pipeline, "resize": resize},
    )
    for name, pipeline, resize in (
      ("ours", "ours", "bicubic"),
      ("plain, bicubic", "plain", "bicubic"),
      ("plain, bilinear", "plain", "bilinear"),
    )
  ]
  rounds.compare(contestants, "ours", args)


if __name__ == "__main__":
  main()
