# SPDX-License-Identifier: Apache-2.0
"""N:M and constant fan-in in Keras models, by every method."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", minversion="3.0")

import rigl  # noqa: E402
from rigl.keras.sparsify import METHODS  # noqa: E402
from rigl.structures import parse_structure  # noqa: E402

SCHEDULE = {"begin_step": 0, "end_step": 6, "frequency": 2}


def make(name, structure, **options):
  scheduled = name in ("rigl", "set", "snfs", "static", "pruning", "granet")
  inner = keras.optimizers.SGD(0.05, momentum=0.9)
  options = {**(SCHEDULE if scheduled else {}), **options}
  # Without XLA, which would compile each method and structure.
  options = {**options, "mask_engine": "numpy"}
  return METHODS[name](inner, structure=structure, **options)


def network():
  return keras.Sequential(
    [
      keras.Input([4, 4, 4]),
      keras.layers.Conv2D(8, 3, name="conv"),
      keras.layers.Conv2DTranspose(4, 2, name="transposed"),
      keras.layers.Flatten(),
      keras.layers.Dense(8, name="dense"),
    ]
  )


def fit(optimizer, model, x, steps=10):
  model.compile(optimizer, "mse", jit_compile=False)
  y = np.ones([8 * steps, *model.output_shape[1:]], "float32")
  x = np.resize(x, [8 * steps, *x.shape[1:]])
  model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)


def images():
  return np.random.default_rng(0).normal(size=(8, 4, 4, 4)).astype("float32")


def per_group(optimizer, path, structure, input_axes=None):
  mask = optimizer.masks[path].numpy()
  groups = parse_structure(structure).groups(path, mask.shape, input_axes)
  return groups.split(mask.reshape(-1)).sum(0)


# The input axes of kernels, and their connections per output.
KERNELS = {
  "conv": (None, 36),
  "transposed": ([0, 1, 3], 32),
  "dense": (None, 36),
}


@pytest.mark.parametrize("structure", ["2:4", "fan_in"])
@pytest.mark.parametrize("name", METHODS)
def test_every_group_keeps_its_number_of_connections(name, structure):
  model = network()
  optimizer = make(name, structure, sparsity=0.5, distribution="uniform")
  fit(optimizer, model, images())
  assert len(optimizer.masks) == len(KERNELS)
  for path, mask in optimizer.masks.items():
    axes, fan_in = KERNELS[path.rsplit("/", 2)[-2]]
    counts = per_group(optimizer, path, structure, axes)
    expected = 2 if structure == "2:4" else fan_in // 2
    np.testing.assert_array_equal(counts, expected)
    weights = next(v for v in model.weights if v.path == path).numpy()
    assert not weights[~mask.numpy()].any()


def test_attention_is_grouped_along_the_inputs_of_each_projection():
  inputs = keras.Input([5, 8])
  outputs = keras.layers.MultiHeadAttention(2, 4, name="attention")(
    inputs, inputs
  )
  model = keras.Model(inputs, outputs)
  optimizer = make("rigl", "2:4")
  x = np.random.default_rng(1).normal(size=(8, 5, 8)).astype("float32")
  fit(optimizer, model, x)
  assert len(optimizer.masks) == 4
  for path, mask in optimizer.masks.items():
    mask = mask.numpy()
    if "output" in path:  # [heads, size, embed]
      grouped = mask.reshape(2, 1, 4, 8).sum(2)
    else:  # [embed, heads, size]
      grouped = mask.reshape(2, 4, 2, 4).sum(1)
    np.testing.assert_array_equal(grouped, 2)


def test_the_structure_fixes_sparsity_and_distribution():
  optimizer = make("rigl", "1:4")
  model = network()
  optimizer.build(model.trainable_variables)
  assert set(optimizer.sparsities.values()) == {0.75}
  config = optimizer.get_config()
  assert config["structure"] == "1:4" and config["sparsity"] == 0.75
  copy = rigl.keras.RigL.from_config(config)
  assert copy.get_config() == config


def test_the_defaults_without_a_structure_are_erk_and_ninety_percent():
  config = rigl.keras.RigL("sgd").get_config()
  assert (config["sparsity"], config["distribution"]) == (0.9, "erk")
  assert config["structure"] is None


def test_fan_in_follows_the_distribution():
  optimizer = make("set", "fan_in", sparsity=0.8, distribution="erk")
  model = network()
  optimizer.build(model.trainable_variables)
  sparsities = optimizer.sparsities
  assert len(set(sparsities.values())) > 1
  total = sum(np.count_nonzero(m.numpy()) for m in optimizer.masks.values())
  size = sum(int(np.prod(m.shape)) for m in optimizer.masks.values())
  # One connection per output may be rounded up.
  assert 0 <= total - 0.2 * size <= 8 + 4 + 8


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (dict(structure="2-4"), "`structure` must be 'N:M'"),
    (dict(structure="2:4", sparsity=0.9), "2:4 has the sparsity 0.5"),
    (dict(structure="2:4", distribution="erk"), "2:4 has the sparsity 0.5"),
    (dict(structure="2:3"), "needs a multiple of 3 inputs"),
  ],
)
def test_impossible_structures_are_refused_before_anything_changes(
  arguments, message
):
  model = network()
  before = [v.numpy() for v in model.weights]
  with pytest.raises(ValueError, match=message):
    rigl.keras.RigL("sgd", **arguments).build(model.trainable_variables)
  for variable, value in zip(model.weights, before, strict=True):
    np.testing.assert_array_equal(variable, value)


def test_layers_that_cannot_be_grouped_stay_dense_on_demand():
  model = keras.Sequential(
    [
      keras.Input([4, 4, 3]),
      keras.layers.Conv2D(8, 3, name="stem"),
      keras.layers.Conv2D(8, 1, name="body"),
    ]
  )
  optimizer = rigl.keras.RigL(
    "sgd", structure="2:4", distribution={"stem": 0.0}
  )
  optimizer.build(model.trainable_variables)
  assert sorted(optimizer.sparsities.values()) == [0.0, 0.5]


def test_a_saved_model_goes_on_with_its_structure(tmp_path):
  model, x = network(), images()
  optimizer = make("rigl", "2:4")
  fit(optimizer, model, x)
  model.save(tmp_path / "model.keras")
  loaded = keras.models.load_model(tmp_path / "model.keras")
  assert loaded.optimizer.get_config()["structure"] == "2:4"
  loaded.fit(x, np.ones([8, 8], "float32"), verbose=0)
  for path in loaded.optimizer.masks:
    axes = [0, 1, 3] if "transposed" in path else None
    counts = per_group(loaded.optimizer, path, "2:4", axes)
    np.testing.assert_array_equal(counts, 2)
