# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rigl.mnist import visualize_mask_records as visualize
from rigl.mnist.mask_records import MaskRecords

SCRIPT = pathlib.Path(visualize.__file__)


@pytest.fixture(scope="module")
def records_path(tmp_path_factory):
  rng = np.random.default_rng(0)
  records = MaskRecords()
  for index in range(12):
    mask = rng.random([24, 5]) < 0.3
    records.add(index * 100, {"layer1": mask, "layer2": mask[:5]})
  path = tmp_path_factory.mktemp("run") / "mask_records.npz"
  records.save(path)
  return path


def run_script(*arguments, entry=(str(SCRIPT),), cwd=None):
  return subprocess.run(
    [sys.executable, *entry, *arguments],
    capture_output=True,
    text=True,
    timeout=120,
    cwd=cwd,
  )


@pytest.mark.parametrize(
  ("settings", "expected"),
  [
    ((12, 3, 4), [0, 1, 2, 4, 8, 11]),
    ((12, 0, 5), [0, 5, 10, 11]),
    ((11, 0, 5), [0, 5, 10]),
    ((4, 50, 10), [0, 1, 2, 3]),
    ((4, 0, 1), [0, 1, 2, 3]),
    ((1, 0, 10), [0]),
    ((300, 50, 10), [*range(50), *range(50, 300, 10), 299]),
  ],
)
def test_first_records_all_then_every_so_many_th_and_the_last(
  settings, expected
):
  assert visualize.select_frames(*settings) == expected


@pytest.mark.parametrize(
  ("settings", "name"),
  [
    ((0, 1, 1), "num_records"),
    ((5, -1, 1), "slow_until"),
    ((5, 1, 0), "skip_mask"),
  ],
)
def test_select_frames_refuses_arguments_out_of_range(settings, name):
  with pytest.raises(ValueError, match=f"`{name}` must be at least"):
    visualize.select_frames(*settings)


def test_connections_are_counted_for_every_input():
  masks = np.zeros([2, 6, 3], bool)
  masks[0, 1] = True
  masks[0, 5, 2] = True
  masks[1, 3, :2] = True
  counts = visualize.connections_per_input(masks, (2, 3))
  assert counts.dtype == np.int64
  assert counts.tolist() == [[[0, 3, 0], [0, 0, 1]], [[0, 0, 0], [2, 0, 0]]]


@pytest.mark.parametrize("new_shape", [(2, 4), (6,), (1, 2, 3), (-2, -3), ()])
def test_shape_that_does_not_hold_the_inputs_is_refused(new_shape):
  with pytest.raises(ValueError, match="`new_shape` .* 6"):
    visualize.connections_per_input(np.zeros([2, 6, 3], bool), new_shape)


def frame_pixels(path):
  with Image.open(path) as image:
    frames = []
    for index in range(image.n_frames):
      image.seek(index)
      frames.append((np.array(image.convert("RGB")), image.info["duration"]))
  return frames


def test_gif_has_a_frame_a_record_for_the_asked_time(tmp_path):
  counts = np.zeros([4, 5, 5], np.int64)
  counts[2] = 9
  path = tmp_path / "a.gif"
  visualize.write_gif(counts, [0, 100, 200, 300], path, interval=70)
  frames = frame_pixels(path)
  assert len(frames) == 4
  assert {duration for _, duration in frames} == {70}
  middle = [frame[150, 120].astype(int) for frame, _ in frames]
  # Nothing is dark and the largest count bright, on a scale that stays.
  assert [pixel.mean() > 128 for pixel in middle] == [False, False, True, False]
  assert np.abs(middle[0] - middle[3]).max() < 10


def test_gif_of_records_that_do_not_change_keeps_every_frame(tmp_path):
  counts = np.zeros([3, 2, 2], np.int64)
  visualize.write_gif(counts, [0, 1, 2], tmp_path / "a.gif")
  assert len(frame_pixels(tmp_path / "a.gif")) == 3


def test_gif_of_a_long_run_stays_small(tmp_path):
  rng = np.random.default_rng(0)
  counts = rng.integers(0, 60, [15, 28, 28])
  visualize.write_gif(counts, list(range(15)), tmp_path / "a.gif")
  # Noise compresses worst; at this size 170 frames stay below 4 MB.
  assert (tmp_path / "a.gif").stat().st_size / 15 < 4e6 / 170


@pytest.mark.parametrize("num_records", [1, 3, 60])
def test_png_grows_with_the_panels_up_to_six(tmp_path, num_records):
  counts = np.zeros([num_records, 4, 4], np.int64)
  path = tmp_path / "a.png"
  visualize.write_png(counts, list(range(num_records)), path)
  with Image.open(path) as image:
    assert image.format == "PNG"
    panels = (image.width / 150 - 0.9) / 1.75
  assert panels == pytest.approx(min(num_records, 6), abs=0.6)


def test_script_draws_beside_the_records_and_prints_both_paths(records_path):
  result = run_script(
    f"--records_path={records_path}",
    "--new_shape=4,6",
    "--slow_until=3",
    "--skip_mask=4",
    "--interval=40",
  )
  gif = records_path.with_name("mask_records_layer0.gif")
  png = gif.with_suffix(".png")
  assert (result.returncode, result.stderr) == (0, "")
  assert result.stdout.splitlines() == [str(gif), str(png)]
  frames = frame_pixels(gif)
  assert len(frames) == len([0, 1, 2, 4, 8, 11])
  assert {duration for _, duration in frames} == {40}
  assert Image.open(png).format == "PNG"


def test_module_form_takes_save_path_and_layer(records_path, tmp_path):
  result = run_script(
    "--save_path=out.gif",
    f"--records_path={records_path}",
    "--layer_id=1",
    "--new_shape=1,5",
    entry=("-m", "rigl.mnist.visualize_mask_records"),
    cwd=tmp_path,
  )
  assert (result.returncode, result.stderr) == (0, "")
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "out.gif",
    "out.png",
  ]


BAD_FLAGS = [
  ("--layer_id=2", r"`--layer_id` must be in [0, 1]"),
  ("--layer_id=-1", r"`--layer_id` must be in [0, 1]"),
  ("--new_shape=28,28", "`new_shape` must be"),
  ("--new_shape=4,x", "`--new_shape` must be two integers"),
  ("--new_shape=24", "`--new_shape` must be two integers"),
  ("--interval=0", "`--interval` must be at least 1, got 0"),
  ("--interval=soon", "interval"),
  ("--skip_mask=0", "`skip_mask` must be at least 1, got 0"),
  ("--slow_until=-1", "`slow_until` must be at least 0, got -1"),
  ("--save_path=a.mp4", "`--save_path` must end in .gif, got `a.mp4`"),
  ("--save_path=nowhere/a.gif", "`--save_path` must be in an existing dir"),
  ("--records_path=nothing.npz", "`nothing.npz`"),
  ("--records_path=text.npz", "`text.npz` is not a mask-record file"),
  ("--records_path=empty.npz", "`empty.npz` holds no masks"),
  ("--no_such_flag=1", "no_such_flag"),
  ("stray", "unexpected positional argument: 'stray'"),
]

# Runs `run` once for each line of standard input, in one process.
MANY_RUNS = """
import sys
from absl.testing import flagsaver
from rigl.mnist import visualize_mask_records as visualize
from rigl.config import app
visualize.define_flags()
for line in sys.stdin.read().splitlines():
  sys.argv = ["script", *line.split(" ")]
  with flagsaver.flagsaver():
    try:
      app.run(visualize.main, lambda: None)
    except SystemExit as end:
      print(end.code, file=sys.stderr)
"""


def test_bad_flags_are_one_line_errors_before_anything_is_drawn(
  records_path, tmp_path
):
  (tmp_path / "text.npz").write_text("text")
  MaskRecords().save(tmp_path / "empty.npz")
  before = sorted(tmp_path.iterdir())
  common = f"--records_path={records_path} --save_path=a.gif --new_shape=4,6"
  result = subprocess.run(
    [sys.executable, "-c", MANY_RUNS],
    input="\n".join(f"{common} {flag}" for flag, _ in BAD_FLAGS),
    capture_output=True,
    text=True,
    timeout=120,
    cwd=tmp_path,
  )
  lines = result.stderr.splitlines()
  assert len(lines) == 2 * len(BAD_FLAGS), result.stderr
  for (flag, message), line, code in zip(
    BAD_FLAGS, lines[::2], lines[1::2], strict=True
  ):
    assert line.startswith("error: "), flag
    assert message in line, flag
    assert code == "1", flag
  assert result.stdout == ""
  assert sorted(tmp_path.iterdir()) == before


def test_script_error_has_no_traceback_and_exit_code_1(tmp_path):
  result = run_script(cwd=tmp_path)
  assert result.returncode == 1
  assert result.stdout == ""
  assert result.stderr.startswith("error: `mask_records.npz`")
  assert len(result.stderr.splitlines()) == 1


def test_published_flags_keep_their_defaults():
  result = run_script("--help")
  text = " ".join(result.stdout.split())
  for default in ("mask_records.npz", "28,28", "100", "0", "10", "50"):
    assert f"={default} " in text
