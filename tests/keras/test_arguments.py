# SPDX-License-Identifier: Apache-2.0
"""Arguments of sparse Keras optimizers: what is refused, and how."""

import inspect
import re

import keras
import keras_models as suite
import numpy as np
import pytest

import rigl.keras as sparse_keras


@pytest.mark.parametrize(
  "name",
  [
    "learning_rate",
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "loss_scale_factor",
    "gradient_accumulation_steps",
  ],
)
@pytest.mark.parametrize("method", ["rigl", "fixed_mask", "dnw"])
def test_arguments_of_the_inner_optimizer_are_refused(method, name):
  with pytest.raises(ValueError, match=f"`{name}` belongs to the inner"):
    sparse_keras.METHODS[method]("sgd", **{name: 0.5})


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"sparsity": 1.0}, "`sparsity` must be in"),
    ({"sparsity": "0.9"}, "`sparsity` must be a number"),
    ({"distribution": "str"}, "`distribution` must be one of"),
    ({"distribution": {"a": 1.5}}, "`distribution` of 'a' must be in"),
    ({"distribution": {"(": 0.5}}, "`distribution` must have paths or regular"),
    ({"begin_step": -1}, "`begin_step` must be"),
    ({"end_step": -1}, "`end_step` must be"),
    ({"end_step": 2.5}, "`end_step` must be"),
    ({"begin_step": 5, "end_step": 3}, "`end_step` must be"),
    ({"frequency": 0}, "`frequency` must be"),
    ({"drop_fraction": 1.5}, "`drop_fraction` must be"),
    ({"anneal": "linear"}, "`anneal` must be"),
    ({"grow_init": "ones"}, "`grow_init` must be"),
    ({"seed": -1}, "`seed` must be"),
    ({"seed": 1.5}, "`seed` must be"),
    ({"noise_std": -1.0}, "`noise_std` must be"),
    ({"noise_std": "small"}, "`noise_std` must be a number"),
    ({"distribution": [0.5]}, "`distribution` must be one of"),
    ({"mask_engine": "fast"}, "`mask_engine` must be"),
    ({"filters": 3}, "`filters` must be"),
    ({"drop": 3}, "There is no argument `drop`"),
    ({"optimizer": "nonsense"}, "`optimizer` must be a Keras optimizer"),
    ({"optimizer": None}, "`optimizer` must be a Keras optimizer, got None"),
    ({"optimizer": 3}, "`optimizer` must be a Keras optimizer"),
    ({"optimizer": {}}, "`optimizer` must be a Keras optimizer"),
  ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
  with pytest.raises(ValueError, match=message):
    sparse_keras.RigL(**({"optimizer": "sgd"} | arguments))


def test_numbers_of_numpy_are_numbers():
  optimizer = sparse_keras.RigL(
    "sgd",
    np.float32(0.5),
    distribution={"layer0": np.float32(0.25)},
    end_step=np.int64(90),
    seed=np.int64(3),
  )
  optimizer.build(suite.two_kernels())
  assert optimizer.sparsities == {"layer0/kernel": 0.25, "layer1/kernel": 0.5}
  assert optimizer.schedule.end_step == 90


@pytest.mark.parametrize(
  "optimizer",
  [
    "adamw",
    {"class_name": "SGD", "config": {"learning_rate": 0.5}},
    keras.optimizers.Lion(0.1),
  ],
)
def test_optimizers_are_taken_as_keras_takes_them(optimizer):
  sparse = sparse_keras.RigL(optimizer)
  assert isinstance(sparse.inner_optimizer, keras.optimizers.Optimizer)


def test_one_optimizer_serves_one_wrapper():
  inner = keras.optimizers.SGD(0.1)
  first, second = sparse_keras.RigL(inner), sparse_keras.SET(inner)
  kernels = suite.two_kernels()
  first.build(kernels)
  with pytest.raises(ValueError, match="built already"):
    second.build(kernels)
  with pytest.raises(ValueError, match="built already"):
    sparse_keras.RigL(inner)
  with pytest.raises(ValueError, match="sparse one already"):
    sparse_keras.RigL(sparse_keras.SET("sgd"))


@pytest.mark.parametrize(
  ("distribution", "message"),
  [
    ({"nothing": 0.5}, "'nothing', which matches none of"),
    ({"layer": 0.5, "0": 0.2}, "match 'layer0/kernel'"),
    (
      {"layer0/kernel": 0.5, "a/layer0/kernel": 0.2},
      r"'a/layer0/kernel'\] both end in 'layer0/kernel'",
    ),
  ],
)
def test_sparsities_that_match_nothing_or_twice_are_refused(
  distribution, message
):
  optimizer = sparse_keras.RigL("sgd", distribution=distribution)
  kernels = suite.two_kernels()
  before = [kernel.numpy() for kernel in kernels]
  with pytest.raises(ValueError, match=message):
    optimizer.build(kernels)
  for kernel, value in zip(kernels, before, strict=True):
    np.testing.assert_array_equal(kernel.numpy(), value)


def test_sparsities_by_path_and_regex():
  optimizer = sparse_keras.RigL(
    "sgd", 0.75, distribution={"layer0/kernel": 0.25}
  )
  optimizer.build(suite.two_kernels())
  assert optimizer.sparsities == {"layer0/kernel": 0.25, "layer1/kernel": 0.75}
  optimizer = sparse_keras.RigL(
    "sgd", 0.5, distribution={"layer0/kernel": 0.0, "layer.": 0.75}
  )
  optimizer.build(suite.two_kernels())
  assert optimizer.sparsities == {"layer0/kernel": 0.0, "layer1/kernel": 0.75}


def test_the_learning_rate_is_that_of_the_inner_optimizer():
  schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.1])
  scheduled = suite.sparse_optimizer("set", keras.optimizers.SGD(schedule))
  kernels = suite.two_kernels()
  rates = []
  for step in range(5):
    rates.append(float(scheduled.learning_rate))
    scheduled.apply(suite.gradients(step), kernels)
  np.testing.assert_allclose(rates, [0.5, 0.5, 0.5, 0.1, 0.1])
  optimizer = sparse_keras.RigL(keras.optimizers.SGD(0.5))
  optimizer.learning_rate = 0.25
  assert float(optimizer.inner_optimizer.learning_rate.numpy()) == 0.25
  assert float(optimizer.learning_rate.numpy()) == 0.25


def test_callbacks_set_the_learning_rate():
  network = suite.compiled(
    suite.fresh(),
    suite.sparse_optimizer("rigl", keras.optimizers.SGD(0.5)),
    run_eagerly=True,
  )
  images, classes = suite.data()
  network.fit(
    images,
    classes,
    batch_size=8,
    verbose=0,
    callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.125)],
  )
  assert float(network.optimizer.inner_optimizer.learning_rate.numpy()) == 0.125


def test_calls_that_do_not_fit_are_refused():
  optimizer = suite.sparse_optimizer("rigl", "sgd")
  kernels = suite.two_kernels()
  with pytest.raises(ValueError, match="first call of `apply`"):
    optimizer.apply(suite.gradients(0))
  with pytest.raises(ValueError, match="one gradient for each of 2"):
    optimizer.apply(suite.gradients(0)[:1], kernels)
  with pytest.raises(RuntimeError, match="no summary"):
    optimizer.summary()
  optimizer.apply(suite.gradients(0), kernels)
  optimizer.apply(suite.gradients(1))
  with pytest.raises(ValueError, match="Unknown variable"):
    optimizer.apply(suite.gradients(0), suite.two_kernels())


@pytest.mark.parametrize(
  "method",
  [*sparse_keras.METHODS.values(), sparse_keras.SparseOptimizer],
)
def test_every_argument_is_described(method):
  arguments = inspect.getdoc(method).partition("\nArgs:\n")[2]
  section = arguments.partition("\n\n")[0]
  found = re.findall(r"^  \*{0,2}(\w+): .", section, re.MULTILINE)
  assert found == list(inspect.signature(method).parameters)
