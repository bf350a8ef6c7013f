# SPDX-License-Identifier: Apache-2.0
"""The lists of layers in `architectures` are those of the models themselves."""

import pytest

from rigl import counting, sparse_utils
from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.counting import architectures
from rigl.imagenet_resnet.models.factory import create_model
from rigl.mnist.mnist_model import MnistFc

RESNETS = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152, 200)]
# The deep ones differ by the number of blocks alone, and take seconds each.
SOME_RESNETS = [
  *RESNETS[:3],
  *(pytest.param(name, marks=pytest.mark.slow) for name in RESNETS[3:]),
]
OTHERS = ["mobilenet_v1", "mobilenet_v2", "vgg_a", "vgg_16", "vgg_19"]
SMALL = ["wrn_10_1", "wrn_22_2", "mnist_fc"]


def model_of(name, width=1.0, **arguments):
  """The model that `rigl-flops --model` calls by this name."""
  if name == "mnist_fc":
    return MnistFc(784, 0)
  if name.startswith("wrn"):
    depth, factor = map(int, name.split("_")[1:])
    return WideResNet(depth, factor, 10, 0, **arguments)
  depth = int(name.removeprefix("resnet")) if name in RESNETS else 0
  architecture = "resnet" if depth else name
  return create_model(architecture, depth, width, **arguments)


def assert_agree(model, layers):
  assert counting.find_layers(model) == layers
  for published in (False, True):
    arguments = (0.9, "erdos_renyi_kernel")
    stats = sparse_utils.get_stats(model, *arguments, published_rules=published)
    assert stats == sparse_utils.get_stats(
      layers, *arguments, published_rules=published
    )


@pytest.mark.parametrize("name", [*SMALL, "resnet18", *OTHERS])
def test_models_have_the_layers_of_the_lists(name):
  assert_agree(model_of(name), architectures.network(name))


@pytest.mark.parametrize("name", [*SOME_RESNETS, *OTHERS])
def test_narrow_models_have_the_layers_of_narrow_lists(name):
  layers = architectures.network(name, 0.37)
  assert_agree(model_of(name, 0.37), layers)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "wrn_16_1"])
@pytest.mark.parametrize("size", [33, 47, 96])
def test_sizes_of_images_agree(name, size):
  width = 1.0 if name.startswith("wrn") else 0.1
  specs = model_of(name, width).layer_specs(size)
  assert specs == architectures.network(name, width, size)


def test_expansion_agrees():
  model = create_model("mobilenet_v2", width=0.37, expansion_factor=2.5)
  layers = architectures.mobilenet_v2(0.37, expansion=2.5)
  assert_agree(model, layers)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1", "wrn_10_1"])
def test_what_is_sparsified_makes_no_difference(name):
  for first in (False, True):
    model = model_of(name, prune_first_layer=first, prune_last_layer=not first)
    assert_agree(model, architectures.network(name))
    assert set(model.kernels) <= {spec.name for spec in model.layer_specs()}


def test_an_unmasked_last_layer_of_vgg_has_biases():
  *_, last = model_of("vgg_a", 0.1, prune_last_layer=False).layer_specs()
  assert last.use_bias
  *_, last = model_of("vgg_a", 0.1).layer_specs()
  assert not last.use_bias


def test_models_refuse_impossible_images():
  with pytest.raises(ValueError, match="`image_size` must be .* 1, got 0"):
    model_of("wrn_10_1").layer_specs(0)
