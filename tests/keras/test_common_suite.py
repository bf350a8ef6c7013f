# SPDX-License-Identifier: Apache-2.0
"""What every method promises, for models, optimizers and ways to train."""

import keras
import keras_models as suite
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as sparse_keras

METHODS = sorted([*sparse_keras.METHODS, *suite.OPTIONS])
CHANGES_COUNTS = {"pruning", "snip", "dnw", "granet", *suite.OPTIONS}
BUILT_IN = [
  name
  for name, kind in vars(keras.optimizers).items()
  if isinstance(kind, type)
  and issubclass(kind, keras.optimizers.Optimizer)
  and kind is not keras.optimizers.Optimizer
]
INNER = {
  "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
  "adamw": lambda: keras.optimizers.AdamW(0.01),
}


def train(model, steps=6, slots=True, each_step=None):
  """Trains and checks the promises after every step."""
  images, classes = suite.data()
  before = None
  for _ in range(steps):
    model.train_on_batch(images, classes)
    suite.check_promises(model, slots)
    if each_step:
      each_step()
    now = suite.counts(model)
    assert before in (None, now) or each_step is None
    before = now
  return before


@pytest.mark.parametrize(
  ("method", "model"),
  [
    pytest.param(
      method,
      model,
      marks=[pytest.mark.slow] if model != "cnn" and method != "rigl" else [],
    )
    for method in METHODS
    for model in suite.MODELS
  ],
)
def test_promises_hold_after_every_step(method, model):
  inner = INNER[["sgd", "adamw"][(len(method) + len(model)) % 2]]()
  network = suite.compiled(
    suite.fresh(model),
    suite.sparse_optimizer(method, inner),
    run_eagerly=True,
  )
  seen = []
  train(
    network,
    slots=method not in suite.TRAIN_INACTIVE,
    each_step=None
    if method in CHANGES_COUNTS
    else lambda: seen.append(suite.counts(network)),
  )
  optimizer = network.optimizer
  sizes = [v.numpy().size for v in optimizer.masks.values()]
  share = 1 - sum(suite.counts(network)) / sum(sizes)
  assert abs(share - suite.SPARSITY) < 0.05
  for mask in optimizer.masks.values():
    assert mask.numpy().any()
  assert "kernel" in optimizer.summary()


def inner_of(name):
  if name == "Adafactor":
    return keras.optimizers.Adafactor(epsilon_1=1e-12)
  if name == "MultiOptimizer":
    return keras.optimizers.MultiOptimizer(
      keras.optimizers.OptimizerMap(
        keras.optimizers.Adam(), {".*kernel": keras.optimizers.SGD(0.1)}
      )
    )
  return getattr(keras.optimizers, name)()


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_optimizer_of_keras_works_or_is_refused(name):
  if name == "LossScaleOptimizer":
    inner = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="wrap the other way"):
      sparse_keras.RigL(inner)
    return
  optimizer = suite.sparse_optimizer("rigl", inner_of(name))
  network = suite.compiled(suite.fresh(), optimizer, run_eagerly=True)
  train(network, each_step=lambda: None)
  # Ftrl computes weights anew from its slots, all near zero after few steps.
  if name != "Ftrl":
    assert max(optimizer.changed_in_last_update().values()) > 0


def test_adafactor_is_refused_where_it_would_divide_zero_by_zero():
  with pytest.raises(ValueError, match="`epsilon_1` of at least 1e-12"):
    sparse_keras.RigL("adafactor")


def test_parts_that_accumulate_gradients_are_refused():
  part = keras.optimizers.SGD(gradient_accumulation_steps=2)
  parts = keras.optimizers.OptimizerMap(keras.optimizers.Adam(), {"a": part})
  with pytest.raises(ValueError, match="parts of a MultiOptimizer"):
    sparse_keras.RigL(keras.optimizers.MultiOptimizer(parts))
  chosen = keras.optimizers.MultiOptimizer(lambda variable: part)
  optimizer = suite.sparse_optimizer("rigl", chosen)
  with pytest.raises(ValueError, match="parts of a MultiOptimizer"):
    optimizer.build(suite.fresh().trainable_variables)


VARIANTS = {
  "rmsprop": lambda: keras.optimizers.RMSprop(centered=True, momentum=0.9),
  "amsgrad": lambda: keras.optimizers.Adam(amsgrad=True),
  "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
  "clipnorm": lambda: keras.optimizers.Adam(clipnorm=0.1),
  "global_clipnorm": lambda: keras.optimizers.Adam(global_clipnorm=0.1),
  "decay": lambda: keras.optimizers.SGD(0.1, weight_decay=0.01),
  "scaled": lambda: keras.optimizers.Adam(loss_scale_factor=16.0),
  "average": lambda: keras.optimizers.Muon(
    use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
  ),
  "schedule": lambda: keras.optimizers.SGD(
    keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.9)
  ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_arguments_of_the_inner_optimizer_keep_the_promises(name):
  optimizer = suite.sparse_optimizer("rigl", VARIANTS[name]())
  network = suite.compiled(suite.fresh(), optimizer, run_eagerly=True)
  train(network, each_step=lambda: None)
  optimizer.finalize_variable_values(network.trainable_variables)
  suite.check_promises(network)


class AlwaysNudged(keras.optimizers.SGD):
  """Moves every weight and slot, whatever the gradient."""

  def update_step(self, gradient, variable, learning_rate):
    super().update_step(gradient + 0.01, variable, learning_rate)


class AlwaysOne(keras.constraints.Constraint):
  """Writes 0.5 to weights of zero."""

  def __call__(self, w):
    return keras.ops.where(w == 0, 0.5, w)


def test_optimizers_and_constraints_that_revive_weights_are_undone():
  inner = AlwaysNudged(0.1, momentum=0.9)
  model = keras.Sequential(
    [
      keras.Input((6, 6, 2)),
      keras.layers.Flatten(),
      keras.layers.Dense(5, kernel_constraint=AlwaysOne()),
      keras.layers.Dense(suite.CLASSES),
    ]
  )
  optimizer = suite.sparse_optimizer("rigl", inner)
  train(
    suite.compiled(model, optimizer, run_eagerly=True), each_step=lambda: None
  )


# --- Graphs -------------------------------------------------------------------


def fit(model, epochs=2, **options):
  images, classes = suite.data()
  return model.fit(
    images,
    classes,
    batch_size=4,
    epochs=epochs,
    shuffle=False,
    verbose=0,
    **options,
  )


def count_traces(model):
  """A list that grows with every trace of the training step."""
  traces, step = [], model.train_step

  def counted(data):
    traces.append(1)
    return step(data)

  model.train_step = counted
  return traces


@pytest.mark.parametrize(
  "method",
  [
    pytest.param(
      method,
      marks=[] if method in ("dnw", "rigl", "set") else [pytest.mark.slow],
    )
    for method in METHODS
  ],
)
def test_fit_in_a_graph_is_traced_once_and_keeps_the_promises(method):
  inner = INNER[["adamw", "sgd"][len(method) % 2]]()
  network = suite.compiled(
    suite.fresh("cnn"),
    suite.sparse_optimizer(method, inner),
    jit_compile=False,
  )
  traces = count_traces(network)
  fit(network, epochs=1)
  first = len(traces)
  fit(network, epochs=2)
  assert len(traces) == first <= 2
  suite.check_promises(network, slots=method not in suite.TRAIN_INACTIVE)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet", "transformer"])
def test_graphs_of_other_models_keep_the_promises(model):
  network = suite.compiled(
    suite.fresh(model),
    suite.sparse_optimizer("rigl", INNER["adamw"]()),
    jit_compile=False,
  )
  before = suite.counts(network) if network.optimizer.built else None
  fit(network)
  assert before in (None, suite.counts(network))
  suite.check_promises(network)


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_a_graph_computes_what_eager_execution_does(steps_per_execution):
  results = []
  for eager in (True, False):
    optimizer = suite.sparse_optimizer("rigl", INNER["sgd"]())
    network = suite.compiled(
      suite.fresh("mlp"),
      optimizer,
      run_eagerly=eager,
      jit_compile=False,
      steps_per_execution=1 if eager else steps_per_execution,
    )
    optimizer.build(network.trainable_variables)
    fit(network)
    results.append(suite.state(network))
  for one, other in zip(*results, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rigl", "snfs", "dnw", "top_kast"])
def test_xla_compiles_the_whole_step(method):
  network = suite.compiled(
    suite.fresh("cnn"),
    suite.sparse_optimizer(method, INNER["sgd"](), mask_engine="auto"),
    jit_compile=True,
  )
  traces = count_traces(network)
  fit(network)
  suite.check_promises(network, slots=method not in suite.TRAIN_INACTIVE)
  assert len(traces) <= 2


@pytest.mark.parametrize(
  ("policy", "model"),
  [
    ("mixed_float16", "mlp"),
    ("mixed_bfloat16", "mlp"),
    pytest.param("mixed_bfloat16", "transformer", marks=pytest.mark.slow),
  ],
)
def test_mixed_precision_keeps_the_promises(policy, model):
  keras.config.set_dtype_policy(policy)
  try:
    optimizer = suite.sparse_optimizer("rigl", INNER["adamw"]())
    network = suite.compiled(suite.fresh(model), optimizer, jit_compile=False)
    fit(network)
  finally:
    keras.config.set_dtype_policy("float32")
  suite.check_promises(network)
  assert max(optimizer.changed_in_last_update().values()) > 0


def test_a_step_that_is_not_finite_changes_nothing():
  keras.config.set_dtype_policy("mixed_float16")
  try:
    optimizer = suite.sparse_optimizer("rigl", INNER["sgd"]())
    network = suite.compiled(suite.fresh(), optimizer, run_eagerly=True)
    images, classes = suite.data()
    network.train_on_batch(images, classes)
    before = [v.numpy() for v in optimizer.variables]
    weights = [v.numpy() for v in network.trainable_variables]
    network.train_on_batch(images * np.inf, classes)
  finally:
    keras.config.set_dtype_policy("float32")
  suite.assert_same(before, [v.numpy() for v in optimizer.variables])
  suite.assert_same(weights, [v.numpy() for v in network.trainable_variables])


def test_dense_layers_train_as_without_the_wrapper():
  """With `sparsity` 0 all layers are dense."""
  results = []
  for wrap in (False, True):
    optimizer = INNER["adamw"]()
    if wrap:
      optimizer = sparse_keras.FixedMask(optimizer, 0.0)
    network = suite.compiled(suite.fresh("resnet"), optimizer, run_eagerly=True)
    fit(network)
    results.append([v.numpy() for v in network.weights])
  suite.assert_same(*results)


def test_variables_that_are_not_sparse_train_as_without_the_wrapper():
  """One kernel is sparse, but its layer's gradients reach no other."""
  results = []
  for wrap in (False, True):
    kernels = [
      keras.Variable(np.full((4, 5), 0.5, "float32"), name=name)
      for name in ("kernel", "other")
    ]
    optimizer = INNER["adamw"]()
    if wrap:
      optimizer = sparse_keras.FixedMask(optimizer, 0.5)
    for step in range(4):
      gradients = [tf.fill([4, 5], 0.1 * (step + 1))] * 2
      optimizer.apply(gradients, kernels)
    results.append([kernel.numpy() for kernel in kernels])
  np.testing.assert_array_equal(results[0][1], results[1][1])
  mask = optimizer.masks["kernel"].numpy()
  np.testing.assert_array_equal(results[0][0][mask], results[1][0][mask])
  assert np.all(results[1][0][~mask] == 0)
