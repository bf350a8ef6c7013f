# SPDX-License-Identifier: Apache-2.0
"""Image files of every kind: they are read by all tasks, or refused."""

import gzip
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from rigl.predict import images
from rigl.predict.tasks import TASKS

SHAPES = {"imagenet": (224, 224, 3), "cifar10": (32, 32, 3), "mnist": (784,)}


def picture(height=50, width=60):
  y, x = np.mgrid[:height, :width] / 9
  planes = [np.sin(x), np.cos(y), np.sin(x + y)]
  return Image.fromarray((127 + 100 * np.stack(planes, -1)).astype(np.uint8))


def encoded(kind, image=None, mode=None, **options):
  image = image or picture()
  buffer = io.BytesIO()
  (image.convert(mode) if mode else image).save(buffer, kind, **options)
  return buffer.getvalue()


def deep(channels):
  values = np.arange(40 * 30 * channels).reshape(40, 30, channels) * 37 % 65536
  return tf.io.encode_png(values.astype(np.uint16)).numpy()


READ = {
  "grey.jpg": encoded("JPEG", mode="L"),
  "cmyk.jpg": encoded("JPEG", mode="CMYK"),
  "progressive.jpg": encoded("JPEG", progressive=True),
  "palette.png": encoded("PNG", mode="P"),
  "alpha.png": encoded("PNG", mode="RGBA"),
  "grey alpha.png": encoded("PNG", mode="LA"),
  "black and white.png": encoded("PNG", mode="1"),
  "16 bits.png": deep(3),
  "16 bits, grey.png": deep(1),
  "one frame.gif": encoded("GIF", mode="P"),
  "frames.gif": encoded(
    "GIF", save_all=True, append_images=[picture(), picture()]
  ),
  "windows.bmp": encoded("BMP"),
  "pixel.jpg": encoded("JPEG", picture(1, 1)),
  "pixel.png": encoded("PNG", picture(1, 1)),
  "line.jpg": encoded("JPEG", picture(1, 3000)),
  "column.png": encoded("PNG", picture(3000, 1)),
  "jpeg that is called.png": encoded("JPEG"),
  "ü %20 [1] *.png": encoded("PNG"),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", READ)
def test_image_is_read_in_the_shape_of_the_task(tmp_path, task, name):
  path = tmp_path / name
  path.write_bytes(READ[name])
  found = images.load_files([path], TASKS[task])
  assert found.shape == (1, *SHAPES[task])
  assert np.isfinite(found).all()
  if "pixel" not in name:
    assert np.ptp(found) > 10 or "line" in name or "column" in name


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
  "content, said",
  [
    (b"", "Input is empty"),
    (encoded("JPEG")[:300], "JPEG"),
    (encoded("PNG")[:300], "PNG"),
    (encoded("TIFF"), "Unknown image file format"),
    (gzip.compress(encoded("PNG")), "it is compressed with gzip"),
    (b"<html>404</html>", "it is a web page: the download failed"),
  ],
  ids=["empty", "cut JPEG", "cut PNG", "TIFF", "gzip", "web page"],
)
def test_other_file_is_refused_in_one_line(tmp_path, task, content, said):
  path = tmp_path / "image.png"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=said) as caught:
    images.load_files([path], TASKS[task])
  message = str(caught.value)
  assert str(path) in message and "\n" not in message
  assert "{{" not in message and not message.endswith("..")


@pytest.mark.parametrize("kind", ["folder", "loop", "missing"])
def test_what_is_no_file_is_refused(tmp_path, kind):
  path = tmp_path / "image.png"
  if kind == "folder":
    path.mkdir()
  elif kind == "loop":
    path.symlink_to(path)
  with pytest.raises(ValueError, match="`images` must be existing files, got"):
    images.load_files([path], TASKS["mnist"])
