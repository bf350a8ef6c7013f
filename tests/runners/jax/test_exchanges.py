# SPDX-License-Identifier: Apache-2.0
"""What devices of JAX exchange, and the check that they end equal."""

import numpy as np
import pytest

pytest.importorskip("jax")

from rigl.cifar_resnet import cifar_trainer  # noqa: E402
from rigl.cifar_resnet.cifar_settings import CifarSettings  # noqa: E402
from rigl.runners.stablehlo import lowering  # noqa: E402

pytestmark = pytest.mark.slow


def executor_of(place, **flags):
  """The executor of a small network with batch normalisation."""
  values = dict(
    runner="jax",
    strategy="default",
    compilation_cache="none",
    use_synthetic_data=True,
    training_method="rigl",
    mask_init_method="erdos_renyi_kernel",
    resnet_depth=10,
    resnet_width=1,
    batch_size=4,
    dataset_size=40,
    train_dir=str(place),
  )
  trainer = cifar_trainer.build_trainer(CifarSettings(**{**values, **flags}))
  trainer.directory.close()
  return trainer.executor


@pytest.fixture(scope="module")
def executor(tmp_path_factory):
  return executor_of(tmp_path_factory.mktemp("run"))


def exchanges(executor, kind):
  """How many there are in the body of the loop over steps."""
  text = lowering.lower(*executor.lowerable()[kind]).text
  # The body is there once more, as a function that nothing calls.
  return text[text.index("@main") :].count("stablehlo.all_reduce")


@pytest.mark.parametrize(
  ("kind", "number"),
  [("train", 1), ("update", 1), ("evaluate", 1), ("inspect", 0)],
)
def test_two_devices_exchange_once_whatever_the_number_of_variables(
  executor, monkeypatch, kind, number
):
  with monkeypatch.context() as patch:
    patch.setattr(executor.device_state.replicas, "count", 2)
    assert exchanges(executor, kind) == number
  assert len(executor.state.task.trainable_variables) > 10


def test_so_do_steps_that_may_be_skipped(tmp_path, monkeypatch):
  executor = executor_of(tmp_path, on_nonfinite="skip")
  assert exchanges(executor, "train") == 0
  monkeypatch.setattr(executor.device_state.replicas, "count", 2)
  assert exchanges(executor, "train") == 1


def test_variables_that_differ_between_devices_are_named(executor, monkeypatch):
  assert executor.unequal_variables() == []
  names = [*executor.state.all_variables]
  (mask, *_) = [name for name in names if name.endswith("/mask")]
  (average, *_) = [name for name in names if name.endswith("moving_mean")]
  values = executor.device_state.values

  def one_bit_off(variable):
    (value,) = values(variable)
    other = value.copy()
    for name in (mask, average):
      if variable is executor.state.all_variables[name]:
        octets = other.view(np.uint8).reshape(-1)
        octets[-1] ^= 1
    return [value, other]

  monkeypatch.setattr(executor.device_state, "values", one_bit_off)
  assert set(executor.unequal_variables()) == {mask, average}
