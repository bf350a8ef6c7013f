# SPDX-License-Identifier: Apache-2.0
"""Graphs and sessions, as in scripts of TensorFlow 1."""

import subprocess

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
import warm_python
from sparse_methods import METHODS

tf1 = tf.compat.v1

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(32, 12)).astype(np.float32)
Y = _RNG.normal(size=(32, 8)).astype(np.float32)
WEIGHTS = _RNG.normal(size=(12, 8)).astype(np.float32)
N_ITERATIONS = 12


def _make(name, inner="momentum"):
  options = {"mask_engine": "numpy"}
  if name in sparse_methods.DROP_GROW:
    options["grow_init"] = "initial_dist"
  if name == "rigl":
    options["initial_acc_scale"] = 0.0
  arguments = {**METHODS[name].arguments, **options}
  return METHODS[name].make(sparse_methods.INNER[inner](), **arguments)


def _create(name, optimizer, kernel):
  if METHODS[name].start == "sparse":
    optimizer.sparsify([kernel], "random", 0.5)
  else:
    optimizer.create_masks([kernel])


def _eager(name, inner):
  kernel = tf.Variable(WEIGHTS, name="layer/weights")
  bias = tf.Variable(tf.zeros([8]), name="layer/biases")
  optimizer, step = _make(name, inner), tf.Variable(0, dtype=tf.int64)
  _create(name, optimizer, kernel)
  for _ in range(N_ITERATIONS):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean((X @ kernel + bias - Y) ** 2)
    pairs = zip(
      tape.gradient(loss, [kernel, bias]), [kernel, bias], strict=True
    )
    optimizer.apply_gradients(pairs, step)
  return kernel.numpy(), optimizer.layers[0].mask.numpy(), step.numpy()


@pytest.mark.parametrize(
  ("name", "inner"),
  [
    *((name, "momentum") for name in sparse_methods.MASKED),
    ("rigl", "adam"),
    ("dnw", "adam"),
  ],
)
def test_a_session_trains_as_eager_mode_does(name, inner):
  expected = _eager(name, inner)
  with tf.Graph().as_default():
    kernel = tf.Variable(WEIGHTS, name="layer/weights")
    bias = tf.Variable(tf.zeros([8]), name="layer/biases")
    optimizer = _make(name, inner)
    _create(name, optimizer, kernel)
    mask = optimizer.layers[0].mask
    step = tf1.train.get_or_create_global_step()
    loss = tf.reduce_mean((tf.constant(X) @ kernel + bias - Y) ** 2)
    train = optimizer.minimize(loss, step)
    with tf1.Session() as session:
      session.run(tf1.global_variables_initializer())
      weights, active = session.run([kernel, mask])
      np.testing.assert_array_equal(weights, WEIGHTS * active)
      for _ in range(N_ITERATIONS):
        session.run(train)
        weights, active = session.run([kernel, mask])
        assert not weights[~active].any()
      found = (weights, active, session.run(step))
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(found[1], expected[1])
  assert found[2] == expected[2]


def test_random_initial_weights_are_masked_and_copied_before():
  """By every way in which sessions initialise; DNW copies the dense ones."""
  for start in ("global", "one", "monitored", "get_variable"):
    with tf.Graph().as_default():
      if start == "get_variable":
        kernel = tf1.get_variable(
          "layer/weights", [12, 8], initializer=tf1.glorot_uniform_initializer()
        )
      else:
        kernel = tf.Variable(tf.random.normal([12, 8]), name="layer/weights")
      optimizer = _make("dnw" if start == "global" else "set")
      optimizer.create_masks([kernel], {"layer": WEIGHTS > 0})
      mask = optimizer.layers[0].mask
      if start == "monitored":
        tf1.train.get_or_create_global_step()
        session = tf1.train.MonitoredTrainingSession()
      else:
        session = tf1.Session()
        session.run(
          [kernel.initializer, mask.initializer]
          if start == "one"
          else tf1.global_variables_initializer()
        )
      with session:
        weights, active = session.run([kernel, mask])
        np.testing.assert_array_equal(weights != 0, active, err_msg=start)
        np.testing.assert_array_equal(active, WEIGHTS > 0)
        if start == "global":
          dense = session.run(optimizer.dense_weights(optimizer.layers[0]))
          assert np.all(dense != 0)
          np.testing.assert_array_equal(dense * active, weights)


def test_initial_weights_of_a_checkpoint_are_masked(tmp_path):
  kernel = tf.Variable(WEIGHTS)
  path = tf1.train.Saver({"old/weights": kernel}).save(
    None, str(tmp_path / "model"), write_meta_graph=False
  )
  with tf.Graph().as_default():
    kernel = tf1.get_variable("layer/weights", [12, 8], use_resource=True)
    tf1.train.init_from_checkpoint(path, {"old/weights": "layer/weights"})
    optimizer = _make("rigl")
    optimizer.sparsify([kernel], "random", 0.75)
    mask = optimizer.layers[0].mask
    with tf1.Session() as session:
      session.run(tf1.global_variables_initializer())
      weights, active = session.run([kernel, mask])
  assert np.count_nonzero(active) == 24
  np.testing.assert_array_equal(weights, WEIGHTS * active)


def test_a_saver_restores_kernel_and_mask(tmp_path):
  with tf.Graph().as_default():
    kernel = tf.Variable(WEIGHTS, name="layer/weights")
    optimizer = _make("set")
    optimizer.sparsify([kernel], "random", 0.5)
    mask = optimizer.layers[0].mask
    loss = tf.reduce_mean((tf.constant(X) @ kernel - Y) ** 2)
    train = optimizer.minimize(loss)
    saver = tf1.train.Saver()
    with tf1.Session() as session:
      session.run(tf1.global_variables_initializer())
      for _ in range(7):
        session.run(train)
      path = saver.save(session, str(tmp_path / "model"))
      before = session.run([kernel, mask])
    with tf1.Session() as session:
      saver.restore(session, path)
      for a, b in zip(before, session.run([kernel, mask]), strict=True):
        np.testing.assert_array_equal(a, b)
      session.run(train)
      weights, active = session.run([kernel, mask])
      assert not weights[~active].any()


def test_questions_of_the_host_say_that_they_need_eager_mode():
  with tf.Graph().as_default():
    for name in ("rigl", "snip", "prune"):
      kernel = tf.Variable(WEIGHTS, name=f"{name}/weights")
      optimizer = _make(name)
      _create(name, optimizer, kernel)
      with pytest.raises(RuntimeError, match="only be read in eager mode"):
        optimizer.steps_to_update(0)
      with pytest.raises(
        RuntimeError, match="mask:0 can only be read in eager"
      ):
        optimizer.summary()
      assert name in optimizer.state().__repr__()


@pytest.mark.parametrize("name", ["set", "snip"])
def test_masks_are_not_created_inside_a_function(name):
  kernel, optimizer = tf.Variable(WEIGHTS, name="layer/weights"), _make(name)

  @tf.function(autograph=False)
  def create():
    optimizer.create_masks([kernel])

  with pytest.raises(RuntimeError, match=r"outside of tf\.function"):
    create()
  assert not optimizer.layers
  np.testing.assert_array_equal(kernel, WEIGHTS)


_TF1_SCRIPT = """
import sys
import tensorflow as tf
from rigl import sparse_optimizers
tf1 = tf.compat.v1
tf1.disable_v2_behavior()
if sys.argv[1] != "reference":
  tf1.enable_resource_variables()
if sys.argv[1] == "good":
  tf1.enable_v2_tensorshape()
kernel = tf1.get_variable("layer/weights", [20, 10])
inner = tf1.train.MomentumOptimizer(0.1, 0.9)
optimizer = sparse_optimizers.SparseRigLOptimizer(inner, 0, 9, 2, 0.5)
try:
  optimizer.sparsify([kernel], "random", 0.9)
except (RuntimeError, ValueError) as error:
  print(error)
  sys.exit()
train = optimizer.minimize(tf.reduce_sum((kernel - 1.0) ** 2))
with tf1.Session() as session:
  session.run(tf1.global_variables_initializer())
  for _ in range(6):
    session.run(train)
  weights, mask = session.run([kernel, optimizer.layers[0].mask])
print((weights[~mask] != 0).sum(), mask.sum())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  ("mode", "said"),
  [
    ("good", "0 20"),
    ("shapes", "call tf.compat.v1.enable_v2_tensorshape()"),
    ("reference", "call tf.compat.v1.enable_resource_variables()"),
  ],
)
def test_a_script_without_v2_behaviour_runs_or_is_told_what_to_call(mode, said):
  done = subprocess.run(
    warm_python.command("-c", _TF1_SCRIPT, mode), capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert said in done.stdout
