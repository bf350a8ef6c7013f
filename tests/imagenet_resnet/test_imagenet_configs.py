# SPDX-License-Identifier: Apache-2.0
"""The gin files in configs/imagenet: the rows of the published tables."""

import pathlib
import re

import gin
import pytest
from flops_settings import make

from rigl.config.gin_files import parse_gin
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_state import make_learning_rate

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs" / "imagenet"
PARTS = {"base", "erk", "erk_first_dense", "uniform", "resnet50"}
PARTS |= {"mobilenet_v1"}
FILES = sorted({path.stem for path in FOLDER.glob("*.gin")} - PARTS)
NAME = re.compile(
  r"(resnet50|mobilenet_v1)_rigl_(erk|uniform)_(0\.\d+)_(\d+)x(_nolabelsmooth)?"
)
BASELINES = ["mobilenet_v1_baseline", "resnet50_baseline"]
ISO_FLOPS = [name for name in FILES if "sparse_ift" in name]
ROWS = [name for name in FILES if name not in [*BASELINES, *ISO_FLOPS]]
LENGTHS = {"0.8": (1, 5), "0.9": (1, 5), "0.95": (5,), "0.965": (5,)}


@pytest.fixture(autouse=True)
def fresh_gin():
  yield
  gin.clear_config()


def read(name):
  parse_gin([str(FOLDER / f"{name}.gin")], [])
  return ImagenetSettings()


def test_every_published_row_has_a_file():
  rows = {
    f"resnet50_rigl_{distribution}_{sparsity}_{length}x"
    for sparsity, lengths in LENGTHS.items()
    for length in lengths
    for distribution in ("erk", "uniform")
  }
  rows |= {f"resnet50_rigl_erk_0.99_{length}x" for length in (5, 10, 40, 100)}
  rows |= {
    f"resnet50_rigl_erk_{sparsity}_{length}x_nolabelsmooth"
    for sparsity in ("0.8", "0.9", "0.95")
    for length in (1, 5)
  }
  rows |= {f"mobilenet_v1_rigl_erk_0.9_{length}x" for length in (10, 50)}
  rows |= {
    f"mobilenet_v1_rigl_uniform_0.9_{length}x" for length in (10, 50, 100)
  }
  assert rows == set(ROWS)
  assert set(BASELINES) <= set(FILES)


@pytest.mark.parametrize("name", ROWS)
def test_file_trains_what_its_name_says(name):
  flags = read(name)
  network, distribution, sparsity, length, hard = NAME.fullmatch(name).groups()
  assert flags.model_architecture == network.removesuffix("50")
  assert flags.training_method == "rigl"
  assert flags.end_sparsity == float(sparsity)
  assert flags.mask_init_method == (
    "erdos_renyi_kernel" if distribution == "erk" else "random"
  )
  whole = distribution == "erk" and sparsity != "0.99"
  assert flags.first_layer_sparsity == (-1 if whole else 0)
  assert flags.last_layer_sparsity == -1
  assert flags.label_smoothing == (0.0 if hard else 0.1)
  assert flags.total_steps == 32000 * int(length)
  arguments = flags.method_arguments()
  assert arguments["end_step"] == 25000 * int(length)
  assert arguments["drop_fraction_anneal"] == "cosine"
  assert flags.drop_fraction == 0.3


@pytest.mark.parametrize("name", ISO_FLOPS)
def test_wide_network_costs_what_the_dense_one_does(name):
  flags = read(name)
  depth, sparsity = re.fullmatch(
    r"resnet(\d+)_sparse_ift_rigl_(0\.\d+)", name
  ).groups()
  assert (flags.training_method, flags.width > 1) == ("rigl", True)
  answer = make(
    model=f"resnet{depth}",
    sparsity=float(sparsity),
    method=flags.mask_init_method,
    first_layer_sparsity=flags.first_layer_sparsity,
    last_layer_sparsity=flags.last_layer_sparsity,
    iso_flops=True,
  )
  assert flags.resnet_depth == int(depth)
  assert flags.end_sparsity == float(sparsity)
  assert flags.width == answer.iso_flops.width


@pytest.mark.parametrize("name", FILES)
def test_learning_rate_is_that_of_the_published_batch(name):
  flags = read(name)
  rate = make_learning_rate(flags)
  warm = flags.model_architecture == "mobilenet_v1"
  assert rate.at(0) == pytest.approx(0.0 if warm else 1.6)
  assert rate.at(int(0.6 * flags.total_steps)) == pytest.approx(0.16)


@pytest.mark.parametrize("name", FILES)
def test_file_opens_with_what_it_reproduces_and_how(name):
  text = (FOLDER / f"{name}.gin").read_text()
  opening = text[: text.index("\n\n")]
  assert f"--gin_config=configs/imagenet/{name}.gin" in opening
  parts = ("Hardware:", "Duration:", "Expected:", "Training FLOPs:")
  for part in parts:
    assert part in opening
