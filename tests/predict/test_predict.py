"""`rigl-predict`: published and own checkpoints, images, errors."""

import json
import pathlib
import subprocess
import sys
import types

import gin
import numpy as np
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.models import create_model
from rigl.imagenet_resnet.preprocessing import central_image, evaluation_image
from rigl.mnist.mnist_model import MnistFc
from rigl.predict import command
from rigl.training import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
RESNET = {
  "task": "imagenet",
  "resnet_depth": 18,
  "width": 0.25,
  "first_layer_sparsity": -1.0,
  "last_layer_sparsity": 0.0,
  "training_method": "rigl",
}
VGG = {"task": "imagenet", "model_architecture": "vgg_16", "width": 0.25}
MNIST = {"task": "mnist", "training_method": "rigl"}


def packed_tensors(name):
  """Variables of a golden network as in a published checkpoint.

  Pruned weights are noise, so that a network without masks fails.
  """
  with np.load(GOLDEN / f"{name}.npz") as file:
    values, bits = file["values"], np.unpackbits(file["masks"])
    index, logits = json.loads(file["index"].tobytes()), file["logits"]
  rng = np.random.default_rng(0)
  tensors = {"global_step": np.int64(1)}
  for variable, shape, masked in index:
    size = int(np.prod(shape))
    if masked:
      mask, bits = bits[:size].reshape(shape) != 0, bits[size:]
      tensor = rng.normal(0, 0.05, shape).astype(np.float32)
      count = np.count_nonzero(mask)
      tensor[mask], values = values[:count], values[count:]
      layer = variable.rsplit("/", 1)[0]
      tensors[f"{layer}/mask"] = mask.astype(np.float32)
    else:
      tensor, values = values[:size].reshape(shape), values[size:]
    tensors[variable] = tensor
    tensors[f"{variable}/Momentum"] = tensor
  return tensors, logits


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Checkpoints and images: {name: path} and the published logits."""
  folder = tmp_path_factory.mktemp("files")
  paths, logits = {}, {}
  for name in ("resnet18", "vgg_16"):
    tensors, logits[name] = packed_tensors(name)
    (folder / name).mkdir()
    paths[name] = checkpoints.save(folder / name, 3200000, tensors)
  with np.load(GOLDEN / "imagenet_images.npz") as file:
    np.savez(folder / "images.npz", images=file["images"])
  with np.load(GOLDEN / "mnist_fc.npz") as file:
    golden = dict(file)
  return folder, paths, logits, golden


def predict(**values):
  known = {name: None for name in command._model_flags()}
  rest = {"output": None, "gin_config": [], "gin_bindings": []}
  values = {**known, **rest, **values}
  values["images"] = [str(path) for path in values["images"]]
  return command.predict_files(types.SimpleNamespace(**values))


def predictions_of(tmp_path, **values):
  output = tmp_path / "predictions.npz"
  assert predict(output=str(output), **values) == ""
  with np.load(output) as file:
    return dict(file)


@pytest.mark.parametrize(
  ("name", "flags"), [("resnet18", RESNET), ("vgg_16", VGG)]
)
def test_logits_are_those_of_the_published_code(files, tmp_path, name, flags):
  folder, paths, logits, _ = files
  found = predictions_of(
    tmp_path, checkpoint=paths[name], images=[folder / "images.npz"], **flags
  )
  assert sorted(found) == ["classes", "logits", "probabilities"]
  np.testing.assert_allclose(found["logits"], logits[name], rtol=0, atol=1e-5)
  np.testing.assert_array_equal(found["classes"], logits[name].argmax(1))
  np.testing.assert_allclose(
    found["probabilities"], tf.nn.softmax(logits[name]), atol=1e-6
  )


def mnist_checkpoint(folder, units=(300, 100, 10), inputs=784, **changes):
  model = MnistFc(inputs, seed=1, units=units)
  tensors = {v.name.split(":")[0]: v.numpy() for v in model.variables}
  rng = np.random.default_rng(0)
  for name, kernel in model.kernels.items():
    mask = rng.random(kernel.shape) < 0.3
    tensors[f"{name}/mask"] = mask.astype(np.float32)
    kernel.assign(tf.where(mask, kernel, 0))
  tensors.update(changes)
  tensors = {k: v for k, v in tensors.items() if v is not None}
  return checkpoints.save(folder, 7, tensors), model


def pixels(count=40, size=784):
  rng = np.random.default_rng(1)
  return rng.integers(0, 256, (count, size), dtype=np.uint8)


def saved(folder, images, name="in.npz", key="images"):
  np.savez(folder / name, **{key: images})
  return folder / name


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
  try:
    found = predictions_of(
      tmp_path,
      checkpoint=prefix,
      images=[saved(tmp_path, pixels())],
      gin_bindings=["MnistFc.units = (20, 10)"],
      **MNIST,
    )
  finally:
    gin.clear_config()
  assert found["logits"].shape == (40, 10)


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
  _, paths, _, _ = files
  image = picture()
  names = [tmp_path / "a.png", tmp_path / "b.jpg"]
  names[0].write_bytes(tf.io.encode_png(image).numpy())
  names[1].write_bytes(tf.io.encode_jpeg(image, quality=100).numpy())
  output = tmp_path / "out.npz"
  arguments = {**RESNET, "checkpoint": paths["resnet18"]}
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


# --- Errors -------------------------------------------------------------------


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"task": "cifar100"}, r"`task` must be one of \['imagenet', 'cifar10'"),
    ({"task": None}, "`task` must be one of .* got None"),
    ({"checkpoint": None}, "`checkpoint` must be given"),
    ({"images": []}, "`images` must be given"),
    ({"images": ["no.npz"]}, "`images` must be an existing file, got 'no.npz'"),
    ({"images": ["no.png"]}, "`images` must be existing files, got 'no.png'"),
    ({"images": ["a.npz", "b.npz"]}, "`images` must be one .npz file or other"),
    ({"output": None}, "`output` must be given for an .npz file"),
    ({"output": "no/such/out.npz"}, "`output` must be in a folder"),
    ({"output": "out.txt"}, "`output` must be an .npz file, got 'out.txt'"),
    ({"output": "in.npz"}, "`output` must not be the file with the images"),
    ({"checkpoint": "no/model.ckpt"}, "`checkpoint`: `no/model.ckpt` is no re"),
    ({"resnet_depth": 18}, "`resnet_depth` is not for this `task`.* got 18"),
    (
      {"training_method": "magic"},
      "`training_method` must be one of .*'magic'",
    ),
    (
      {"task": "imagenet", "resnet_depth": 51},
      r"`resnet_depth` must be one of \[18, .* got 51",
    ),
    (
      {"task": "imagenet", "first_layer_sparsity": 1.0},
      "`first_layer_sparsity` must be -1 or in",
    ),
    ({"task": "cifar10", "resnet_depth": 17}, "`depth` must be 10, 16"),
    ({"gin_bindings": ["MnistFc.units = ()"]}, "`units` must be positive"),
  ],
)
def test_wrong_flags_are_refused(tmp_path, monkeypatch, changes, message):
  monkeypatch.chdir(tmp_path)
  prefix, _ = mnist_checkpoint(tmp_path)
  saved(tmp_path, pixels())
  good = {
    **MNIST,
    "checkpoint": prefix,
    "images": ["in.npz"],
    "output": "out.npz",
  }
  try:
    with pytest.raises(ValueError, match=message):
      predict(**{**good, **changes})
  finally:
    gin.clear_config()
  assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
  ("task", "images", "message"),
  [
    ("imagenet", np.zeros([2, 8, 8, 4], np.uint8), r"\[N, any, any, 3\]"),
    ("imagenet", np.zeros([8, 8, 3], np.uint8), r"got \[8, 8, 3\]"),
    ("imagenet", np.zeros([2, 8, 8, 3], np.float32), "uint8, got float32"),
    ("cifar10", np.zeros([2, 28, 28, 3], np.uint8), r"\[N, 32, 32, 3\]"),
    ("cifar10", np.zeros([0, 32, 32, 3], np.uint8), "at least one image"),
    ("cifar10", np.zeros([2, 32, 32, 3], np.int64), "uint8, got int64"),
    ("mnist", np.zeros([2, 28, 28], np.uint8), r"\[N, 784\] .*\[2, 28, 28\]"),
    ("mnist", np.full([2, 784], 255.0), r"in \[0, 1\], got 255 to 255"),
    ("mnist", np.full([2, 784], np.nan), r"in \[0, 1\], got nan to nan"),
    ("mnist", np.zeros([2, 784], bool), r"float numbers .* got bool"),
  ],
)
def test_wrong_images_are_refused(tmp_path, task, images, message):
  with pytest.raises(ValueError, match=f"`images` must .*{message}"):
    predict(
      task=task,
      checkpoint="model.ckpt",
      images=[saved(tmp_path, images)],
      output=str(tmp_path / "out.npz"),
      **({"width": 0.1} if task == "imagenet" else {}),
    )


def test_files_that_hold_no_images_are_refused(tmp_path):
  def message_of(path):
    arguments = {"output": str(tmp_path / "out.npz"), **MNIST}
    with pytest.raises(ValueError) as caught:
      predict(checkpoint="model.ckpt", images=[path], **arguments)
    return str(caught.value)

  wrong_key = saved(tmp_path, pixels(), key="pictures")
  message = message_of(wrong_key)
  assert "the key 'images'" in message and "['pictures']" in message
  broken = tmp_path / "broken.npz"
  for content in (b"PK\x03\x04 and no more", b"", b"\x93NUMPY"):
    broken.write_bytes(content)
    assert message_of(broken).startswith("`images` must be a whole .npz file")
  np.save(tmp_path / "array.npy", pixels())
  (tmp_path / "array.npy").rename(broken)
  assert message_of(broken).startswith("`images` must be a whole .npz file")
  np.savez(broken, images=np.array([{}]))
  assert message_of(broken).startswith("`images` must be a whole .npz file")
  text = tmp_path / "text.png"
  text.write_text("no picture")
  assert "JPEG and PNG files, got" in message_of(text)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"layer1/weights": np.ones([784, 30], np.float32)},
      r"layer1/weights has the shape \(784, 30\) .* and \(784, 300\) in the",
    ),
    ({"layer2/biases": None}, r"layer2/biases of shape \(100,\) is not in the"),
    ({"layer2/mask": None}, r"layer2/mask of shape \(300, 100\) is not in the"),
    (
      {"layer4/weights": np.ones([10, 5], np.float32)},
      r"layer4/weights of shape \(10, 5\) is not in the model",
    ),
  ],
)
def test_checkpoints_of_other_networks_are_refused(tmp_path, changes, message):
  prefix, _ = mnist_checkpoint(tmp_path, **changes)
  arguments = {"images": [saved(tmp_path, pixels())], **MNIST}
  with pytest.raises(ValueError, match=f"`checkpoint` .*{message}"):
    predict(checkpoint=prefix, output=str(tmp_path / "o.npz"), **arguments)


def test_both_names_of_a_layer_are_shown(files, tmp_path):
  folder, paths, _, _ = files
  flags = {**RESNET, "first_layer_sparsity": 0.0}
  with pytest.raises(ValueError) as caught:
    predictions_of(
      tmp_path,
      checkpoint=paths["resnet18"],
      images=[folder / "images.npz"],
      **flags,
    )
  name = "resnet_model/initial_conv"
  shape = "of shape (7, 7, 3, 16) is not in the"
  assert f"{name}/initial_conv/weights {shape} checkpoint" in str(caught.value)
  assert f"{name}/weights {shape} model" in str(caught.value)


def test_output_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
  prefix, _ = mnist_checkpoint(tmp_path)
  output = tmp_path / "predictions.npz"
  output.write_text("old")
  arguments = {
    "checkpoint": prefix,
    "images": [saved(tmp_path, pixels())],
    **MNIST,
  }

  def interrupted(file, **arrays):
    file.write(b"half")
    raise OSError("disk full")

  with monkeypatch.context() as patch:
    patch.setattr(np, "savez", interrupted)
    with pytest.raises(OSError, match="disk full"):
      predict(output=str(output), **arguments)
  assert output.read_text() == "old"
  assert len(predictions_of(tmp_path, **arguments)["classes"]) == 40
  assert not list(tmp_path.glob("*tmp*"))


# --- The command --------------------------------------------------------------


def run_script(*flags):
  return subprocess.run(
    [sys.executable, str(ROOT / "scripts" / "predict.py"), *flags],
    capture_output=True,
    text=True,
    env={"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
  )


@pytest.mark.slow
def test_script_predicts_and_says_errors_in_one_line(tmp_path):
  prefix, model = mnist_checkpoint(tmp_path)
  images, output = saved(tmp_path, pixels()), tmp_path / "out.npz"
  flags = ["--task=mnist", f"--checkpoint={prefix}", f"--images={images}"]
  flags += [f"--output={output}", "--training_method=rigl"]
  done = run_script(*flags)
  assert (done.returncode, done.stdout) == (0, ""), done.stderr
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
  assert done.returncode == 0, done.stderr
  from rigl.mnist import data_helper

  data = data_helper.synthetic_mnist(seed=0)
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
