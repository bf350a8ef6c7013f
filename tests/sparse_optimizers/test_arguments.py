# SPDX-License-Identifier: Apache-2.0
"""What constructors refuse: each message names the argument."""

import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import DROP_GROW, METHODS, SCHEDULED

TARGETS = ["snip", "dnw", "prune"]
BAD = [
  *(
    (name, argument, value)
    for name in METHODS
    for argument, value in (
      ("weight_decay", -1.0),
      ("weight_decay", float("nan")),
      ("weight_decay", float("inf")),
    )
  ),
  *(
    (name, argument, value)
    for name in SCHEDULED
    for argument, value in (
      ("begin_step", -1),
      ("begin_step", 0.5),
      ("end_step", 0.5),
      ("frequency", 0),
    )
  ),
  *(
    (name, argument, value)
    for name in DROP_GROW
    for argument, value in (
      ("drop_fraction", -0.1),
      ("drop_fraction", 1.5),
      ("drop_fraction_anneal", "linear"),
      ("drop_fraction_anneal", "exponential_0"),
      ("noise_std", -1.0),
      ("noise_std", float("nan")),
      ("grow_init", "ones"),
      ("grow_init", "zeros_2"),
      ("grow_init", "random_normal_0"),
      ("grow_init", "random_normal_"),
      ("grow_init", "random_uniform_x"),
    )
  ),
  *(
    (name, "grow_init", "grad_sign")
    for name in DROP_GROW
    if "grad_sign" not in METHODS[name].make.grow_inits
  ),
  ("rigl", "initial_acc_scale", float("nan")),
  ("momentum", "momentum", 1.5),
  ("momentum", "momentum", -0.1),
  ("prune", "target_sparsity", 1.0),
  ("prune", "end_step", 0),
]
BAD_WITH_MASKS = [
  *((name, "mask_init_method", "magic") for name in TARGETS),
  *((name, "custom_sparsity_map", {"other": 0.5}) for name in TARGETS),
  *((name, "custom_sparsity_map", {"layer1": 1.0}) for name in TARGETS),
  ("snip", "default_sparsity", 1.0),
  ("dnw", "default_sparsity", -0.1),
]
# Arguments that carry another name below.
CALLED = {"mask_init_method": "method"}


@pytest.mark.parametrize(("name", "argument", "value"), BAD)
def test_the_constructor_refuses(name, argument, value):
  with pytest.raises(ValueError, match=f"`{argument}`"):
    sparse_methods.make(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument", "value"), BAD_WITH_MASKS)
def test_masks_are_refused_for_a_bad_distribution(name, argument, value):
  optimizer = sparse_methods.make(name, **{argument: value})
  with pytest.raises(ValueError, match=f"`{CALLED.get(argument, argument)}`"):
    optimizer.create_masks(sparse_methods.Model().kernels)
  assert not optimizer.layers


@pytest.mark.parametrize("name", METHODS)
def test_the_wrapped_optimizer_must_be_one_of_v1(name):
  method = METHODS[name]
  for optimizer in (None, 0.1, tf.Module()):
    with pytest.raises(ValueError, match="`optimizer`"):
      method.make(optimizer, **method.arguments)


@pytest.mark.parametrize("name", METHODS)
def test_the_name_is_that_of_the_class_or_the_given_one(name):
  method = METHODS[name]
  assert sparse_methods.make(name).get_name() == method.make.__name__
  assert sparse_methods.make(name, name="mine").get_name() == "mine"
