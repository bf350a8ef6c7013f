# SPDX-License-Identifier: Apache-2.0
"""Sparsity distributions and initial masks against numbers from elsewhere."""

import gzip
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from rigl import sparse_utils
from rigl.sparse_utils import (
  calculate_sparsity,
  get_mask_init_fn,
  get_mask_random,
  get_n_zeros,
  get_sparsities,
)

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
ERDOS_RENYI = ("erdos_renyi", "erdos_renyi_kernel")
SMALL = {"conv": (3, 3, 4, 6), "fc": (12, 10), "out": (40, 5)}


@pytest.fixture(scope="module")
def golden():
  with gzip.open(GOLDEN / "sparsities.json.gz", "rt") as file:
    return json.load(file)


def layers_of(golden, arch):
  names = golden["mask_lists"][arch]
  return {name.removesuffix("/mask:0"): shape for name, shape in names}


def published(golden, record):
  return get_sparsities(
    layers_of(golden, record["arch"]),
    record["method"],
    record["default_sparsity"],
    record["custom_sparsity_map"],
    record["erk_power_scale"],
  )


# --- Published numbers --------------------------------------------------------


@pytest.mark.parametrize("method", sparse_utils.DISTRIBUTIONS)
def test_sparsities_are_the_published_ones(golden, method):
  records = [r for r in golden["records"] if r["method"] == method]
  records = [r for r in records if "error" not in r]
  assert len(records) >= 20
  for record in records:
    answer = published(golden, record)
    assert list(answer) == list(layers_of(golden, record["arch"]))
    np.testing.assert_allclose(
      list(answer.values()), record["sparsities"], rtol=0, atol=1e-12
    )


def test_numbers_of_zeros_are_the_published_ones(golden):
  for record in golden["records"]:
    if "error" in record:
      continue
    shapes = layers_of(golden, record["arch"]).values()
    sizes = [math.prod(shape) for shape in shapes]
    sparsities = published(golden, record).values()
    zeros = [get_n_zeros(n, s) for n, s in zip(sizes, sparsities, strict=True)]
    assert zeros == record["n_zeros"]
    overall = sum(zeros) / sum(sizes)
    assert overall == pytest.approx(record["overall_mask_sparsity"], abs=1e-12)


def test_what_the_published_code_refuses_is_refused(golden):
  records = [r for r in golden["records"] if "error" in r]
  assert len(records) == 4
  for record in records:
    with pytest.raises(ValueError, match="`"):
      published(golden, record)


# --- Distributions ------------------------------------------------------------


def test_erdos_renyi_by_hand():
  # Scores: 110/1000 and 20/100; each layer has score * size = 110 and 20.
  # 1100 connections at 0.8 leave 220, so epsilon = 220 / 130.
  layers = {"wide": (100, 10), "narrow": (10, 10)}
  epsilon = 220 / 130
  expected = {"wide": 1 - epsilon * 0.11, "narrow": 1 - epsilon * 0.2}
  for method in ERDOS_RENYI:
    assert get_sparsities(layers, method, 0.8) == pytest.approx(expected)


def test_layer_that_would_be_too_dense_becomes_dense_by_hand():
  # At 0.5 epsilon * score would be 550 / 130 * 0.2 < 1, at 0.3 it is
  # 770 / 130 * 0.2 > 1: the narrow layer takes 100 and leaves 670 of 1000.
  layers = {"wide": (100, 10), "narrow": (10, 10)}
  for method in ERDOS_RENYI:
    assert get_sparsities(layers, method, 0.5)["narrow"] > 0
    answer = get_sparsities(layers, method, 0.3)
    assert answer["narrow"] == 0
    assert answer["wide"] == pytest.approx(0.33)


def test_erdos_renyi_sees_channels_only_and_its_kernel_variant_all_sizes():
  layers = {"pointwise": (1, 1, 20, 20), "wide": (5, 5, 20, 20)}
  plain = get_sparsities(layers, "erdos_renyi", 0.95)
  assert plain["pointwise"] == pytest.approx(plain["wide"])
  kernel = get_sparsities(layers, "erdos_renyi_kernel", 0.95)
  density = {name: 1 - sparsity for name, sparsity in kernel.items()}
  ratio = (42 / 400) / (50 / 10000)
  assert density["pointwise"] / density["wide"] == pytest.approx(ratio)


@pytest.mark.parametrize("method", ERDOS_RENYI)
@pytest.mark.parametrize("custom", [{}, {"fc": 0.25}])
def test_erdos_renyi_keeps_as_many_connections_as_random(method, custom):
  sizes = {name: math.prod(shape) for name, shape in SMALL.items()}
  others = set(SMALL) - set(custom)
  for default in (0.0, 0.1, 0.5, 0.9, 0.99):
    answer = get_sparsities(SMALL, method, default, custom)
    assert list(answer) == list(SMALL)
    assert all(0 <= sparsity <= 1 for sparsity in answer.values())
    kept = sum((1 - answer[name]) * sizes[name] for name in others)
    budget = sum(sizes[n] - math.floor(default * sizes[n]) for n in others)
    assert kept == pytest.approx(budget, abs=1e-6)
    assert all(answer[name] == value for name, value in custom.items())


def test_power_scale_interpolates_to_uniform_for_the_kernel_variant_only():
  uniform = get_sparsities(SMALL, "erdos_renyi_kernel", 0.9, None, 0.0)
  assert max(uniform.values()) == pytest.approx(min(uniform.values()))
  plain = get_sparsities(SMALL, "erdos_renyi", 0.9, None, 1.0)
  assert plain == get_sparsities(SMALL, "erdos_renyi", 0.9, None, 0.3)


@pytest.mark.parametrize("method", ERDOS_RENYI)
def test_no_sparsity_means_dense_layers_exactly(method):
  for layers in (SMALL, {"one": (7, 3)}, {"a": (7, 3), "b": (7, 3)}):
    sparsities = get_sparsities(layers, method, 0.0)
    zeros = [get_n_zeros(10**6, s) for s in sparsities.values()]
    assert zeros == [0] * len(layers)


def test_layers_may_be_objects_with_a_shape():
  arrays = {name: np.zeros(shape) for name, shape in SMALL.items()}
  variables = {n: tf.Variable(a) for n, a in arrays.items()}
  shapes = {n: tf.TensorShape(s) for n, s in SMALL.items()}
  expected = get_sparsities(SMALL, "erdos_renyi_kernel", 0.9)
  for layers in (arrays, variables, shapes):
    assert get_sparsities(layers, "erdos_renyi_kernel", 0.9) == expected


def test_str_takes_the_nearest_known_sparsity(golden):
  layers = layers_of(golden, "resnet50")
  exact = get_sparsities(layers, "str", 0.9805)
  assert get_sparsities(layers, "str", 0.9804999999999999) == exact
  assert get_sparsities(layers, "str", 0.9805 + 9e-7) == exact
  with pytest.raises(ValueError, match=r"`default_sparsity` .*0\.9805.*0\.981"):
    get_sparsities(layers, "str", 0.981)


def test_str_finds_layers_by_name(golden):
  layers = layers_of(golden, "resnet50_first_pruned")
  full = get_sparsities(layers, "str", 0.991)
  some = dict(reversed(list(layers.items())[3:20]))
  assert get_sparsities(some, "str", 0.991) == {n: full[n] for n in some}
  assert get_sparsities(layers, "str", 0.991, {list(layers)[4]: 0.1}) == full


def test_str_refuses_layers_without_an_entry(golden):
  layers = {**layers_of(golden, "resnet50"), "extra": (3, 3)}
  with pytest.raises(ValueError, match=r"`layers` must be .* \['extra'\]"):
    get_sparsities(layers, "str", 0.991)


# --- Refusals -----------------------------------------------------------------


@pytest.mark.parametrize("method", sparse_utils.DISTRIBUTIONS)
@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, math.nan, math.inf])
def test_sparsities_outside_zero_and_one_are_refused(method, sparsity):
  with pytest.raises(ValueError, match=f"`default_sparsity` .* got {sparsity}"):
    get_sparsities(SMALL, method, sparsity)
  with pytest.raises(ValueError, match=f"`custom_.* got {sparsity} for 'fc'"):
    get_sparsities(SMALL, method, 0.9, {"fc": sparsity})


def test_unknown_method_is_refused_with_the_known_ones():
  with pytest.raises(ValueError, match="'erdos_renyi_kernel', .* got 'erk'"):
    get_sparsities(SMALL, "erk", 0.9)


@pytest.mark.parametrize("method", sparse_utils.DISTRIBUTIONS)
def test_unknown_custom_names_are_refused_with_the_known_ones(method):
  message = r"`custom_sparsity_map` .*\['conv', 'fc', 'out'\].* \['fc/mask'\]"
  with pytest.raises(ValueError, match=message):
    get_sparsities(SMALL, method, 0.9, {"fc/mask": 0.5, "fc": 0.5})


@pytest.mark.parametrize("method", ERDOS_RENYI)
def test_custom_sparsities_everywhere_leave_nothing_to_distribute(method):
  custom = dict.fromkeys(SMALL, 0.5)
  assert get_sparsities(SMALL, "random", 0.9, custom) == custom
  with pytest.raises(ValueError, match="`custom_sparsity_map` must leave"):
    get_sparsities(SMALL, method, 0.9, custom)


@pytest.mark.parametrize(
  "shape", [(0, 3), (3, -1), (None, 3), (), tf.TensorShape(None), (2.5, 2)]
)
def test_unknown_or_empty_dimensions_are_refused(shape):
  with pytest.raises(ValueError, match="`layers` must have known, .* 'bad'"):
    get_sparsities({"good": (3, 3), "bad": shape}, "random", 0.9)


def test_no_layers_are_refused():
  with pytest.raises(ValueError, match="`layers` must name at least one"):
    get_sparsities({}, "random", 0.9)


def test_erdos_renyi_needs_inputs_and_outputs():
  with pytest.raises(ValueError, match=r"two dimensions .* \(7,\) for 'bias'"):
    get_sparsities({"bias": (7,)}, "erdos_renyi", 0.9)


@pytest.mark.parametrize("scale", [-0.5, math.nan, math.inf])
def test_wrong_power_scale_is_refused(scale):
  with pytest.raises(ValueError, match=f"`erk_power_scale` .* got {scale}"):
    get_sparsities(SMALL, "erdos_renyi_kernel", 0.9, None, scale)


@pytest.mark.parametrize("scale", [290.0, 1e3, 1e6])
@pytest.mark.parametrize("layers", [SMALL, {"one": (1, 1), "two": (9, 9)}])
def test_power_scale_beyond_floats_never_gives_wrong_sparsities(scale, layers):
  try:
    answer = get_sparsities(layers, "erdos_renyi_kernel", 0.9, None, scale)
  except ValueError as error:
    assert "`erk_power_scale`" in str(error)
  else:
    sizes = {n: math.prod(s) for n, s in layers.items()}
    kept = [size - get_n_zeros(size, answer[n]) for n, size in sizes.items()]
    budget = sum(s - math.floor(0.9 * s) for s in sizes.values())
    # Rounding, and the one connection that every layer keeps.
    assert budget <= sum(kept) <= budget + len(kept) and min(kept) >= 1


# --- Counting -----------------------------------------------------------------


def test_number_of_zeros_is_the_floor_of_the_share():
  assert get_n_zeros(10, 0.95) == 9
  assert get_n_zeros(7, 0.5) == 3
  assert get_n_zeros(3, 0) == 0
  assert get_n_zeros(3, 1) == 3
  assert get_n_zeros(0, 0.5) == 0
  assert type(get_n_zeros(np.int64(9), np.float32(0.5))) is int


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, math.nan])
def test_number_of_zeros_refuses_impossible_shares(sparsity):
  with pytest.raises(ValueError, match="`sparsity` must be in"):
    get_n_zeros(10, sparsity)
  with pytest.raises(ValueError, match="`size` must be .* at least 0, got -1"):
    get_n_zeros(-1, 0.5)


def test_overall_sparsity_weighs_layers_by_size():
  masks = {"a": np.zeros((3, 5)), "b": tf.ones((5,)), "c": [[True], [False]]}
  assert calculate_sparsity(masks) == 16 / 22
  assert calculate_sparsity(masks.values()) == 16 / 22
  assert calculate_sparsity(iter([np.ones(4, bool)])) == 0


@pytest.mark.parametrize("masks", [[], {}, [np.zeros((0, 3))]])
def test_overall_sparsity_of_nothing_is_refused(masks):
  with pytest.raises(ValueError, match="`masks` must hold at least one"):
    calculate_sparsity(masks)


# --- Masks --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (5, 9), (3, 3, 4, 6), ()])
@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.int8])
def test_random_mask_has_exactly_the_number_of_zeros(shape, dtype):
  for sparsity in (0.0, 0.3, 0.5, 0.9, 1.0):
    mask = get_mask_random(shape, sparsity, 0, "layer", dtype)
    assert mask.shape == shape
    assert mask.dtype == dtype
    assert set(np.unique(mask).astype(float)) <= {0.0, 1.0}
    n_zeros = math.floor(math.prod(shape) * sparsity)
    assert np.count_nonzero(mask == 0) == n_zeros


def test_random_mask_depends_on_seed_and_name_only():
  mask = get_mask_random((20, 30), 0.5, 3, "a")
  np.testing.assert_array_equal(mask, get_mask_random((20, 30), 0.5, 3, "a"))
  flat = get_mask_random((600,), 0.5, 3, "a", np.float32)
  np.testing.assert_array_equal(mask.reshape(-1), flat)
  for seed, name in ((4, "a"), (3, "b"), (3, "")):
    other = get_mask_random((20, 30), 0.5, seed, name)
    assert 0.4 < np.mean(mask == other) < 0.6


def test_random_mask_is_untouched_by_the_global_random_state():
  np.random.seed(1)
  mask = get_mask_random((50,), 0.5, 0)
  state = np.random.get_state()[1].copy()
  np.random.seed(2)
  np.testing.assert_array_equal(mask, get_mask_random((50,), 0.5, 0))
  np.random.seed(1)
  np.testing.assert_array_equal(state, np.random.get_state()[1])


def test_random_mask_is_uniform_over_positions():
  n_masks, sparsity = 4000, 0.25
  masks = [get_mask_random((12,), sparsity, seed) for seed in range(n_masks)]
  zeros = np.sum(~np.array(masks), axis=0)
  deviation = math.sqrt(n_masks * sparsity * (1 - sparsity))
  assert np.all(np.abs(zeros - n_masks * sparsity) < 4.5 * deviation)
  # Pairs of zeros: 3 * 2 of 12 * 11 ordered pairs.
  pairs = sum(1 for mask in masks if not (mask[0] or mask[11]))
  assert pairs == pytest.approx(n_masks * 6 / 132, rel=0.25)


def test_random_mask_refuses_a_negative_seed():
  with pytest.raises(ValueError, match="`seed` must be .* at least 0, got -1"):
    get_mask_random((3,), 0.5, -1)


def test_initial_masks_have_the_distributed_sparsities():
  for method in ("random", *ERDOS_RENYI):
    sparsities = get_sparsities(SMALL, method, 0.8, {"fc": 0.5}, 0.7)
    masks = get_mask_init_fn(
      SMALL, method, 0.8, {"fc": 0.5}, erk_power_scale=0.7, seed=5
    )()
    assert list(masks) == list(SMALL)
    for name, mask in masks.items():
      assert mask.shape == SMALL[name]
      expected = get_mask_random(SMALL[name], sparsities[name], 5, name)
      np.testing.assert_array_equal(mask, expected)


def test_initial_masks_are_the_same_in_every_call():
  init = get_mask_init_fn(SMALL, "erdos_renyi_kernel", 0.8)
  first, second = init(), init()
  for name in SMALL:
    np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("dtype", [tf.float32, tf.bool, tf.bfloat16, tf.uint8])
def test_mask_variables_are_assigned(dtype):
  variables = {
    name: tf.Variable(tf.cast(tf.ones(shape), dtype))
    for name, shape in SMALL.items()
  }
  masks = get_mask_init_fn(variables, "random", 0.5)()
  for name, variable in variables.items():
    assert variable.dtype == dtype
    values = tf.cast(variable, tf.float32).numpy()
    np.testing.assert_array_equal(values, masks[name])
    assert masks[name].dtype == np.bool_


def test_initial_masks_may_come_from_another_function():
  calls = []

  def all_ones(shape, sparsity, seed, name):
    calls.append((name, shape, sparsity, seed))
    return np.ones(shape, np.float32)

  masks = get_mask_init_fn(SMALL, "random", 0.5, mask_fn=all_ones, seed=9)()
  assert calls == [(name, shape, 0.5, 9) for name, shape in SMALL.items()]
  assert calculate_sparsity(masks) == 0


def test_wrong_settings_are_refused_before_any_mask_is_made():
  with pytest.raises(ValueError, match="`default_sparsity`"):
    get_mask_init_fn(SMALL, "random", 2.0)
  with pytest.raises(ValueError, match="`method`"):
    get_mask_init_fn(SMALL, "nope", 0.5)
  with pytest.raises(ValueError, match="`seed`"):
    get_mask_init_fn(SMALL, "random", 0.5, seed=-3)


def test_masks_are_the_same_in_every_process_and_need_no_tensorflow():
  code = (
    "import sys, rigl.sparse_utils as s\n"
    "m = s.get_mask_random((4, 16), .5, 7, 'resnet_model/conv')\n"
    "assert 'tensorflow' not in sys.modules\n"
    "print(''.join(map(str, m.astype(int).ravel())))"
  )
  outputs = {
    subprocess.run(
      [sys.executable, "-c", code],
      env={"PYTHONHASHSEED": hash_seed},
      cwd=pathlib.Path(sparse_utils.__file__).parents[2],
      check=True,
      capture_output=True,
      text=True,
    ).stdout.strip()
    for hash_seed in ("1", "2")
  }
  here = get_mask_random((4, 16), 0.5, 7, "resnet_model/conv")
  assert outputs == {"".join(map(str, here.astype(int).ravel()))}
