# SPDX-License-Identifier: Apache-2.0
"""Learning rates of ImageNet: those that the published code printed."""

import gzip
import json
import pathlib

import gin
import numpy as np
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_state import make_learning_rate
from rigl.schedules import ConstantRate, CosineRestarts, DropsByEpoch

FILE = (
  pathlib.Path(__file__).parent.parent / "golden/imagenet_schedules.json.gz"
)
with gzip.open(FILE) as _file:
  GOLDEN = json.load(_file)


@pytest.fixture(autouse=True)
def fresh_gin():
  yield
  gin.clear_config()


def flags_of(case):
  return ImagenetSettings(
    model_architecture=case["architecture"],
    base_learning_rate=case["base_learning_rate"],
    train_batch_size=case["train_batch_size"],
    training_steps_multiplier=case["training_steps_multiplier"],
    train_steps=32000,
    training_method="rigl",
    maskupdate_begin_step=100,
    mask_init_method="random",
  )


def name_of(case):
  keys = ("architecture", "train_batch_size", "training_steps_multiplier")
  return "-".join(str(case[key]) for key in keys)


@pytest.mark.parametrize("case", GOLDEN["schedules"], ids=name_of)
def test_rates_are_the_published_ones(case):
  rate = make_learning_rate(flags_of(case))
  by_epoch = [rate.at_epoch(epoch) for epoch in GOLDEN["epochs"]]
  np.testing.assert_allclose(by_epoch, case["rates"], rtol=3e-7)
  steps, expected = zip(*case["steps"], strict=True)
  by_step = [rate.at(step) for step in steps]
  np.testing.assert_allclose(by_step, expected, rtol=3e-7)
  graph = tf.function(lambda step: rate.at(step, tf))
  in_graph = [graph(tf.constant(step, tf.int64)).numpy() for step in steps]
  np.testing.assert_allclose(in_graph, expected, rtol=3e-7)


@pytest.mark.parametrize("case", GOLDEN["schedules"], ids=name_of)
def test_the_multiplier_stretches_the_run_as_published(case):
  flags = flags_of(case)
  arguments = flags.method_arguments()
  assert flags.total_steps == case["train_steps"]
  assert arguments["begin_step"] == case["begin"]
  assert arguments["end_step"] == case["end"]


@pytest.mark.parametrize("ops", [np, tf])
def test_sgdr_is_the_published_one(ops):
  case = GOLDEN["sgdr"]
  flags = ImagenetSettings(
    use_sgdr=True,
    sgdr_decay_step=case["decay_step"],
    sgdr_t_mul=case["t_mul"],
    sgdr_m_mul=case["m_mul"],
    base_learning_rate=case["base_learning_rate"],
    train_batch_size=case["train_batch_size"],
  )
  rate = make_learning_rate(flags)
  found = [rate.at_epoch(epoch, ops) for epoch in case["epochs"]]
  np.testing.assert_allclose(found, case["lr_float32"], rtol=2e-5, atol=1e-7)


def test_sgdr_with_periods_of_one_length():
  rate = CosineRestarts(0.4, 10, first_epochs=2.0, t_mul=1.0, m_mul=0.5)
  found = [rate.at(step) for step in (0, 10, 20, 30, 40)]
  np.testing.assert_allclose(found, [0.4, 0.2, 0.2, 0.1, 0.1], rtol=1e-6)


def test_adam_has_the_rate_of_its_batch():
  flags = ImagenetSettings(use_adam=True, train_batch_size=4096)
  rate = make_learning_rate(flags)
  assert isinstance(rate, ConstantRate)
  assert rate.at(0) == rate.at(10**6) == np.float32(1.6)


def test_gin_configures_the_drops_and_a_typed_flag_wins():
  gin.parse_config("DropsByEpoch.epochs = (0, 1, 2, 3, 4)")
  gin.parse_config("DropsByEpoch.rate = 7.0")
  flags = ImagenetSettings(num_train_images=10240)
  rate = make_learning_rate(flags)
  assert [rate.at(step) for step in (0, 10)] == pytest.approx([7.0, 0.7])
  typed = make_learning_rate(flags.with_explicit(["base_learning_rate"]))
  assert typed.at(10) == pytest.approx(0.04)


@pytest.mark.parametrize(
  "arguments, named",
  [
    (dict(multipliers=(1.0,), epochs=(0, 1)), "multipliers"),
    (dict(multipliers=(1.0, 2.0), epochs=(3, 1)), "epochs"),
  ],
)
def test_a_wrong_schedule_is_named(arguments, named):
  with pytest.raises(ValueError, match=named):
    DropsByEpoch(0.1, 10, **arguments)
