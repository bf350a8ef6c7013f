# SPDX-License-Identifier: Apache-2.0
"""Arguments of another kind end in a ValueError that says what to pass."""

import numpy as np
import pytest
import tensorflow as tf

from rigl import counting, sparse_utils

SHAPES = {"a": (3, 4), "b": (6, 5)}
MASK = tf.Variable(tf.ones([3, 4]), name="a/mask")
LAYERS = [counting.LayerSpec("a", "dense", (3, 4))]


@pytest.mark.parametrize("layers", [[MASK], (MASK,), MASK, "a", None, 3])
def test_masks_of_the_published_api_are_referred_to_their_shapes(layers):
  for call in (
    lambda: sparse_utils.get_sparsities(layers, "random", 0.5),
    lambda: sparse_utils.get_mask_init_fn(layers, "random", 0.5, {}),
  ):
    with pytest.raises(
      ValueError, match=r"`layers` must be a mapping.*mask\.sh"
    ):
      call()


def test_what_that_message_says_works():
  layers = {mask.name: mask.shape for mask in [MASK]}
  assert sparse_utils.get_sparsities(layers, "random", 0.5) == {"a/mask:0": 0.5}
  assert sparse_utils.get_mask_random(MASK.shape, 0.5, 0).sum() == 6


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("random", None), "`default_sparsity` must be a number"),
    (("random", "0.5"), "`default_sparsity` must be a number"),
    (("random", True), "`default_sparsity` must be a number"),
    ((None, 0.5), "`method` must be in"),
    ((["random"], 0.5), "`method` must be in"),
    (("random", 0.5, ["a"]), "`custom_sparsity_map` must be a mapping"),
    (("random", 0.5, "a"), "`custom_sparsity_map` must be a mapping"),
    (("random", 0.5, {"a": None}), "got None for 'a'"),
    (("random", 0.5, {"a": "0.5"}), "got '0.5' for 'a'"),
    (("random", 0.5, {3: 0.5}), "`custom_sparsity_map` must use names"),
    (
      ("erdos_renyi_kernel", 0.5, None, None),
      "`erk_power_scale` must be a num",
    ),
  ],
)
def test_distributions_name_the_argument(arguments, message):
  with pytest.raises(ValueError, match=message):
    sparse_utils.get_sparsities(SHAPES, *arguments)
  with pytest.raises(ValueError, match=message):
    sparse_utils.get_mask_init_fn(
      SHAPES, *arguments[:3], erk_power_scale=(*arguments, *[1.0] * 4)[3]
    )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((MASK, 0.5, tf.float32), "`shape` must be .*mask.shape"),
    ((3, 0.5, 0), "`shape` must be a sequence"),
    (((3.5, 2), 0.5, 0), "`shape` must be a sequence"),
    (((-3, 2), 0.5, 0), "`shape` must be a sequence"),
    (((3, 2), None, 0), "`sparsity` must be a number"),
    (((3, 2), 0.5, tf.float32), "`seed` must be an integer.*argument `dtype`"),
    (((3, 2), 0.5, np.random.RandomState(0)), "RandomState.*becomes a seed"),
    (((3, 2), 0.5, None), "`seed` must be an integer"),
    (((3, 2), 0.5, 0, tf.float32), "`name` must be a str"),
  ],
)
def test_random_masks_name_the_argument(arguments, message):
  with pytest.raises(ValueError, match=message):
    sparse_utils.get_mask_random(*arguments)


def test_random_masks_take_dtypes_of_tensorflow():
  mask = sparse_utils.get_mask_random((3, 2), 0.5, 0, dtype=tf.float32)
  assert mask.dtype == np.float32 and mask.sum() == 3


@pytest.mark.parametrize("masks", [None, 3, "mask", ["a"], [None]])
def test_overall_sparsity_needs_arrays(masks):
  with pytest.raises(ValueError, match="`masks` must"):
    sparse_utils.calculate_sparsity(masks)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"param_size": None}, "`param_size`"),
    ({"width": "1.0"}, "`width`"),
    ({"custom_sparsities": ["a"]}, "`custom_sparsities` must be a mapping"),
    ({"default_sparsity": None}, "`default_sparsity`"),
    ({"method": None}, "`method`"),
  ],
)
def test_stats_name_the_argument(options, message):
  with pytest.raises(ValueError, match=message):
    sparse_utils.get_stats(LAYERS, **options)
