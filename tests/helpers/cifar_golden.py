# SPDX-License-Identifier: Apache-2.0
"""Golden wide residual networks, for the tests beside it."""

from golden_files import arrays, load_json, network

from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.training import checkpoints

NETWORK = "wrn_22_2"


def graphs():
  """The published graphs by name: variables, masked and decayed layers."""
  return load_json("cifar_variables")["graphs"]


def model_of(graph, **options):
  """A model of a published graph, with initial weights."""
  flags = graphs()[graph]["flags"]
  return WideResNet(
    flags.get("resnet_depth", 16),
    flags.get("resnet_width", 4),
    num_classes=10,
    seed=0,
    prune_first_layer=flags.get("prune_first_layer", False),
    prune_last_layer=flags.get("prune_last_layer", True),
    masked=flags.get("training_method") != "baseline",
    **options,
  )


def golden():
  """Images, labels, logits and loss of the packed network."""
  return arrays(NETWORK)


def restored():
  """WRN-22-2 with the weights of the packed network."""
  model = model_of("wrn_22_2/rigl")
  variables = {v.name.split(":")[0]: v for v in model.variables}
  checkpoints.restore(network(NETWORK)[0], variables)
  return model
