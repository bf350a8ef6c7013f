"""Golden ImageNet networks, for the tests beside it."""

import functools
import gzip
import json
import pathlib

import numpy as np

from rigl.imagenet_resnet.models import create_model, end_layers
from rigl.training import checkpoints

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
MEAN = 255 * np.array([0.485, 0.456, 0.406])
STDDEV = 255 * np.array([0.229, 0.224, 0.225])


@functools.cache
def variables():
  """What `imagenet_variables.json.gz` holds."""
  with gzip.open(GOLDEN / "imagenet_variables.json.gz") as file:
    return json.load(file)


@functools.cache
def arrays(name):
  """The arrays of a file."""
  with np.load(GOLDEN / f"{name}.npz") as file:
    return dict(file)


def images():
  """Normalised images, float32 [4, 224, 224, 3]."""
  pixels = arrays("imagenet_images")["images"]
  return ((pixels - MEAN) / STDDEV).astype(np.float32)


def labels():
  """The classes of the images, int32 [4]."""
  return arrays("imagenet_images")["labels"]


@functools.cache
def network(name):
  """({variable: value}, {layer: mask}) of a packed network."""
  packed = arrays(name)
  values, bits = packed["values"], np.unpackbits(packed["masks"])
  tensors, masks = {}, {}
  for variable, shape, masked in json.loads(packed["index"].tobytes()):
    size = int(np.prod(shape))
    if masked:
      mask = bits[:size].reshape(shape).astype(bool)
      bits = bits[size:]
      masks[variable.rsplit("/", 1)[0]] = mask
      tensors[variable] = np.zeros(shape, np.float32)
      count = np.count_nonzero(mask)
      tensors[variable][mask], values = values[:count], values[count:]
    else:
      tensors[variable] = values[:size].reshape(shape)
      values = values[size:]
  return tensors, masks


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
