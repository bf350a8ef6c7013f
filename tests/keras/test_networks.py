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


def _other(architecture, width=0.25, **options):
  return create_model(architecture, width=width, num_classes=10, **options)


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
    (
      lambda: networks.mobilenet_v1(10, 0.25, 64),
      lambda: _other("mobilenet_v1", prune_last_layer=False),
      [64, 64, 3],
    ),
    (
      lambda: networks.mobilenet_v2(10, 0.25, None, 4.0),
      lambda: _other("mobilenet_v2", expansion_factor=4.0),
      [65, 65, 3],
    ),
    (
      lambda: networks.vgg("vgg_a", 10, 0.125, 32),
      lambda: _other("vgg_a", 0.125),
      [32, 32, 3],
    ),
    (
      lambda: networks.vgg("vgg_16", 10, 0.0625, None, False),
      lambda: _other("vgg_16", 0.0625, prune_last_layer=False),
      [37, 37, 3],
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


@pytest.mark.parametrize(
  ("make", "count"),
  [
    (networks.mobilenet_v1, 4_209_088),
    (networks.mobilenet_v2, 3_469_760),
    (networks.vgg, 15_222_464),
  ],
)
def test_kernels_are_as_large_as_those_of_the_script(make, count):
  kernels = [v for v in make().weights if v.path.endswith("kernel")]
  assert sum(np.prod(v.shape) for v in kernels) == count


def test_kernels_of_vgg_start_as_in_the_script():
  model = networks.vgg("vgg_a", image_size=32)
  script = create_model("vgg_a")
  for name in ("conv3_2", "fc8"):
    ours = np.asarray(model.get_layer(name).kernel)
    (theirs,) = (
      v.numpy() for k, v in script.named_variables.items() if name in k
    )
    assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.01)
    assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.01)


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
    (lambda: networks.resnet(18, width=0.0), "width"),
    (lambda: networks.mobilenet_v1(width=0.0), "width"),
    (lambda: networks.mobilenet_v2(width=-1.0), "width"),
    (lambda: networks.mobilenet_v2(expansion_factor=0.0), "expansion_factor"),
    (lambda: networks.vgg("vgg_13"), "name"),
    (lambda: networks.vgg(width=float("nan")), "width"),
  ],
)
def test_networks_that_do_not_exist_are_refused(make, argument):
  with pytest.raises(ValueError, match=f"`{argument}` must be"):
    make()
