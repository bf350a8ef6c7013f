# SPDX-License-Identifier: Apache-2.0
"""Draws how the connections of every input pixel change during training.

  python rigl/mnist/visualize_mask_records.py --records_path=mask_records.npz

It turns the `mask_records.npz` of a run into an animated GIF and a PNG. The
training script writes these records with `--mask_record_frequency`.
"""

import os
import pathlib
from collections.abc import Sequence

from rigl import missing_package  # noqa: F401

# isort: split
import numpy as np
from absl import flags
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from rigl import files
from rigl.config import app
from rigl.mnist.mask_records import MaskRecords

FLAGS = flags.FLAGS

_COLOUR_MAP = "magma"
_LABEL = "connections per input pixel"
_NUM_PANELS = 6


def define_flags() -> None:
  """Defines the flags; `run` calls it, because imports must not define any.

  The training script has a `save_path` too, and one process may import both.
  """
  flags.DEFINE_string(
    "records_path", "mask_records.npz", "The mask records of a training run."
  )
  flags.DEFINE_string(
    "save_path",
    "",
    "The GIF to write, in an existing directory; the PNG gets the same name "
    "but for its ending. Empty: <records>_layer<id>.gif beside the records.",
  )
  flags.DEFINE_list(
    "new_shape", "28,28", "Rows and columns in which to show the inputs."
  )
  flags.DEFINE_integer("interval", 100, "Time between frames in ms, >= 1.")
  flags.DEFINE_integer("layer_id", 0, "Which recorded layer to show, from 0.")
  flags.DEFINE_integer(
    "skip_mask",
    10,
    "Show every n-th record after the first --slow_until ones, >= 1.",
  )
  flags.DEFINE_integer(
    "slow_until", 50, "Number of first records that are all shown, >= 0."
  )


def select_frames(
  num_records: int, slow_until: int, skip_mask: int
) -> list[int]:
  """Selects the records to show: all at first, then every n-th.

  >>> select_frames(12, slow_until=3, skip_mask=4)
  [0, 1, 2, 4, 8, 11]

  Args:
    num_records: how many records there are, >= 1.
    slow_until: number of first records that are all shown, >= 0.
    skip_mask: later records are shown if their index is a multiple of it,
      >= 1.

  Returns:
    Increasing indices, among them always the last record.

  Raises:
    ValueError: an argument is out of range.
  """
  lowest = (
    ("num_records", num_records, 1),
    ("slow_until", slow_until, 0),
    ("skip_mask", skip_mask, 1),
  )
  for name, value, least in lowest:
    if value < least:
      raise ValueError(f"`{name}` must be at least {least}, got {value}.")
  return [
    index
    for index in range(num_records)
    if index < slow_until or index % skip_mask == 0 or index == num_records - 1
  ]


def connections_per_input(
  masks: np.ndarray, new_shape: Sequence[int]
) -> np.ndarray:
  """Counts the outgoing connections of every input.

  Args:
    masks: bool [n, in, out].
    new_shape: rows and columns, whose product is `in`.

  Returns:
    int64 [n, rows, columns].

  Raises:
    ValueError: `new_shape` is not two positive numbers with that product.
  """
  inputs = masks.shape[1]
  shape = tuple(new_shape)
  if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] != inputs:
    raise ValueError(
      f"`new_shape` must be two positive integers whose product is {inputs}, "
      f"the number of inputs, got {','.join(map(str, shape))!r}."
    )
  return masks.sum(axis=2, dtype=np.int64).reshape(-1, *shape)


def write_gif(
  counts: np.ndarray,
  iterations: Sequence[int],
  path: str | os.PathLike,
  interval: int = 100,
) -> None:
  """Writes an animation with one frame for each record.

  Args:
    counts: integers [n, rows, columns], n >= 1.
    iterations: the iteration of each record, shown as the title.
    path: the GIF to write.
    interval: time between frames in ms, >= 1; the format counts in 10 ms.
  """
  figure = Figure(figsize=(4.2, 3.6), layout="compressed")
  FigureCanvasAgg(figure)
  axes = figure.subplots()
  image = _show(axes, counts[0], iterations[0], counts.max())
  _add_colour_bar(figure, image, [axes])
  figure.draw_without_rendering()
  # Only the first frame is laid out, so that nothing moves but the picture.
  figure.set_layout_engine("none")
  # The writer rounds the time between frames down to whole milliseconds.
  writer = PillowWriter(fps=1000 / (interval + 0.5))
  with writer.saving(figure, os.fspath(path), dpi=80):
    for count, iteration in zip(counts, iterations, strict=True):
      image.set_data(count)
      axes.title.set_text(_title(iteration))
      writer.grab_frame()


def write_png(
  counts: np.ndarray, iterations: Sequence[int], path: str | os.PathLike
) -> None:
  """Writes the first, some intermediate and the last record side by side.

  The intermediate ones are evenly spaced among the given records, which after
  `select_frames` are dense at first, where masks change most. The colour scale
  is that of all of them, as in the animation.

  Args:
    counts: integers [n, rows, columns], n >= 1.
    iterations: the iteration of each record, shown as the titles.
    path: the PNG to write.
  """
  evenly = np.linspace(0, len(counts) - 1, _NUM_PANELS).round().astype(int)
  panels = sorted(set(evenly.tolist()))
  size = (1.75 * len(panels) + 0.9, 2.2)
  figure = Figure(figsize=size, layout="compressed")
  FigureCanvasAgg(figure)
  row = figure.subplots(1, len(panels), squeeze=False)[0]
  for axes, panel in zip(row, panels, strict=True):
    image = _show(axes, counts[panel], iterations[panel], counts.max())
  _add_colour_bar(figure, image, row)
  figure.savefig(os.fspath(path), format="png", dpi=150, bbox_inches="tight")


def _title(iteration: int) -> str:
  return f"iteration {iteration:,}"


def _show(
  axes: Axes, count: np.ndarray, iteration: int, largest: int
) -> AxesImage:
  axes.set_xticks([])
  axes.set_yticks([])
  axes.set_title(_title(iteration), fontsize="medium")
  return axes.imshow(count, cmap=_COLOUR_MAP, vmin=0, vmax=max(1, largest))


def _add_colour_bar(
  figure: Figure, image: AxesImage, axes: Sequence[Axes]
) -> None:
  ticks = MaxNLocator(6, integer=True)
  # The distance is a share of the width of all the axes together.
  pad = 0.05 / len(axes)
  bar = figure.colorbar(image, ax=axes, ticks=ticks, pad=pad)
  bar.set_label(_LABEL, fontsize="small")
  bar.ax.tick_params(labelsize="small")
  bar.outline.set_visible(False)


def _gif_path() -> pathlib.Path:
  records_path = files.path(FLAGS.records_path)
  stem = records_path.name.removesuffix(records_path.suffix)
  default_name = f"{stem}_layer{FLAGS.layer_id}.gif"
  place = FLAGS.save_path or records_path.parent / default_name
  path = files.on_disk(place, "save_path")
  if path.suffix.lower() != ".gif":
    raise ValueError(f"`--save_path` must end in .gif, got `{path}`.")
  if not path.parent.is_dir():
    raise FileNotFoundError(
      f"`--save_path` must be in an existing directory, got `{path}`."
    )
  return path


def _layer_name(records: MaskRecords) -> str:
  names = records.layer_names
  if not names or len(records.iterations) == 0:
    raise ValueError(f"`{FLAGS.records_path}` holds no masks.")
  if not 0 <= FLAGS.layer_id < len(names):
    raise ValueError(
      f"`--layer_id` must be in [0, {len(names) - 1}] for the recorded layers "
      f"{', '.join(names)}, got {FLAGS.layer_id}."
    )
  return names[FLAGS.layer_id]


def _parse_shape(values: Sequence[str]) -> tuple[int, int]:
  try:
    rows, columns = (int(value) for value in values)
  except ValueError:
    raise ValueError(
      f"`--new_shape` must be two integers such as 28,28, got "
      f"{','.join(values)!r}."
    ) from None
  return rows, columns


def _draw() -> list[pathlib.Path]:
  """Checks all the flags, then writes the two files and returns their paths."""
  if FLAGS.interval < 1:
    raise ValueError(f"`--interval` must be at least 1, got {FLAGS.interval}.")
  new_shape = _parse_shape(FLAGS.new_shape)
  records = MaskRecords.load(FLAGS.records_path)
  layer, gif_path = _layer_name(records), _gif_path()
  num_records = len(records.iterations)
  frames = select_frames(num_records, FLAGS.slow_until, FLAGS.skip_mask)
  masks = np.stack([records.mask(layer, index) for index in frames])
  counts = connections_per_input(masks, new_shape)
  iterations = records.iterations[frames].tolist()
  png_path = gif_path.with_suffix(".png")
  write_gif(counts, iterations, gif_path, FLAGS.interval)
  write_png(counts, iterations, png_path)
  return [gif_path, png_path]


def main(arguments: Sequence[str]) -> None:
  """Draws the two files and prints their paths."""
  del arguments
  with app.one_line_errors():
    for path in _draw():
      print(path)


def run() -> None:
  """Runs the script with the command line of this process."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
