# SPDX-License-Identifier: Apache-2.0
"""`rigl-flops` on Keras files: open sizes, zeros, and what Keras 2 wrote."""

import gzip
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from flops_settings import make
from golden_files import GOLDEN

from rigl import counting
from rigl.flops import flops_models, keras_files, sparsities
from rigl.formats import hdf5_copy

IS_KERAS_3 = keras.__version__.startswith("3")
layers = keras.layers


def save(model, folder, name="model.keras"):
  path = folder / name
  model.save(path)
  return str(path)


def sparse_model():
  """Two kernels with 30 and 1 zeros, the second used twice."""
  inputs = keras.Input((8,))
  hidden = layers.Dense(5, name="hidden")(inputs)
  shared = layers.Dense(5, name="shared")
  model = keras.Model(inputs, shared(shared(hidden)))
  for name, zeros in (("hidden", 30), ("shared", 1)):
    kernel = np.ones(model.get_layer(name).kernel.shape)
    kernel.flat[:zeros] = 0
    bias = np.zeros(5)  # Zeros of biases are none of a kernel.
    model.get_layer(name).set_weights([kernel, bias])
  return model


def test_zeros_of_the_file_are_counted(tmp_path):
  path = save(sparse_model(), tmp_path)
  report = make(model=path, sparsity="file")
  assert [n.n_zeros for n in report.layers] == [30, 1]
  # 10 of 40 and 2 * 24 of 50 products; a sum of n has n - 1 additions, and
  # one more of the bias.
  assert [n.count[:2] for n in report.layers] == [(10, 10), (48, 48)]
  assert report.layers[0].count.bits == (10 + 5) * 32 + 40
  assert [n.n_zeros for n in report.dense] == [0, 0]
  assert report.note == ""
  pruned = make(
    model=path,
    sparsity="file",
    training_method="prune",
    sparsity_begin_step=0,
    sparsity_end_step=1000,
  )
  fraction = pruned.training.inference_fraction
  assert fraction == report.training.inference_fraction < 1


@pytest.mark.parametrize("size", [3, 10, 49, 1000, 12345])
def test_every_number_of_zeros_is_kept(size):
  for zeros in range(0, size + 1, max(size // 100, 1)):
    assert (
      counting.count_layer(
        counting.LayerSpec("a", "dense", (size, 1)),
        sparsities._share(zeros, size),
      ).n_zeros
      == zeros
    )


def test_zeros_that_are_not_counted_are_told(tmp_path):
  path = save(sparse_model(), tmp_path)
  report = make(model=path, sparsity=0.5)
  assert "47.7% of the weights" in report.note
  assert "--sparsity=file counts them" in report.note
  for flag, notes in (("--sparsity=0.5", 1), ("--sparsity=file", 0)):
    done = subprocess.run(
      [sys.executable, "-m", "rigl.flops.command", f"--model={path}", flag],
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0
    assert done.stderr.count("note: 47.7%") == notes
  total = next(n for n in done.stdout.splitlines() if n.startswith("total"))
  assert total.split()[1:4] == ["0.4769", "34", "116"]
  dense = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
  dense.layers[0].set_weights([np.ones((3, 2)), np.zeros(2)])
  assert make(model=save(dense, tmp_path)).note == ""


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"model": "resnet50"}, "`sparsity` must be a number for a model without"),
    ({"width": 2}, "`width` must not be given with `sparsity=file`"),
    ({"custom_sparsities": ["hidden=0"]}, "`custom_sparsities` must not be"),
    ({"first_layer_sparsity": 0}, "`first_layer_sparsity` must not be given"),
    ({"image_size": 8}, "`image_size` must not be given .* has all sizes"),
  ],
)
def test_settings_that_say_otherwise_are_refused(tmp_path, changes, message):
  path = save(sparse_model(), tmp_path)
  with pytest.raises(ValueError, match=message):
    make(**{"model": path, "sparsity": "file", **changes})


def test_the_size_of_images_fills_what_a_file_leaves_open(tmp_path):
  model = keras.Sequential(
    [keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="conv")]
  )
  path = save(model, tmp_path)
  with pytest.raises(ValueError, match="`image_size` must be given for a file"):
    flops_models.load(path)
  with pytest.raises(
    ValueError, match="`image_size` must be at least 1, got 0"
  ):
    flops_models.load(path, image_size=0)
  (spec,) = flops_models.load_layers(path, image_size=10)
  assert spec.applications == 8 * 8
  words = keras.Sequential(
    [
      keras.Input((None,), dtype="int32"),
      layers.Embedding(9, 4),
      layers.GRU(5),
    ]
  )
  path = save(words, tmp_path)
  assert flops_models.load_layers(path, image_size=6)[1].applications == 6


def test_channels_of_a_file_are_scaled(tmp_path):
  model = keras.Sequential(
    [
      keras.Input((8, 8, 3)),
      layers.SeparableConv2D(8, 3, name="a"),
      layers.Conv2DTranspose(6, 3, name="b"),
      layers.Flatten(),
      layers.Dense(5, name="c"),
    ]
  )
  scaled = flops_models.load_layers(save(model, tmp_path), width=2.0)
  assert [n.kernel_shape for n in scaled] == [
    (3, 3, 3, 1),
    (1, 1, 6, 16),
    (3, 3, 12, 16),
    (768, 5),
  ]
  attention = keras.Input((9, 16))
  model = keras.Model(
    attention, layers.MultiHeadAttention(2, 8)(attention, attention)
  )
  with pytest.raises(ValueError, match="`width` must be 1 for .* 'einsum'"):
    flops_models.load_layers(save(model, tmp_path), width=2.0)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.filterwarnings("ignore")
def test_files_that_cannot_be_read_are_refused_in_one_line(tmp_path, name):
  path = tmp_path / name
  path.write_bytes(b"no model")
  with pytest.raises(ValueError, match="`model` must be a") as error:
    flops_models.load_layers(str(path))
  assert len(str(error.value).splitlines()) == 1
  model = keras.Sequential(
    [keras.Input((4,)), layers.Lambda(lambda x: x * 2), layers.Dense(3)]
  )
  if IS_KERAS_3 or name.endswith(".h5"):
    with pytest.raises(ValueError, match="`model` has a Lambda layer") as error:
      flops_models.load_layers(save(model, tmp_path, name))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.filterwarnings("ignore")
def test_weights_alone_are_refused(tmp_path):
  path = tmp_path / "only.weights.h5"
  sparse_model().save_weights(path)
  with pytest.raises(ValueError, match="`model` must .* only weights"):
    flops_models.load_layers(str(path))


@pytest.mark.filterwarnings("ignore")
def test_what_keras_2_wrote_is_read(tmp_path):
  # `groups=1`, names with slashes, operations on tensors, `time_major`, shapes
  # of attention and arguments by name; Keras 3 reads none of them by itself.
  path = tmp_path / "model.h5"
  path.write_bytes(gzip.decompress((GOLDEN / "keras_2.h5.gz").read_bytes()))
  before = path.read_bytes()
  network = flops_models.load(str(path), image_size=8)
  assert path.read_bytes() == before
  assert [(n.kernel_shape, n.applications) for n in network.layers] == [
    ((3, 3, 3, 4), 16),
    ((3, 3, 4, 1), 16),
    ((3, 3, 4, 1), 16),
    ((1, 1, 4, 6), 16),
    ((2, 2, 5, 6), 16),
    *[((5, 2, 3), 4)] * 3,
    ((2, 3, 5), 4),
    *[((5, 12), 4), ((3, 12), 4)] * 2,
    ((6, 12), 4),
    ((4, 12), 4),
    ((4, 2), 1),
  ]
  # 0, 1, 2, 3, 0, 1, 2, 3
  assert list(network.zeros.values()) == [0] * 15 + [2]


class Exported(tf.Module):
  """A model with a signature that leaves the image's height open."""

  def __init__(self):
    super().__init__()
    kernel = np.ones([3, 3, 3, 4], np.float32)
    kernel[0] = 0
    self.kernel = tf.Variable(kernel, name="conv/kernel")

  @tf.function(input_signature=[tf.TensorSpec([None, None, 8, 3])])
  def __call__(self, images):
    return tf.nn.conv2d(images, self.kernel, 1, "SAME")


def test_saved_models_are_read(tmp_path):
  model = Exported()
  tf.saved_model.save(model, str(tmp_path), signatures=model.__call__)
  with pytest.raises(ValueError, match="`image_size` must be given for a file"):
    flops_models.load(str(tmp_path))
  network = flops_models.load(str(tmp_path), image_size=6)
  (spec,) = network.layers
  assert (spec.name, spec.input_size) == ("conv", (6, 8))
  assert network.zeros == {"conv": 36}
  report = make(model=str(tmp_path), image_size=6, sparsity="file")
  assert report.layers[0].count.multiplications == 48 * 72


def test_saved_models_without_a_signature_are_refused(tmp_path):
  tf.saved_model.save(tf.Module(), str(tmp_path))
  with pytest.raises(ValueError, match="`model` must have one signature"):
    flops_models.load(str(tmp_path))
  (tmp_path / "saved_model.pb").write_bytes(b"broken")
  with pytest.raises(ValueError, match="`model` must be a SavedModel"):
    flops_models.load(str(tmp_path))


def test_a_file_whose_reading_does_not_end_is_refused(monkeypatch, tmp_path):
  """Of some damaged files the HDF5 library reads without end."""

  def fail(*_):
    raise ValueError("reading it does not end.")

  monkeypatch.setattr(hdf5_copy, "copy", fail)
  path = tmp_path / "model.h5"
  path.touch()
  with pytest.raises(ValueError, match=r"`model` is damaged, got .*not end\.$"):
    keras_files.load(path, None)
