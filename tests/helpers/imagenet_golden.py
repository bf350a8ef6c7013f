# SPDX-License-Identifier: Apache-2.0
"""Golden ImageNet networks, for the tests beside it."""

import numpy as np
from golden_files import arrays, load_json, network

from rigl.imagenet_resnet.models.factory import create_model, end_layers
from rigl.training import checkpoints

MEAN = 255 * np.array([0.485, 0.456, 0.406])
STDDEV = 255 * np.array([0.229, 0.224, 0.225])


def variables():
  """What `imagenet_variables.json.gz` holds."""
  return load_json("imagenet_variables")


def images():
  """Normalised images, float32 [4, 224, 224, 3]."""
  pixels = arrays("imagenet_images")["images"]
  return ((pixels - MEAN) / STDDEV).astype(np.float32)


def labels():
  """The classes of the images, int32 [4]."""
  return arrays("imagenet_images")["labels"]


ARGUMENTS = {
  "resnet18": dict(
    architecture="resnet",
    depth=18,
    width=0.25,
    prune_first_layer=True,
    prune_last_layer=False,
  ),
  "vgg_16": dict(architecture="vgg_16", width=0.25),
}


def restored(name, **settings):
  """A model with the weights of a packed network."""
  model = create_model(**ARGUMENTS[name], **settings)
  checkpoints.restore(network(name)[0], model.named_variables)
  return model


def model_of(graph):
  """A model of a published graph, with initial weights."""
  golden = variables()["graphs"][graph]
  ends = end_layers(
    golden["architecture"],
    golden["first_layer_sparsity"],
    golden["last_layer_sparsity"],
  )
  return create_model(
    golden["architecture"],
    golden["depth"],
    prune_first_layer=ends.prune_first_layer,
    prune_last_layer=ends.prune_last_layer,
  )


def published_tensors(step, slots=False):
  """What the published code writes: weights also where the mask is 0."""
  tensors, masks = network("resnet18")
  rng = np.random.default_rng(0)
  found = {**tensors, "global_step": np.int64(step)}
  for name, mask in masks.items():
    noise = rng.normal(size=mask.shape).astype(np.float32)
    weights = f"{name}/weights"
    found[weights] = np.where(mask, tensors[weights], noise)
    found[f"{name}/mask"] = mask.astype(np.float32)
    found[f"{name}/threshold"] = np.float32(0)
  if slots:
    for name in list(tensors):
      if "moving" not in name:
        slot = rng.normal(scale=1e-3, size=tensors[name].shape)
        found[f"{name}/Momentum"] = slot.astype(np.float32)
    found["last_mask_update_step"] = np.int64(25000)
  return found
