# SPDX-License-Identifier: Apache-2.0
"""What lies in `golden/`, for the tests of several folders."""

import functools
import gzip
import json
import pathlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@functools.cache
def load_json(name):
  """What `NAME.json.gz` holds."""
  with gzip.open(GOLDEN / f"{name}.json.gz") as file:
    return json.load(file)


@functools.cache
def arrays(name):
  """The arrays of `NAME.npz`."""
  with np.load(GOLDEN / f"{name}.npz") as file:
    return dict(file)


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
