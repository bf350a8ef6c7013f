# SPDX-License-Identifier: Apache-2.0
"""The sparsities of STR: all published tables, of all layers."""

import math
import pathlib

import pytest

from rigl import sparse_utils
from rigl.counting import architectures
from rigl.sparse_utils import get_sparsities

# Shares of zeros of the first convolution and of the last layer, in percent.
STR_ENDS = {
  79.55: (51.46, 50.65),
  81.27: (51.40, 52.46),
  87.70: (63.02, 60.48),
  90.23: (59.80, 64.50),
  90.55: (59.83, 65.12),
  94.80: (64.87, 75.20),
  95.03: (67.36, 75.73),
  95.15: (66.96, 75.80),
  96.11: (72.11, 78.57),
  96.53: (69.46, 80.69),
  97.78: (73.29, 85.96),
  98.05: (73.47, 87.26),
  98.22: (72.05, 88.03),
  98.79: (75.12, 91.11),
  98.98: (76.12, 92.15),
  99.10: (77.75, 92.87),
}


@pytest.mark.parametrize("overall", STR_ENDS)
def test_str_knows_all_layers_of_every_table(overall):
  layers = {n.name: n.kernel_shape for n in architectures.resnet(50)}
  assert len(layers) == 54
  found = get_sparsities(layers, "str", overall / 100)
  ends = found["resnet_model/initial_conv"], found["resnet_model/final_dense"]
  assert ends == tuple(percent / 100 for percent in STR_ENDS[overall])
  sizes = {name: math.prod(shape) for name, shape in layers.items()}
  zeros = sum(found[name] * size for name, size in sizes.items())
  assert zeros / sum(sizes.values()) == pytest.approx(overall / 100, abs=6e-4)


def test_str_tables_stand_in_one_file():
  folder = pathlib.Path(sparse_utils.__file__).parents[1]
  assert [path.name for path in folder.rglob("*str_sparsit*.json")] == [
    "str_sparsities.json"
  ]
