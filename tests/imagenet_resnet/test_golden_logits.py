# SPDX-License-Identifier: Apache-2.0
import imagenet_golden
import numpy as np
import pytest
import tensorflow as tf

from rigl.training import checkpoints

NETWORKS = ["resnet18", "vgg_16"]


def logits_of(model, jit_compile=False):
  function = tf.function(model, jit_compile=jit_compile)
  logits = function(imagenet_golden.images(), False)
  assert logits.dtype == tf.float32
  return logits.numpy()


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_the_published_code(name, jit_compile):
  logits = logits_of(imagenet_golden.restored(name), jit_compile)
  expected = imagenet_golden.arrays(name)["logits"]
  np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


# XLA, because TensorFlow's own CPU kernels take channels last only.
@pytest.mark.parametrize("name", NETWORKS)
def test_channels_first_gives_the_same_logits(name):
  model = imagenet_golden.restored(name, data_format="channels_first")
  expected = imagenet_golden.arrays(name)["logits"]
  np.testing.assert_allclose(
    logits_of(model, jit_compile=True), expected, rtol=0, atol=1e-5
  )


@pytest.mark.parametrize(
  ("data_format", "jit_compile"),
  [("channels_last", False), ("channels_first", True)],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_gives_about_the_same_logits(name, data_format, jit_compile):
  model = imagenet_golden.restored(
    name, precision="bfloat16", data_format=data_format
  )
  assert {v.dtype for v in model.variables} == {tf.float32}
  logits = logits_of(model, jit_compile)
  expected = imagenet_golden.arrays(name)["logits"]
  error = np.std(logits - expected) / np.std(expected)
  assert 1e-4 < error < 0.03


@pytest.mark.parametrize("name", NETWORKS)
def test_losses_are_those_of_the_published_code(name):
  model, golden = imagenet_golden.restored(name), imagenet_golden.arrays(name)
  targets = tf.one_hot(imagenet_golden.labels(), 1000) * 0.9 + 0.1 / 1000
  loss = tf.nn.softmax_cross_entropy_with_logits(targets, logits_of(model))
  assert np.ptp(golden["cross_loss"]) == 0  # It is their mean, repeated.
  mean = float(tf.reduce_mean(loss))
  assert mean == pytest.approx(float(golden["cross_loss"][0]), abs=1e-5)


def test_checkpoint_of_another_width_is_refused_by_names_and_shapes():
  model = imagenet_golden.model_of("vgg_16")
  tensors, _ = imagenet_golden.network("vgg_16")
  with pytest.raises(
    ValueError, match=r"conv1_1/weights has the shape \(3, 3, 3, 16\) "
  ):
    checkpoints.restore(tensors, model.named_variables)
