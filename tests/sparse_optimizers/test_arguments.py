# SPDX-License-Identifier: Apache-2.0
"""What constructors refuse: each message names the argument."""

import inspect
import re
import warnings

import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import DROP_GROW, METHODS, SCHEDULED

from rigl import sparse_optimizers
from rigl.sparse_optimizers import registry

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


# --- None, text and lists -----------------------------------------------------

KINDS = [
  *(
    (name, argument, value)
    for name in METHODS
    for argument, value in (
      ("weight_decay", None),
      ("weight_decay", "0.1"),
      ("weight_decay", True),
      ("weight_decay_filter", "biases"),
      ("seed", None),
      ("seed", 0.5),
      ("seed", -1),
      ("name", 3),
      ("use_locking", "name"),
      ("mask_engine", None),
    )
  ),
  *(
    (name, argument, value)
    for name in SCHEDULED
    for argument, value in (
      ("begin_step", None),
      ("begin_step", True),
      ("end_step", "10"),
      ("frequency", [100]),
    )
  ),
  *(
    (name, argument, value)
    for name in DROP_GROW
    for argument, value in (
      ("drop_fraction", None),
      ("drop_fraction", "0.3"),
      ("drop_fraction", [0.3]),
      ("drop_fraction_anneal", None),
      ("drop_fraction_anneal", 3),
      ("grow_init", None),
      ("grow_init", ["zeros"]),
      ("noise_std", None),
      ("stateless_seed_offset", None),
      ("stateless_seed_offset", 0.5),
    )
  ),
  ("rigl", "initial_acc_scale", None),
  ("rigl", "use_tpu", "name"),
  ("momentum", "momentum", None),
  ("momentum", "use_tpu", 0.9),
  ("snip", "use_tpu", "name"),
  ("dnw", "use_tpu", 1),
  ("set", "use_stateless", 3),
  ("prune", "target_sparsity", None),
]
KINDS_WITH_MASKS = [
  *((name, "mask_init_method", None) for name in TARGETS),
  *((name, "custom_sparsity_map", ["layer1"]) for name in TARGETS),
  *((name, "custom_sparsity_map", {"layer1": None}) for name in TARGETS),
  *((name, "erk_power_scale", None) for name in TARGETS),
  ("snip", "default_sparsity", None),
  ("dnw", "default_sparsity", "0.9"),
]


@pytest.mark.parametrize(("name", "argument", "value"), KINDS)
def test_values_of_another_kind_are_refused(name, argument, value):
  with pytest.raises(ValueError, match=f"`{argument}`"):
    sparse_methods.make(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument", "value"), KINDS_WITH_MASKS)
def test_distributions_of_another_kind_are_refused(name, argument, value):
  optimizer = sparse_methods.make(name, **{argument: value})
  with pytest.raises(ValueError, match=f"`{CALLED.get(argument, argument)}`"):
    optimizer.create_masks(sparse_methods.Model().kernels)
  assert not optimizer.layers


# --- Calls that are copied from the published code ----------------------------

# Values of all positional arguments after the wrapped optimizer, in the
# published order, and what they mean.
_SCHEDULE = (5, 50, 10, 0.25, "cosine", False, "random_normal_2")
PUBLISHED = {
  "set": (*_SCHEDULE, "mine", True, 7),
  "static": (*_SCHEDULE, "mine", 7),
  "momentum": (*_SCHEDULE, 0.5, False, "mine", 7),
  "rigl": (*_SCHEDULE, 0.5, True, "mine", 7),
  "snip": (0.75, "erdos_renyi", {"layer2": 0.25}, False, True, "mine"),
  "dnw": (0.75, "erdos_renyi", {"layer2": 0.25}, True, False, "mine"),
}
IGNORED = {"set": "use_stateless", "static": None}


@pytest.mark.parametrize("name", PUBLISHED)
def test_positional_arguments_mean_what_they_meant(name):
  make = METHODS[name].make
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    optimizer = make(sparse_methods.INNER["sgd"](), *PUBLISHED[name])
  said = [str(w.message) for w in caught if "ignored" in str(w.message)]
  ignored = IGNORED.get(name, "use_tpu")
  assert len(said) == (ignored is not None)
  assert all(f"`{ignored}` is ignored" in text for text in said)
  assert optimizer.get_name() == "mine"
  if name in ("snip", "dnw"):
    optimizer.create_masks(sparse_methods.Model().kernels)
    assert optimizer.target_sparsities["layer2"] == 0.25
    assert optimizer.target_sparsities["layer1"] == pytest.approx(
      0.75, abs=0.01
    )
    return
  schedule = optimizer.schedule
  assert (schedule.begin_step, schedule.end_step, schedule.frequency) == (
    *_SCHEDULE[:3],
  )
  assert (schedule.drop_fraction, schedule.drop_fraction_anneal) == (
    *_SCHEDULE[3:5],
  )
  keywords = dict(
    zip(
      ("begin_step", "end_step", "frequency", "drop_fraction"),
      (0, 50, 5, 0.4),
      strict=True,
    ),
    grow_init="random_normal_2",
    stateless_seed_offset=7,
    mask_engine="numpy",
  )
  own = {"momentum": {"momentum": 0.5}, "rigl": {"initial_acc_scale": 0.5}}
  keywords |= own.get(name, {})
  positional = [0, 50, 5, 0.4, "constant", False, "random_normal_2"]
  positional += [0.5, False] if name in own else []
  positional += ["mine"] + ([True] if name == "set" else []) + [7]
  states = []
  for arguments, options in (((), keywords), (positional, {})):
    run = sparse_methods.Run(name)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      run.optimizer = make(
        sparse_methods.INNER["sgd"](),
        *arguments,
        **(options or {"mask_engine": "numpy"}),
      )
    run.optimizer.sparsify(run.model.kernels, "random", 0.5)
    states.append(run.train(7).state())
  sparse_methods.assert_same_bits(*states)


@pytest.mark.parametrize("name", DROP_GROW)
def test_the_seed_offset_changes_updates_and_not_the_first_masks(name):
  runs = [
    sparse_methods.Run(name, stateless_seed_offset=offset) for offset in (0, 3)
  ]
  for a, b in zip(*(run.masks() for run in runs), strict=True):
    assert (a == b).all()
  for run in runs:
    run.train(sparse_methods.FREQUENCY + 2)
  for a, b in zip(*(run.kernels() for run in runs), strict=True):
    assert (a != b).any()


def test_gin_may_set_the_published_arguments():
  import gin

  with gin.unlock_config():
    gin.parse_config("SparseRigLOptimizer.use_tpu = True")
  try:
    with pytest.warns(UserWarning, match="`use_tpu` is ignored"):
      sparse_methods.make("rigl")
  finally:
    gin.clear_config()


@pytest.mark.parametrize(
  "method",
  [*registry.METHODS.values(), sparse_optimizers.SparseOptimizer],
)
def test_every_argument_is_described(method):
  arguments = inspect.getdoc(method).partition("\nArgs:\n")[2]
  section = arguments.partition("\n\n")[0]
  found = re.findall(r"^  \*{0,2}(\w+): .", section, re.MULTILINE)
  assert found == list(inspect.signature(method).parameters)
