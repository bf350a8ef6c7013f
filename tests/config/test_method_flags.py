# SPDX-License-Identifier: Apache-2.0
"""The flags of the methods reach the arguments of the optimizers."""

import dataclasses

import gin
import numpy as np
import pytest
import tensorflow as tf

from rigl.config.method_flags import MethodFlags
from rigl.config.method_optimizer import create_optimizer
from rigl.config.settings import override, setting
from rigl.config.training_length import LengthFlags
from rigl.sparse_optimizers import registry


@dataclasses.dataclass(frozen=True)
class ToyFlags(LengthFlags):
  steps_flag = "steps"

  steps: int = setting(10, "Steps.")
  end_sparsity: float = override(MethodFlags, "end_sparsity", 0.5)
  decay: float = setting(0.25, "A decay.", argument="weight_decay")
  noise: float = setting(0.0, "Noise.", argument="noise_std")
  first_prune: int = setting(
    7, "Pruning.", argument="begin_step", methods=(registry.PRUNE,)
  )
  last_prune: int = setting(
    90, "Pruning.", argument="end_step", methods=(registry.PRUNE,)
  )
  every: int = setting(
    3, "Pruning.", argument="frequency", methods=(registry.PRUNE,)
  )


@pytest.fixture(autouse=True)
def fresh_gin():
  yield
  gin.clear_config()


def make(flags, **options):
  kernels = {name: tf.Variable(tf.ones((8, 10))) for name in ("a", "b")}
  inner = tf.compat.v1.train.GradientDescentOptimizer(0.1)
  return create_optimizer(flags, inner, kernels, **options)


@pytest.mark.parametrize("method", registry.METHODS)
def test_every_method_gets_its_class_and_common_arguments(method):
  optimizer = make(ToyFlags(training_method=method, seed=4))
  assert type(optimizer) is registry.METHODS[method]
  assert optimizer._weight_decay == 0.25
  assert optimizer._seed == 4


@pytest.mark.parametrize("method", registry.METHODS)
@pytest.mark.parametrize(
  ("name", "value", "taking"),
  [
    ("grow_batches", 2, {"rigl", "granet"}),
    ("initial_sparsity", 0.25, {"granet"}),
    ("backward_sparsity", 0.25, {"top_kast"}),
    ("track_exploration", True, {*registry.BY_WINDOW}),
    ("soft_memory", True, {"set", "rigl"}),
    ("across_layers", True, {"set", "rigl"}),
    ("drop_gradient_weight", 0.5, {"set", "rigl"}),
  ],
)
def test_a_flag_of_some_methods_is_refused_by_the_others(
  method, name, value, taking
):
  if method in taking:
    flags = ToyFlags(training_method=method, **{name: value})
    assert flags.method_arguments()[name] == value
    return
  expected = f"`{name}` must be .* for method '{method}'"
  with pytest.raises(ValueError, match=expected):
    ToyFlags(training_method=method, **{name: value})


@pytest.mark.parametrize("method", registry.SPARSE_START)
def test_masks_start_random_or_empty_for_a_checkpoint(method):
  flags = ToyFlags(training_method=method)
  for init_masks, active in ((True, 40), (False, 0)):
    for layer in make(flags, init_masks=init_masks).layers:
      assert tf.reduce_sum(tf.cast(layer.mask, tf.int32)) == active


def test_window_of_drop_and_grow_is_multiplied():
  flags = ToyFlags(
    training_method="set",
    training_steps_multiplier=2.0,
    maskupdate_begin_step=5,
    maskupdate_end_step=50,
    maskupdate_frequency=9,
  )
  schedule = make(flags).schedule
  assert (schedule.begin_step, schedule.end_step) == (10, 100)
  assert schedule.frequency == 9


@pytest.mark.parametrize("method", ["set", "rigl"])
@pytest.mark.parametrize("weight", [0.0, 0.25, 2])
def test_a_gradient_weight_needs_the_gradient_of_the_update(method, weight):
  optimizer = make(
    ToyFlags(training_method=method, drop_gradient_weight=weight)
  )
  assert optimizer._options.drop_gradient_weight == weight
  assert optimizer.update_is_iteration == (method == "rigl" or weight > 0)


@pytest.mark.parametrize(
  "method", sorted({*registry.METHODS} - {"set", "rigl"})
)
@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("soft_memory", True),
    ("across_layers", True),
    ("drop_gradient_weight", 0.5),
  ],
)
def test_options_of_set_and_rigl_are_refused_by_other_methods(
  method, name, value
):
  default = type(value)()
  ToyFlags(training_method=method, **{name: default})
  with pytest.raises(ValueError, match=f"`{name}` must be {default} .*'set'"):
    ToyFlags(training_method=method, **{name: value})


@pytest.mark.parametrize("multiplier", [2.0, 3, 0.5])
def test_window_of_pruning_is_multiplied(multiplier):
  flags = ToyFlags(
    training_method="prune",
    training_steps_multiplier=multiplier,
    maskupdate_begin_step=5,
  )
  schedule = make(flags).schedule
  window = (schedule.begin_step, schedule.end_step)
  assert window == (int(7 * multiplier), int(90 * multiplier))
  assert schedule.frequency == 3


def test_typed_multiplier_wins_over_a_window_of_pruning_in_gin():
  gin.parse_config("SparsePruningOptimizer.begin_step = 44")
  flags = ToyFlags(training_method="prune", training_steps_multiplier=2.0)
  typed = flags.with_explicit(["training_steps_multiplier"])
  assert make(flags).schedule.begin_step == 44
  assert make(typed).schedule.begin_step == 14


def test_pruning_has_flags_of_its_own_for_the_same_arguments():
  flags = ToyFlags(training_method="prune", maskupdate_begin_step=5)
  schedule = make(flags).schedule
  found = (schedule.begin_step, schedule.end_step, schedule.frequency)
  assert found == (7, 90, 3)
  assert schedule.target_sparsity == 0.5


def test_a_new_argument_needs_only_a_field():
  assert make(ToyFlags(training_method="rigl", noise=0.5))._noise_std == 0.5


@pytest.mark.parametrize(
  "explicit, frequency, begin_step",
  [
    ([], 33, 44),
    (["maskupdate_frequency"], 100, 44),
    (["every"], 33, 44),
    (["training_steps_multiplier"], 33, 0),
  ],
)
def test_gin_wins_unless_a_flag_of_the_argument_is_typed(
  explicit, frequency, begin_step
):
  gin.parse_config("SparseSETOptimizer.frequency = 33")
  gin.parse_config("SparseSETOptimizer.begin_step = 44")
  flags = ToyFlags(training_method="set").with_explicit(explicit)
  schedule = make(flags).schedule
  assert (schedule.frequency, schedule.begin_step) == (frequency, begin_step)


@pytest.mark.parametrize(
  "method", ["snip", "dnw", "prune", "top_kast", "baseline"]
)
def test_initial_masks_are_refused_by_methods_that_start_dense(method):
  with pytest.raises(ValueError, match="takes no initial masks"):
    make(ToyFlags(training_method=method), masks={})


@pytest.mark.parametrize("method", registry.METHODS)
def test_empty_distribution_is_for_methods_that_start_dense(method):
  flags = ToyFlags(training_method=method, mask_init_method="")
  if method in registry.SPARSE_START:
    expected = f"`mask_init_method` must be given for method '{method}'"
    with pytest.raises(ValueError, match=expected):
      make(flags)
    return
  optimizer = make(flags)
  assert type(optimizer) is registry.METHODS[method]
  assert flags.method_arguments()["mask_init_method"] == "random"


@dataclasses.dataclass(frozen=True)
class FlagsOfMasks(ToyFlags):
  load_mask_dir: str = setting("", "Masks.")


@pytest.mark.parametrize("method", registry.SPARSE_START)
def test_empty_distribution_is_for_masks_of_another_run(method):
  flags = FlagsOfMasks(
    training_method=method, mask_init_method="", load_mask_dir="x"
  )
  mask = np.eye(8, 10, dtype=bool)
  for layer in make(flags, masks={"a": mask, "b": mask}).layers:
    np.testing.assert_array_equal(layer.mask, mask)
  with pytest.raises(ValueError, match="method` or `load_mask_dir` must be"):
    dataclasses.replace(flags, load_mask_dir="").method_arguments()


def test_override_keeps_help_and_limits():
  fields = {field.name: field for field in dataclasses.fields(ToyFlags)}
  field, base = fields["end_sparsity"], dataclasses.fields(MethodFlags)[1]
  assert base.name == "end_sparsity"
  assert (field.default, base.default) == (0.5, 0.9)
  assert field.metadata == base.metadata
  with pytest.raises(ValueError, match=r"`end_sparsity` must be in \[0.0, 1"):
    ToyFlags(end_sparsity=1.0)


def test_no_steps_are_refused():
  with pytest.raises(ValueError, match="`steps` must be at least 1, got 0.05"):
    ToyFlags(training_steps_multiplier=0.05)


def test_an_unknown_method_is_refused():
  with pytest.raises(ValueError, match="`training_method` must be one of"):
    registry.optimizer_class("rigle")
