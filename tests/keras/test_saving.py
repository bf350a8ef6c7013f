# SPDX-License-Identifier: Apache-2.0
"""Files and checkpoints keep everything, once, and lose nothing silently."""

import zipfile

import h5py
import keras
import keras_models as suite
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as sparse_keras
from rigl.keras import saving

METHODS = sorted(sparse_keras.METHODS)
STEPS = 3


def model(method="rigl", inner=None, name="mlp", **arguments):
  keras.backend.clear_session()
  inner = inner or keras.optimizers.AdamW(0.01)
  return suite.compiled(
    suite.fresh(name),
    suite.sparse_optimizer(method, inner, **arguments),
    run_eagerly=True,
  )


def train(network, steps=STEPS):
  for _ in range(steps):
    network.train_on_batch(*suite.data())
  return network


@pytest.fixture(
  scope="module",
  params=[
    pytest.param(
      method,
      marks=[] if method in ("dnw", "rigl", "set") else [pytest.mark.slow],
    )
    for method in METHODS
  ],
)
def saved(request, tmp_path_factory):
  """A method, the state when it was saved, and that of the run that went on."""
  place = tmp_path_factory.mktemp(request.param)
  network = train(model(request.param))
  network.save(place / "model.keras")
  network.save_weights(place / "model.weights.h5")
  checkpoint = tf.train.Checkpoint(model=network, optimizer=network.optimizer)
  path = checkpoint.save(str(place / "checkpoint"))
  then = suite.state(network)
  return request.param, place, path, then, suite.state(train(network))


def test_a_keras_file_goes_on_bit_for_bit(saved):
  _, place, _, then, end = saved
  network = keras.models.load_model(place / "model.keras")
  network.run_eagerly = True
  suite.assert_same(suite.state(network), then)
  suite.assert_same(suite.state(train(network)), end)


@pytest.mark.parametrize("when", ["unbuilt", "built", "trained"])
def test_weights_go_on_bit_for_bit_whenever_they_are_loaded(saved, when):
  method, place, _, then, end = saved
  network = model(method)
  if when == "built":
    network.optimizer.build(network.trainable_variables)
  elif when == "trained":
    train(network, 2)
  network.load_weights(place / "model.weights.h5")
  suite.assert_same(suite.state(network), then)
  suite.assert_same(suite.state(train(network)), end)


@pytest.mark.parametrize("when", ["unbuilt", "built", "trained"])
def test_checkpoints_go_on_bit_for_bit_whenever_they_are_restored(saved, when):
  method, _, path, then, end = saved
  network = model(method)
  if when == "built":
    network.optimizer.build(network.trainable_variables)
  elif when == "trained":
    train(network, 2)
  checkpoint = tf.train.Checkpoint(model=network, optimizer=network.optimizer)
  status = checkpoint.restore(path)
  if when == "unbuilt":
    network.optimizer.build(network.trainable_variables)
  suite.assert_same(suite.state(network), then)
  suite.assert_same(suite.state(train(network)), end)
  status.assert_consumed()


def test_masks_are_bits_and_slots_are_stored_once(tmp_path):
  network = train(model())
  network.save(tmp_path / "model.keras")
  with zipfile.ZipFile(tmp_path / "model.keras") as archive:
    archive.extract("model.weights.h5", tmp_path)
  sizes = {}
  with h5py.File(tmp_path / "model.weights.h5") as file:
    file.visititems(
      lambda name, item: (
        sizes.update({name: item.nbytes})
        if isinstance(item, h5py.Dataset)
        else None
      )
    )
  own = {n: s for n, s in sizes.items() if n.startswith("optimizer/vars")}
  masks = [v for n, v in own.items() if "/mask_" in n and "shape" not in n]
  optimizer = network.optimizer
  assert sorted(masks) == sorted(
    -(-mask.numpy().size // 8) for mask in optimizer.masks.values()
  )
  inner = sum(v.numpy().nbytes for v in optimizer.inner_optimizer.variables)
  weights = sum(v.numpy().nbytes for v in network.weights)
  # Besides weights, slots and masks there are a few counters.
  assert sum(sizes.values()) < weights + inner + sum(masks) + 200
  path = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "c"))
  reader = tf.train.load_checkpoint(path)
  types = reader.get_variable_to_dtype_map().values()
  assert tf.bool not in types
  assert sum(t == tf.uint8 for t in types) == len(masks)


@pytest.mark.parametrize("shape", [(3,), (2, 4), (5, 5, 3), (8,)])
def test_bits_hold_the_mask(shape):
  mask = np.random.RandomState(0).rand(*shape) < 0.5
  bits = saving.pack(tf.constant(mask)).numpy()
  np.testing.assert_array_equal(bits, np.packbits(mask))
  np.testing.assert_array_equal(saving.unpack(bits, shape).numpy(), mask)


def test_files_of_other_optimizers_are_refused(tmp_path):
  plain = suite.compiled(suite.fresh(), "adamw", run_eagerly=True)
  train(plain).save_weights(tmp_path / "plain.weights.h5")
  train(model("snfs")).save_weights(tmp_path / "snfs.weights.h5")
  network = train(model("rigl"))
  for name in ("plain", "snfs"):
    with pytest.raises(ValueError, match="must hold 2 masks"):
      network.load_weights(tmp_path / f"{name}.weights.h5")


def test_files_of_other_models_are_refused_before_anything_changes(tmp_path):
  train(model(name="resnet")).save_weights(tmp_path / "other.weights.h5")
  optimizer = train(model()).optimizer
  before = [v.numpy() for v in optimizer.variables]
  with h5py.File(tmp_path / "other.weights.h5") as file:
    store = {k: v[()] for k, v in file["optimizer/vars"].items()}
  with pytest.raises(ValueError, match="must hold 2 masks and 3"):
    optimizer.load_own_variables(store)
  suite.assert_same(before, [v.numpy() for v in optimizer.variables])
  store = {}
  optimizer.save_own_variables(store)
  store["mask_shape_0"] = np.array([9, 9, 9, 9])
  with pytest.raises(ValueError, match="of shape"):
    optimizer.load_own_variables(store)


def test_an_optimizer_without_a_model_says_what_to_do_before_loading():
  store = {}
  train(model()).optimizer.save_own_variables(store)
  optimizer = sparse_keras.RigL("adamw")
  with pytest.raises(ValueError, match="build"):
    optimizer.load_own_variables(store)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_has_not_trained_is_saved_and_trains_later(
  tmp_path, method
):
  network, path = model(method), tmp_path / "model.keras"
  weights = network.get_weights()
  network.save(path)
  with pytest.warns(UserWarning, match="holds no state"):
    again = keras.models.load_model(path)
  suite.assert_same(weights, again.get_weights())
  network.optimizer.build(network.trainable_variables)
  if method in ("dnw", "top_kast"):  # They keep all weights of the file.
    suite.assert_same(
      [
        *again.optimizer.masks.values(),
        *again.optimizer.dense_weights.values(),
      ],
      [
        *network.optimizer.masks.values(),
        *network.optimizer.dense_weights.values(),
      ],
    )
  again.run_eagerly = True
  for each in (network, again):
    train(each, 8)
    suite.check_promises(each, slots=method not in suite.TRAIN_INACTIVE)
  assert suite.counts(again) == suite.counts(network)


def test_loading_weights_of_a_dense_model_warns_about_the_masks(tmp_path):
  keras.backend.clear_session()
  dense = suite.fresh(seed=7)
  dense.save_weights(tmp_path / "dense.weights.h5")
  network = train(model())
  with pytest.warns(UserWarning, match="holds no state"):
    network.load_weights(tmp_path / "dense.weights.h5")
  train(network, 1)
  suite.check_promises(network)


def test_weights_loaded_before_the_first_step_are_masked_not_replaced(tmp_path):
  keras.backend.clear_session()
  dense = suite.fresh(seed=7)
  dense.save_weights(tmp_path / "dense.weights.h5")
  network = model()
  network.load_weights(tmp_path / "dense.weights.h5")
  network.optimizer.build(network.trainable_variables)
  masks = list(network.optimizer.masks.values())
  kernel = network.trainable_variables[0]
  expected = dense.trainable_variables[0].numpy() * masks[0].numpy()
  np.testing.assert_array_equal(kernel.numpy(), expected)


def test_an_optimizer_inside_a_loss_scale_is_built_to_load(tmp_path):
  def scaled():
    network = model()
    inner = network.optimizer
    outer = keras.optimizers.LossScaleOptimizer(inner)
    return suite.compiled(network, outer, run_eagerly=True), inner

  network, optimizer = scaled()
  train(network, 3).save_weights(tmp_path / "model.weights.h5")
  again, other = scaled()
  assert not other.built
  again.load_weights(tmp_path / "model.weights.h5")
  assert int(other.iterations) == int(optimizer.iterations) > 0
  for found, expected in zip(
    other.masks.values(), optimizer.masks.values(), strict=True
  ):
    np.testing.assert_array_equal(found, expected)
  train(again, 1)
  suite.check_promises(again)


def test_a_legacy_file_is_refused_with_a_way_out(tmp_path):
  train(model()).save(tmp_path / "model.h5")
  with pytest.raises(ValueError, match=r"save as \.keras"):
    keras.models.load_model(tmp_path / "model.h5")
  keras.models.load_model(tmp_path / "model.h5", compile=False)


@pytest.mark.parametrize("method", METHODS)
def test_configurations_make_equal_optimizers(method):
  optimizer = suite.sparse_optimizer(
    method,
    keras.optimizers.SGD(
      keras.optimizers.schedules.CosineDecay(0.1, 50), momentum=0.9
    ),
    filters=["dense", "conv"],
    distribution={"conv": 0.5},
    seed=4,
  )
  config = keras.optimizers.serialize(optimizer)
  again = keras.optimizers.deserialize(config)
  assert type(again) is type(optimizer)
  assert again.get_config() == optimizer.get_config()


def test_set_weights_takes_what_variables_gives():
  network = train(model())
  weights = [v.numpy() for v in network.optimizer.variables]
  other = train(model(), 1)
  other.optimizer.set_weights(weights)
  suite.assert_same(weights, [v.numpy() for v in other.optimizer.variables])
  with pytest.raises(ValueError, match="`weights` must have the shapes"):
    other.optimizer.set_weights(weights[:-1])
  with pytest.raises(ValueError, match="not built"):
    sparse_keras.RigL("sgd").set_weights([])


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_weights_off_the_masks_of_a_file_are_reported_and_zero(
  tmp_path, recwarn, ending
):
  network, path = train(model(), 1), tmp_path / f"model{ending}"
  layer = next(la for la in network.layers if hasattr(la, "kernel"))
  layer.kernel.assign(layer.kernel + 1)
  if ending == ".keras":
    network.save(path)
    network = keras.models.load_model(path)
  else:
    network.save_weights(path)
    network = model()
    network.load_weights(path)
  said = [str(w.message) for w in recwarn if "disagree" in str(w.message)]
  assert len(said) == 1 and "weights off the mask" in said[0]
  layer = next(la for la in network.layers if hasattr(la, "kernel"))
  mask, *_ = network.optimizer.masks.values()
  assert not layer.kernel.numpy()[~mask.numpy()].any()


def with_earlier_weights(method):
  """A model with masks of its last step, and weights of its first."""
  arguments = {"drop_fraction": 0.5} if method in ("rigl", "set") else {}
  network = train(model(method, keras.optimizers.SGD(0.1), **arguments), 1)
  weights = network.get_weights()
  train(network, 6).set_weights(weights)  # As `EarlyStopping` does.
  masks = suite.sparse_part(network.optimizer).masks
  kernels = {v.path: v.numpy() for v in network.trainable_variables}
  assert any(kernels[path][~mask.numpy()].any() for path, mask in masks.items())
  return network, weights


@pytest.mark.parametrize("method", ["rigl", "set", "dnw"])
def test_weights_that_were_restored_keep_their_connections_in_a_file(
  tmp_path, recwarn, method
):
  network, weights = with_earlier_weights(method)
  network.save(tmp_path / "model.keras")
  again = keras.models.load_model(tmp_path / "model.keras")
  assert not [w for w in recwarn if "disagree" in str(w.message)]
  suite.assert_same(weights, again.get_weights())
  again.run_eagerly = True
  for steps in (0, 1, 4):  # The second one is a mask update.
    suite.check_promises(train(again, steps), slots=False)
    assert suite.counts(again) == suite.counts(network)


def test_a_method_that_fixes_its_sets_reports_restored_weights(tmp_path):
  network, _ = with_earlier_weights("top_kast")
  network.save(tmp_path / "model.keras")
  with pytest.warns(UserWarning, match="disagree"):
    again = keras.models.load_model(tmp_path / "model.keras")
  suite.check_promises(again, slots=False)
