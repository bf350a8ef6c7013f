# SPDX-License-Identifier: Apache-2.0
"""The gin files in configs/cifar10: the runs of the study."""

import pathlib
import re

import gin
import pytest
from flops_settings import make

from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.config.gin_files import parse_gin
from rigl.config.settings import run_identity
from rigl.sparse_optimizers.registry import DROP_GROW

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs" / "cifar10"
FILES = sorted(
  path.stem for path in FOLDER.glob("*.gin") if path.stem != "base"
)
# Of wider networks.
ISO_FLOPS = [name for name in FILES if "sparse_ift" in name]
# Its name in the paper: that in the flags.
METHODS = {"static": "scratch", "mest": "set"}
NAME = re.compile(
  r"(?:wrn_22_(\d+)_)?(top_kast|[a-z]+)"
  r"(?:_itop|_global|_small_backward|_half_exploration)?"
  r"_erk_(0\.\d+)(?:_(.+)x)?$"
)


@pytest.fixture(autouse=True)
def fresh_gin():
  yield
  gin.clear_config()


def read(name):
  parse_gin([str(FOLDER / f"{name}.gin")], [])
  return CifarSettings()


def test_the_published_rows_have_files():
  rows = {
    f"{method}_erk_{sparsity}"
    for method in ("rigl", "static", "prune")
    for sparsity in ("0.5", "0.8", "0.9", "0.95")
  }
  assert rows | {f"{row}_2x" for row in rows if "rigl" in row} <= set(FILES)


@pytest.mark.parametrize(
  "name", [n for n in FILES if n not in ["baseline", *ISO_FLOPS]]
)
def test_file_trains_what_its_name_says(name):
  settings = read(name)
  width, method, sparsity, times = NAME.match(name).groups()
  assert settings.training_method == METHODS.get(method, method)
  assert settings.end_sparsity == float(sparsity)
  assert settings.mask_init_method == "erdos_renyi_kernel"
  assert (settings.resnet_depth, settings.resnet_width) == (22, int(width or 2))
  assert settings.total_steps == int(97656 * float(times or 1))
  arguments = settings.method_arguments()
  if settings.training_method in DROP_GROW:
    assert arguments["end_step"] == int(75000 * float(times or 1))
  assert arguments["weight_decay"] == 5e-4


@pytest.mark.parametrize(("method", "period"), [("rigl", 4000), ("set", 1500)])
@pytest.mark.parametrize("sparsity", ["0.9", "0.95"])
def test_itop_moves_more_at_rarer_updates(method, period, sparsity):
  arguments = read(f"{method}_itop_erk_{sparsity}").method_arguments()
  gin.clear_config()
  plain = read(f"{method}_erk_{sparsity}").method_arguments()
  changed = {n: v for n, v in arguments.items() if v != plain[n]}
  assert changed == {
    "frequency": period,
    "drop_fraction": 0.5,
    "track_exploration": True,
  }


@pytest.mark.parametrize("sparsity", ["0.9", "0.95", "0.98"])
def test_top_kast_trains_twice_as_many_weights_as_compute(sparsity):
  arguments = read(f"top_kast_erk_{sparsity}").method_arguments()
  trained = 1 - arguments["backward_sparsity"]
  assert trained == pytest.approx(2 * (1 - float(sparsity)))
  assert (arguments["frequency"], arguments["end_step"]) == (100, -1)


@pytest.mark.parametrize(("sparsity", "times"), [(0.9, 0.86), (0.95, 0.89)])
def test_variants_of_top_kast_differ_in_what_they_are_named_after(
  sparsity, times
):
  plain = read(f"top_kast_erk_{sparsity}").method_arguments()
  changes = {
    "small_backward": {
      "backward_sparsity": pytest.approx(1 - 1.5 * (1 - sparsity))
    },
    "half_exploration": {"end_step": int(times * 97656 / 2)},
  }
  for variant, expected in changes.items():
    gin.clear_config()
    name = f"top_kast_{variant}_erk_{sparsity}_{times}x"
    arguments = read(name).method_arguments()
    changed = {n: v for n, v in arguments.items() if v != plain[n]}
    assert changed == expected


@pytest.mark.parametrize("sparsity", [0.9, 0.95, 0.98])
@pytest.mark.parametrize("method", ["mest", "rigl_global"])
def test_soft_memory_has_the_surplus_of_the_authors(method, sparsity):
  settings = read(f"{method}_erk_{sparsity}")
  arguments = settings.method_arguments()
  assert arguments["soft_memory"] is True
  assert arguments["across_layers"] is (method == "rigl_global")
  # 5 % of all weights at first, of at most as many as there are connections.
  surplus = arguments["drop_fraction"] * (1 - sparsity)
  assert surplus == pytest.approx(min(0.05, 1 - sparsity))
  assert arguments["drop_fraction_anneal"] == "cosine"


@pytest.mark.parametrize(
  ("sparsity", "width"), [("0.75", 4), ("0.9", 6)], ids=["0.75", "0.9"]
)
def test_wide_network_costs_at_most_what_the_dense_one_does(sparsity, width):
  settings = read(f"sparse_ift_rigl_{sparsity}")
  assert settings.training_method == "rigl"
  assert settings.end_sparsity == float(sparsity)
  assert settings.resnet_width == width
  assert not (settings.prune_first_layer or settings.prune_last_layer)
  answer = make(
    model="wrn_22_2",
    sparsity=float(sparsity),
    method=settings.mask_init_method,
    first_layer_sparsity=0.0,
    last_layer_sparsity=0.0,
    iso_flops=True,
  )
  assert width == int(2 * answer.iso_flops.width)


def test_file_is_the_run_of_the_same_flags():
  by_file = run_identity(read("rigl_erk_0.95"))
  gin.clear_config()
  flags = CifarSettings(
    resnet_depth=22,
    resnet_width=2,
    training_method="rigl",
    end_sparsity=0.95,
    mask_init_method="erdos_renyi_kernel",
    drop_fraction_anneal="cosine",
  )
  assert by_file == run_identity(flags)


@pytest.mark.parametrize("name", FILES)
def test_file_opens_with_what_it_reproduces_and_how(name):
  text = (FOLDER / f"{name}.gin").read_text()
  opening = text[: text.index("\n\n")]
  assert f"--gin_config=configs/cifar10/{name}.gin" in opening
  for part in ("Hardware:", "Duration:", "Expected:"):
    assert part in opening
