# SPDX-License-Identifier: Apache-2.0
"""What `rigl-predict` refuses, and that it never harms a file."""

import numpy as np
import pytest
from predict_files import (
  MNIST,
  RESNET,
  mnist_checkpoint,
  pixels,
  predict,
  predictions_of,
  published_checkpoint,
  saved,
)


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
  with pytest.raises(ValueError, match=message):
    predict(**{**good, **changes})
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


def test_both_names_of_a_layer_are_shown(tmp_path):
  prefix, _ = published_checkpoint(tmp_path, "resnet18")
  images = np.zeros([1, 32, 32, 3], np.uint8)
  flags = {**RESNET, "first_layer_sparsity": 0.0}
  with pytest.raises(ValueError) as caught:
    predictions_of(
      tmp_path,
      checkpoint=prefix,
      images=[saved(tmp_path, images)],
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
