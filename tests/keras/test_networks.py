# SPDX-License-Identifier: Apache-2.0
"""The published networks in Keras compute what those of the scripts do."""

import numpy as np
import pytest

from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.imagenet_resnet.models.factory import create_model
from rigl.keras import networks
from rigl.keras.checkpoint_names import find_names
from rigl.mnist.mnist_model import MnistFc

_RNG = np.random.default_rng(0)


def _randomize(network):
  for name, variable in network.named_variables.items():
    noise = _RNG.normal(0, 0.05, variable.shape)
    if name.endswith("moving_variance"):
      noise = abs(noise)
    variable.assign_add(noise)


def _imagenet(depth, **options):
  return create_model("resnet", depth, 0.25, num_classes=10, **options)


@pytest.mark.parametrize(
  ("ours", "script", "shape"),
  [
    (networks.mnist_mlp, lambda: MnistFc(784, 0), [784]),
    (
      lambda: networks.mnist_mlp((50, 10), 100),
      lambda: MnistFc(100, 0, masked=False, units=(50, 10)),
      [100],
    ),
    (
      lambda: networks.wide_resnet(10, 1),
      lambda: WideResNet(10, 1, 10, 0),
      [32, 32, 3],
    ),
    (
      lambda: networks.wide_resnet(16, 2, 100),
      lambda: WideResNet(16, 2, 100, 0, True, False),
      [32, 32, 3],
    ),
    (
      lambda: networks.resnet(18, 10, 0.25, 64),
      lambda: _imagenet(18, prune_first_layer=True),
      [64, 64, 3],
    ),
    (
      lambda: networks.resnet(50, 10, 0.25, None),
      lambda: _imagenet(50, prune_last_layer=False),
      [65, 65, 3],
    ),
  ],
)
def test_logits_and_variables_are_those_of_the_script(ours, script, shape):
  model, network = ours(), script()
  _randomize(network)
  named = network.named_variables
  names = find_names(model.weights, named)
  assert sorted(names.values()) == sorted(named)
  for variable in model.weights:
    variable.assign(named[names[variable.path]].numpy())
  inputs = _RNG.normal(size=[2, *shape]).astype(np.float32)
  np.testing.assert_allclose(
    model(inputs), network(inputs), rtol=1e-4, atol=1e-5
  )


def test_size_of_the_published_networks():
  assert networks.mnist_mlp().count_params() == 266_610
  kernels = [v for v in networks.resnet().weights if "kernel" in v.path]
  assert sum(np.prod(v.shape) for v in kernels) == 25_502_912


def test_a_block_of_the_resnet_starts_as_its_shortcut():
  model = networks.resnet(50, image_size=32)
  gammas = [v for v in model.weights if v.path.endswith("gamma")]
  assert sum(not v.numpy().any() for v in gammas) == 3 + 4 + 6 + 3


@pytest.mark.parametrize(
  ("make", "argument"),
  [
    (lambda: networks.wide_resnet(20), "depth"),
    (lambda: networks.wide_resnet(22, 0), "width"),
    (lambda: networks.resnet(51), "depth"),
  ],
)
def test_networks_that_do_not_exist_are_refused(make, argument):
  with pytest.raises(ValueError, match=f"`{argument}` must be"):
    make()
