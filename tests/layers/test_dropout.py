# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from rigl.layers.dropout import dropout

KEY = (3, 2**40 + 5)
SHAPES = [(1,), (7,), (2, 3, 5), (4, 4, 4, 4), (1025,)]
RATES = [0.0, 0.1, 0.3, 0.5, 0.999]


def key_of(*words):
  return tf.constant(words or KEY, tf.int64)


def values_of(shape, dtype=tf.float32):
  """Numbers of which none is zero."""
  rng = np.random.default_rng(len(shape))
  values = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2.0, shape)
  return tf.cast(tf.constant(values), dtype)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_share_of_zeros_is_the_rate(rate):
  size = 10**6
  found = dropout(tf.ones([size]), rate, key_of()).numpy()
  deviation = (rate * (1 - rate) / size) ** 0.5
  assert np.mean(found == 0) == pytest.approx(rate, abs=5 * deviation)
  # So the mean stays.
  assert found.mean(dtype=np.float64) == pytest.approx(1, abs=0.02)


def test_every_position_of_a_pair_is_zeroed_as_often():
  """Two values share the 32 bits that are drawn."""
  zeros = dropout(tf.ones([10**6]), 0.3, key_of()).numpy() == 0
  pairs = zeros.reshape(-1, 2)
  codes = np.bincount(pairs @ [1, 2], minlength=4) / len(pairs)
  expected = [0.49, 0.21, 0.21, 0.09]
  np.testing.assert_allclose(codes, expected, atol=0.004)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kept_values_are_scaled_and_the_others_zero(shape, rate):
  values = values_of(shape).numpy()
  found = dropout(tf.constant(values), rate, key_of()).numpy()
  assert found.shape == shape
  scaled = values * np.float32(1 / (1 - rate))
  np.testing.assert_array_equal(found, np.where(found == 0, 0, scaled))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_eager_graph_and_xla_give_the_same_bits(shape, rate):
  def run(values, key):
    return dropout(values, rate, key)

  values = values_of(shape)
  eager = run(values, key_of()).numpy()
  for jit_compile in (False, True):
    compiled = tf.function(run, jit_compile=jit_compile, autograph=False)
    assert compiled(values, key_of()).numpy().tobytes() == eager.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rate_zero_keeps_everything(shape):
  values = values_of(shape)
  found = dropout(values, 0.0, key_of())
  np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_dtype_is_kept_and_zeros_do_not_depend_on_it(dtype):
  found = dropout(values_of((50,), dtype), 0.4, key_of())
  assert found.dtype == dtype
  zeros = tf.equal(tf.cast(found, tf.float32), 0)
  expected = tf.equal(dropout(values_of((50,)), 0.4, key_of()), 0)
  np.testing.assert_array_equal(zeros, expected)


def test_zeros_are_a_function_of_the_key():
  values = tf.ones([1000])
  first = dropout(values, 0.5, key_of(1, 2)).numpy()
  np.testing.assert_array_equal(first, dropout(values, 0.5, key_of(1, 2)))
  for other in ((2, 2), (1, 3), (1, 2 + 2**40)):
    different = first != dropout(values, 0.5, key_of(*other)).numpy()
    assert 400 < different.sum() < 600


def test_what_is_not_finite_is_zeroed_too():
  values = tf.fill([100], np.float32(np.nan))
  found = dropout(values, 0.5, key_of()).numpy()
  assert set(np.unique(np.isnan(found))) == {False, True}
  assert not np.any(found[~np.isnan(found)])


def test_gradient_is_zero_where_the_value_is_and_scaled_elsewhere():
  values = values_of((100,))
  with tf.GradientTape() as tape:
    tape.watch(values)
    found = dropout(values, 0.25, key_of())
  gradient = tape.gradient(found, values)
  expected = np.where(found.numpy() == 0, 0, np.float32(1 / 0.75))
  np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2, float("nan")])
def test_rate_out_of_range_is_refused(rate):
  with pytest.raises(ValueError, match=rf"`rate` .*\[0, 1\), got {rate}"):
    dropout(tf.ones([3]), rate, key_of())


def test_rate_just_below_one_zeroes_nearly_everything():
  found = dropout(tf.ones([1000]), 1 - 1e-9, key_of())
  assert np.count_nonzero(found) <= 1


def test_unknown_shape_is_refused():
  @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
  def run(values):
    return dropout(values, 0.5, key_of())

  with pytest.raises(ValueError, match="`values` must have a static shape"):
    run.get_concrete_function()
