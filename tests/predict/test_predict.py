# SPDX-License-Identifier: Apache-2.0
"""`rigl-predict` with published and own checkpoints, arrays and files."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from predict_files import (
  GOLDEN,
  MNIST,
  RESNET,
  ROOT,
  VGG,
  mnist_checkpoint,
  pixels,
  predict,
  predictions_of,
  published_checkpoint,
  saved,
)

from rigl.imagenet_resnet.input.preprocessing import (
  central_image,
  evaluation_image,
)
from rigl.imagenet_resnet.models.factory import create_model
from rigl.mnist import mnist_data
from rigl.predict import command
from rigl.training import checkpoints


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """ImageNet's images, and {name: (checkpoint, published logits)}."""
  folder = tmp_path_factory.mktemp("files")
  with np.load(GOLDEN / "imagenet_images.npz") as file:
    images = saved(folder, file["images"])
  networks = {}
  for name in ("resnet18", "vgg_16"):
    (folder / name).mkdir()
    networks[name] = published_checkpoint(folder / name, name)
  return images, networks


@pytest.mark.parametrize(
  ("name", "flags"), [("resnet18", RESNET), ("vgg_16", VGG)]
)
def test_logits_are_those_of_the_published_code(files, tmp_path, name, flags):
  images, networks = files
  prefix, logits = networks[name]
  found = predictions_of(tmp_path, checkpoint=prefix, images=[images], **flags)
  assert sorted(found) == ["classes", "logits", "probabilities"]
  np.testing.assert_allclose(found["logits"], logits, rtol=0, atol=1e-5)
  np.testing.assert_array_equal(found["classes"], logits.argmax(1))
  np.testing.assert_allclose(
    found["probabilities"], tf.nn.softmax(logits), atol=1e-6
  )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_pixels_of_mnist_may_be_bytes_or_shares(tmp_path, dtype):
  prefix, model = mnist_checkpoint(tmp_path)
  images = pixels()
  expected = model(images / np.float32(255))
  if dtype != np.uint8:
    images = (images / 255).astype(dtype)
  found = predictions_of(
    tmp_path, checkpoint=prefix, images=[saved(tmp_path, images)], **MNIST
  )
  np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


def test_networks_with_an_input_mask_see_the_pixels_that_are_left(tmp_path):
  mask = np.zeros([784, 3], np.float32)
  mask[100:300, 1] = 1
  (tmp_path / "first").mkdir()
  masked = checkpoints.save(tmp_path / "first", 1, {"layer1/mask": mask})
  prefix, model = mnist_checkpoint(tmp_path, inputs=200)
  images = pixels()
  found = predictions_of(
    tmp_path,
    checkpoint=prefix,
    images=[saved(tmp_path, images)],
    input_mask_path=masked,
    **MNIST,
  )
  expected = model(images[:, 100:300] / np.float32(255))
  np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


def test_gin_changes_the_network(tmp_path):
  prefix, _ = mnist_checkpoint(tmp_path, units=(20, 10))
  found = predictions_of(
    tmp_path,
    checkpoint=prefix,
    images=[saved(tmp_path, pixels())],
    gin_bindings=["MnistFc.units = (20, 10)"],
    **MNIST,
  )
  assert found["logits"].shape == (40, 10)


def test_gin_bindings_of_one_network_are_not_those_of_the_next(tmp_path):
  images = [saved(tmp_path, pixels())]
  for name, units in (("small", (20, 10)), ("usual", (300, 100, 10))):
    (tmp_path / name).mkdir()
    prefix, model = mnist_checkpoint(tmp_path / name, units=units)
    bindings = [f"MnistFc.units = {units}"] if name == "small" else []
    found = predictions_of(
      tmp_path, checkpoint=prefix, images=images, gin_bindings=bindings, **MNIST
    )
    expected = model(pixels() / np.float32(255))
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


def test_dense_networks_need_no_masks(tmp_path):
  model = create_model("vgg_a", width=0.05, num_classes=4)
  tensors = {name: v.numpy() for name, v in model.named_variables.items()}
  prefix = checkpoints.save(tmp_path, 1, tensors)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
  values = {
    "task": "imagenet",
    "model_architecture": "vgg_a",
    "width": 0.05,
    "num_label_classes": 4,
    "checkpoint": prefix,
    "images": [saved(tmp_path, images)],
  }
  found = predictions_of(tmp_path, training_method="baseline", **values)
  first = predictions_of(
    tmp_path,
    training_method="baseline",
    data_format="channels_first",
    **values,
  )
  np.testing.assert_allclose(found["logits"], first["logits"], atol=1e-5)
  with pytest.raises(ValueError, match="vgg_a/conv1/conv1_1/mask of shape"):
    predict(output=str(tmp_path / "x.npz"), training_method="rigl", **values)


# --- Image files --------------------------------------------------------------


def picture(height=300, width=260):
  """A smooth image, which JPEG hardly changes."""
  y, x = np.mgrid[:height, :width] / 40
  planes = [np.sin(x), np.cos(y), np.sin(x + y)]
  return (127 + 100 * np.stack(planes, -1)).astype(np.uint8)


def test_image_files_print_the_top_5(files, tmp_path):
  prefix, _ = files[1]["resnet18"]
  image = picture()
  names = [tmp_path / "a.png", tmp_path / "b.jpg"]
  names[0].write_bytes(tf.io.encode_png(image).numpy())
  names[1].write_bytes(tf.io.encode_jpeg(image, quality=100).numpy())
  output = tmp_path / "out.npz"
  arguments = {**RESNET, "checkpoint": prefix}
  text = predict(images=names, output=str(output), **arguments)
  with np.load(output) as file:
    probabilities = file["probabilities"]
  for line, name, row in zip(
    text.splitlines(), names, probabilities, strict=True
  ):
    assert line.startswith(f"{name}: ")
    words = line.removeprefix(f"{name}: ").split()
    best = np.argsort(-row)[:5]
    assert words[::2] == [str(k) for k in best]
    assert words[1] == f"{100 * row[best[0]]:.2f}%"
  np.testing.assert_allclose(*probabilities, rtol=0.05)
  assert (
    predict(images=[tmp_path / "*.png"], **arguments) == (text.splitlines()[0])
  )


def test_files_of_both_kinds_are_cropped_alike():
  jpeg = tf.io.encode_jpeg(picture(), quality=100)
  other = central_image(tf.io.decode_jpeg(jpeg))
  # At the border of a crop colours are filtered without what is beyond it.
  np.testing.assert_allclose(evaluation_image(jpeg), other, atol=3)
  assert other.shape == (224, 224, 3)


def test_digits_are_read_in_their_size_or_scaled(tmp_path):
  prefix, model = mnist_checkpoint(tmp_path)
  digit = pixels(1).reshape(28, 28, 1)
  large = np.pad(digit.repeat(2, 0).repeat(2, 1), [(5, 5), (0, 0), (0, 0)])
  names = [tmp_path / "digit.png", tmp_path / "large.png"]
  for name, image in zip(names, (digit, large), strict=True):
    name.write_bytes(tf.io.encode_png(image).numpy())
  output = tmp_path / "out.npz"
  predict(images=names, checkpoint=prefix, output=str(output), **MNIST)
  with np.load(output) as file:
    expected = model(digit.reshape(1, 784) / np.float32(255))
    np.testing.assert_allclose(
      file["logits"], np.repeat(expected, 2, 0), rtol=1e-4, atol=1e-5
    )


# --- The command --------------------------------------------------------------


def run_script(*flags):
  return subprocess.run(
    [sys.executable, str(ROOT / "scripts" / "predict.py"), *flags],
    capture_output=True,
    text=True,
    env={"PYTHONPATH": str(ROOT)},
  )


@pytest.mark.slow
def test_script_predicts_and_says_errors_in_one_line(tmp_path):
  prefix, model = mnist_checkpoint(tmp_path)
  images, output = saved(tmp_path, pixels()), tmp_path / "out.npz"
  flags = ["--task=mnist", f"--checkpoint={prefix}", f"--images={images}"]
  flags += [f"--output={output}", "--training_method=rigl"]
  done = run_script(*flags)
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
  with np.load(output) as file:
    expected = model(pixels() / np.float32(255))
    np.testing.assert_allclose(file["logits"], expected, rtol=1e-4, atol=1e-5)
  done = run_script(*flags, "--width=2")
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert line.startswith("error: `width` is not for this `task`")


@pytest.mark.slow
def test_checkpoints_of_our_own_runs_predict_what_they_evaluated(tmp_path):
  script = ROOT / "rigl" / "mnist" / "mnist_train_eval.py"
  flags = ["--training_method=rigl", "--use_synthetic_data", "--num_epochs=2"]
  done = subprocess.run(
    [sys.executable, str(script), *flags, f"--save_path={tmp_path}"],
    env={"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stderr) == (0, "")
  data = mnist_data.synthetic_mnist(seed=0)
  number = checkpoints.list_numbers(tmp_path)[-1]
  found = predictions_of(
    tmp_path,
    checkpoint=str(tmp_path / f"model.ckpt-{number}"),
    images=[saved(tmp_path, data.test_images)],
    **MNIST,
  )
  accuracy = np.mean(found["classes"] == data.test_labels)
  result = json.loads((tmp_path / "result.json").read_text())
  assert accuracy == pytest.approx(result["test_accuracy"], abs=1e-6)


def test_help_has_every_flag_with_its_default():
  found = command._model_flags()
  kind, text = found["resnet_depth"]
  assert kind is int
  assert "(default: 50)" in text and "(default: 16)" in text
  assert {"width", "prune_first_layer", "input_mask_path"} <= set(found)


@pytest.mark.parametrize("iteration", [None, np.int64(7)])
def test_weights_off_the_masks_of_our_checkpoints_are_reported(
  tmp_path, caplog, iteration
):
  prefix, _ = mnist_checkpoint(tmp_path, iteration=iteration)
  images = [saved(tmp_path, pixels())]
  predictions_of(tmp_path, checkpoint=prefix, images=images, **MNIST)
  said = "mask and weights of 'layer1' disagree" in caplog.text
  assert said == (iteration is not None)
