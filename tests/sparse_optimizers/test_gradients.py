# SPDX-License-Identifier: Apache-2.0
"""Gradients on their way to the wrapped optimizer, and weight decay."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import METHODS, Run

# No updates: they lie in the future.
NEVER = {
  **dict.fromkeys(sparse_methods.DROP_GROW, {"begin_step": 50}),
  **dict.fromkeys(sparse_methods.BUDGETED, {"begin_step": 50, "end_step": 80}),
  "prune": {"begin_step": 50, "end_step": 60},
  "granet": {"begin_step": 50, "end_step": 60},
  "top_kast": {"begin_step": 50},
}
DECAY = 0.25


def _run(name, **options):
  run = Run(name, "sgd", **{**NEVER.get(name, {}), **options})
  run.step.assign(1)  # Where SNIP is over.
  return run


def _decay_by_loss(run, variables):
  """The gradients of the L2 loss of these variables."""
  with tf.GradientTape() as tape:
    loss = DECAY * tf.add_n([tf.reduce_sum(v**2) / 2 for v in variables])
  return tape.gradient(loss, variables)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"top_kast"}))
def test_weight_decay_is_the_gradient_of_the_l2_loss(name):
  ours, plain = (
    _run(name, weight_decay=DECAY, n_sparse=1),
    _run(name, n_sparse=1),
  )
  # As published, DNW has none on its sparse kernels.
  decaying = plain.model.kernels[1 if name == "dnw" else 0 :]
  decays = dict(
    zip(map(id, decaying), _decay_by_loss(plain, decaying), strict=True)
  )
  gradients = [(g + decays.get(id(v), 0.0), v) for g, v in plain.gradients(0)]
  ours.iterate(0)
  plain.optimizer.apply_gradients(gradients, plain.step)
  states = [
    {k: v for k, v in run.state().items() if not k.endswith("MovingAverage")}
    for run in (ours, plain)
  ]
  sparse_methods.assert_close(*states)
  assert np.any(ours.kernels()[1] != _run(name).train(1).kernels()[1])


@pytest.mark.parametrize(
  "name", sorted(n for n in METHODS if not METHODS[n].trains_inactive)
)
def test_wrapped_optimizer_steps_by_the_step_gradients(name):
  run = _run(name, weight_decay=DECAY)
  found = run.optimizer.step_gradients(run.gradients(0))
  expected = [v.numpy() - np.float32(0.1) * g.numpy() for g, v in found]
  run.iterate(0)
  for (_, variable), value in zip(found, expected, strict=True):
    np.testing.assert_allclose(variable, value, rtol=1e-6, atol=1e-7)


def test_regularization_loss_is_that_of_the_decay():
  run = _run("scratch", weight_decay=DECAY)
  loss = run.optimizer.regularization_loss(run.model.all_variables)
  expected = DECAY * sum(np.sum(k**2) / 2 for k in run.kernels())
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  assert run.optimizer.regularization_loss([]) == 0
  assert run.optimizer.regularization_loss(run.model.biases) == 0


def test_decays_says_which_variables_decay():
  options = dict(
    weight_decay=DECAY, weight_decay_filter=lambda v: "biases" in v.name
  )
  ours, plain = _run("scratch", **options), _run("scratch")
  before = plain.model.biases[0].numpy()
  ours.iterate(0)
  plain.iterate(0)
  for a, b in zip(ours.kernels(), plain.kernels(), strict=True):
    np.testing.assert_array_equal(a, b)
  difference = plain.model.biases[0].numpy() - ours.model.biases[0].numpy()
  np.testing.assert_allclose(difference, 0.1 * DECAY * before, atol=1e-6)


@pytest.mark.parametrize("name", ["rigl", "snip"])
def test_weight_decay_never_enters_growth_scores(name):
  decayed = Run(name, weight_decay=100.0).train(1)
  for a, b in zip(Run(name).train(1).masks(), decayed.masks(), strict=True):
    np.testing.assert_array_equal(a, b)


def test_weight_decay_never_enters_the_average_of_snfs():
  averages = []
  for weight_decay in (0.0, 100.0):
    run = _run("momentum", weight_decay=weight_decay).train(1)
    name = "layer1/weights/ExponentialMovingAverage"
    averages.append(run.optimizer.state()[name].numpy())
  assert np.any(averages[0])
  np.testing.assert_array_equal(*averages)


@pytest.mark.parametrize("name", METHODS)
def test_other_variables_may_lack_their_gradient(name):
  run = _run(name)
  before = [bias.numpy() for bias in run.model.biases]
  gradients = [
    (None if v is run.model.biases[0] else g, v) for g, v in run.gradients(0)
  ]
  run.optimizer.apply_gradients(gradients, run.step)
  np.testing.assert_array_equal(run.model.biases[0], before[0])
  assert np.any(run.model.biases[1].numpy() != before[1])


def test_some_gradient_must_be_given():
  run = Run("baseline")
  for gradients in ([], [(None, run.model.biases[0])]):
    with pytest.raises(ValueError, match="any variable"):
      run.optimizer.apply_gradients(gradients, run.step)


@pytest.mark.parametrize("name", ["rigl", "snip"])
def test_methods_that_grow_by_gradients_ask_for_them(name):
  with pytest.raises(ValueError, match="`grads_and_vars`"):
    Run(name).optimizer.update_masks()


@pytest.mark.parametrize("name", METHODS)
def test_indexed_slices_count_as_the_dense_gradients_they_are(name):
  runs = []
  for dense in (True, False):
    run = Run(name)
    for i in range(2):
      gradients = run.gradients(i)
      kernel = run.model.kernels[0]
      with tf.GradientTape() as tape:  # Row 3 twice: slices add up.
        rows = tf.gather(kernel, [3, 0, 3])
        loss = tf.reduce_sum(rows * rows)
      slices = tape.gradient(loss, kernel)
      assert isinstance(slices, tf.IndexedSlices)
      first = tf.convert_to_tensor(slices) if dense else slices
      pairs = [(first, kernel), *gradients[1:]]
      run.optimizer.apply_gradients(pairs, run.step)
    runs.append(run.state())
  sparse_methods.assert_same_bits(*runs)


def _bfloat16_run(name, **options):
  optimizer = sparse_methods.make(name, **options)
  rng = np.random.default_rng(0)
  kernel = tf.Variable(
    tf.cast(rng.normal(size=(12, 8)), tf.bfloat16), name="layer1/weights"
  )
  if METHODS[name].start == "sparse":
    optimizer.sparsify([kernel], "random", 0.5)
  else:
    optimizer.create_masks([kernel])
  for _ in range(3):
    gradient = tf.cast(rng.normal(size=kernel.shape), tf.bfloat16)
    optimizer.apply_gradients([(gradient, kernel)])
  return optimizer, kernel


@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_bfloat16_kernels_train(name):
  optimizer, kernel = _bfloat16_run(name)
  mask = optimizer.layers[0].mask.numpy()
  values = kernel.numpy().astype(np.float32)
  assert np.all(np.isfinite(values)) and not np.any(values[~mask])
  slot = optimizer.get_slot(kernel, "momentum")
  assert slot.dtype == tf.bfloat16
  # All that start dense; with soft memory int(0.4 * 48) more.
  numbers = {"prune": 96, "granet": 96, "mest": 67, "chase": 67}
  assert np.count_nonzero(mask) == numbers.get(name, 48)


@pytest.mark.parametrize(
  "grow_init",
  ["initial_dist", "random_uniform_2", "grad_scale", "grad_sign_10"],
)
def test_bfloat16_kernels_grow_by_every_initialisation(grow_init):
  _, kernel = _bfloat16_run("rigl", grow_init=grow_init)
  assert np.all(np.isfinite(kernel.numpy().astype(np.float32)))


# --- Gradients that do not fit ------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_gradients_must_have_the_shape_of_their_variable(name, compiled):
  run = _run(name)
  for shape in ((24, 8), (12, 1), (8,), (1, 1), (), (8, 12)):
    pairs = [(tf.ones(shape), run.model.kernels[0]), *run.gradients(0)[1:]]

    def apply(pairs=pairs):
      run.optimizer.apply_gradients(pairs, run.step)

    before = run.state()
    with pytest.raises(ValueError, match=r"'layer1/weights:0' must have"):
      (tf.function(apply, autograph=False) if compiled else apply)()
    sparse_methods.assert_same_bits(before, run.state())


def test_a_shape_that_is_known_at_run_time_alone_is_checked_there():
  run = _run("rigl")
  kernel = run.model.kernels[0]

  @tf.function(
    autograph=False, input_signature=[tf.TensorSpec(None, tf.float32)]
  )
  def apply(gradient):
    run.optimizer.apply_masked_gradients(
      [(gradient, kernel), *run.gradients(0)[1:]], run.step
    )

  apply(tf.ones([12, 8]))
  with pytest.raises(tf.errors.InvalidArgumentError, match="shape"):
    apply(tf.ones([12, 1]))


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (
      lambda g, k: [(tf.cast(g, tf.float64), k)],
      "its dtype, float32, got float6",
    ),
    (lambda g, k: [(tf.cast(g, tf.int32), k)], "got int32"),
    (lambda g, k: [("gradient", k)], "got string"),
    (lambda g, k: [(object(), k)], "must be a tensor"),
    (lambda g, k: [(k, g)], "pairs of a gradient and a variable"),
    (lambda g, k: [(g, "layer1/weights")], "pairs of a gradient"),
    (lambda g, k: [(g, None)], "pairs of a gradient"),
    (lambda g, k: [g, k], "pairs"),
    (lambda g, k: [(g, k, g)], "pairs"),
    (lambda g, k: {"layer1": g}, "pairs"),
    (lambda g, k: None, "pairs"),
    (lambda g, k: [(g, k), (g, k)], "two gradients of 'layer1/weights:0'"),
    (
      lambda g, k: [(tf.IndexedSlices(g[:2, :3], [0, 1]), k)],
      r"must have the shape \(None, 8\), got \(2, 3\)",
    ),
    (
      lambda g, k: [(tf.SparseTensor([[0, 0]], [1.0], g.shape), k)],
      "must be a tensor",
    ),
  ],
)
@pytest.mark.parametrize("name", ["rigl", "dnw", "scratch"])
def test_pairs_of_other_kinds_are_refused_and_change_nothing(
  name, make, message
):
  run = Run(name, n_sparse=1)
  before = run.state()
  kernel = run.model.kernels[0]
  with pytest.raises(ValueError, match=message):
    run.optimizer.apply_gradients(make(tf.ones([12, 8]), kernel), run.step)
  with pytest.raises(ValueError, match=message):
    run.optimizer.reduce_gradients(make(tf.ones([12, 8]), kernel))
  sparse_methods.assert_same_bits(before, run.state())


@pytest.mark.parametrize("name", ["rigl", "set", "dnw", "scratch"])
def test_the_step_must_be_a_variable(name):
  run = Run(name)
  before = run.state()
  for step in (3, "global_step", tf.constant(3), [run.step]):
    with pytest.raises(ValueError, match="`global_step` must be a variable"):
      run.optimizer.apply_gradients(run.gradients(0), step)
    with pytest.raises(ValueError, match="`global_step` must be a variable"):
      run.optimizer.apply_masked_gradients(run.gradients(0), step)
  sparse_methods.assert_same_bits(before, run.state())


def test_slices_without_a_dense_shape_are_those_of_the_variable():
  runs = [_run("set") for _ in range(2)]
  values = tf.constant(np.arange(24.0).reshape(3, 8), tf.float32)
  dense = np.zeros((12, 8), np.float32)
  for row, value in zip((3, 0, 3), values.numpy(), strict=True):
    dense[row] += value
  for run, gradient in zip(
    runs, (tf.IndexedSlices(values, [3, 0, 3]), dense), strict=True
  ):
    pairs = [(gradient, run.model.kernels[0]), *run.gradients(0)[1:]]
    run.optimizer.apply_gradients(pairs, run.step)
  sparse_methods.assert_same_bits(*(run.state() for run in runs))


def test_arrays_and_lists_become_gradients_of_the_variables_dtype():
  runs = [_run("scratch") for _ in range(2)]
  gradient = np.arange(96.0).reshape(12, 8)  # float64.
  for run, values in zip(
    runs, (gradient.tolist(), tf.constant(gradient, tf.float32)), strict=True
  ):
    pairs = [(values, run.model.kernels[0]), *run.gradients(0)[1:]]
    run.optimizer.apply_gradients(pairs, run.step)
  sparse_methods.assert_same_bits(*(run.state() for run in runs))


def test_pairs_may_come_from_a_generator_and_variables_from_anywhere():
  run = Run("set")
  extra = tf.Variable(1.0)
  pairs = (pair for pair in [*run.gradients(0), (tf.constant(2.0), extra)])
  run.optimizer.apply_gradients(pairs, run.step)
  assert extra.numpy() == pytest.approx(0.8)
