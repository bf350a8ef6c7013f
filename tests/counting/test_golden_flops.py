# SPDX-License-Identifier: Apache-2.0
"""`get_stats` against everything that the published code counted."""

import gzip
import json
import pathlib

import pytest

from rigl import counting, sparse_utils
from rigl.counting import architectures
from rigl.flops.paper import paper_rows, published_values, str_rows

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
KINDS = {
  "Conv2D": "conv2d",
  "DepthwiseConv2D": "depthwise_conv2d",
  "Dense": "dense",
}
NETWORKS = {"keras_resnet50": "resnet50", "keras_mobilenet_v1": "mobilenet_v1"}


@pytest.fixture(scope="module")
def golden():
  with gzip.open(GOLDEN / "flops.json.gz", "rt") as file:
    return json.load(file)


def specs_of(golden, model, name="kernel_name", **kinds):
  return [
    counting.LayerSpec(
      layer[name],
      {**KINDS, **kinds}[layer["keras_class"]],
      layer["kernel_shape"],
      layer["input_size"],
      layer["strides"],
    )
    for layer in golden["models"][model]
  ]


def stats_of(specs, record):
  return sparse_utils.get_stats(specs, published_rules=True, **record["args"])


def assert_published(stats, record):
  for key, value in stats._asdict().items():
    assert value == pytest.approx(record[key], rel=1e-12, abs=0), record["id"]


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("name", ["kernel_name", "layer_name"])
def test_published_rules_give_the_published_numbers(golden, model, name):
  records = [r for r in golden["records"] if r["model"] == model]
  assert len(records) >= 99
  specs = specs_of(golden, model, name)
  for record in records:
    assert_published(stats_of(specs, record), record)


def test_depthwise_layers_may_be_declared_as_the_published_code_does(golden):
  model = "keras_mobilenet_v1"
  specs = specs_of(golden, model, DepthwiseConv2D="conv2d")
  for record in [r for r in golden["records"] if r["model"] == model][::7]:
    assert_published(stats_of(specs, record), record)


@pytest.mark.parametrize("model", NETWORKS)
def test_our_architectures_cost_what_the_published_models_do(golden, model):
  # The order of layers differs, and so may the last bits.
  layers = architectures.network(NETWORKS[model])
  if model == "keras_mobilenet_v1":
    # There it is a convolution, which ERK sees.
    shape = (1, 1, *layers[-1].kernel_shape)
    layers[-1] = counting.LayerSpec("conv_preds", "conv2d", shape, 1)
  for record in golden["records"]:
    args = record["args"]
    if record["model"] != model or args["custom_sparsities"]:
      continue
    settings = {k: v for k, v in args.items() if "layer_name" not in k}
    settings["custom_sparsities"] = None
    stats = sparse_utils.get_stats(layers, published_rules=True, **settings)
    expected = record["total_flops"]
    assert stats.total_flops == pytest.approx(expected, rel=1e-12)
    expected = record["real_sparsity"]
    assert stats.real_sparsity == pytest.approx(expected, rel=1e-12)
    # ERK may leave sparsities of 1e-16 at no sparsity, in other layers.
    if args["default_sparsity"]:
      expected = record["total_param_bits"]
      assert stats.total_param_bits == pytest.approx(expected, rel=1e-12)


def test_ratios_of_the_published_notebooks(golden):
  records = {record["id"]: record for record in golden["records"]}
  ratios = [
    derived
    for derived in golden["derived"]
    if set(derived["record_ids"] or ["none"]) <= set(records)
  ]
  assert ratios
  for derived in ratios:
    first, second = (
      stats_of(specs_of(golden, records[i]["model"]), records[i])
      for i in derived["record_ids"]
    )
    ratio = first.total_param_bits / second.total_param_bits
    assert ratio == pytest.approx(derived["value"], rel=1e-12)


def test_mean_of_the_published_pruning_loop(golden):
  (loop,) = (d for d in golden["derived"] if d["average_flops"])
  layers = architectures.resnet(50)
  custom = {layers[0].name: 0, layers[-1].name: 0.8}
  flops = [
    sparse_utils.get_stats(
      layers, sparsity, "random", custom, published_rules=True
    ).total_flops
    for _, sparsity, _ in loop["steps_sparsity_recordid"]
  ]
  mean = sum(flops) / len(flops)
  assert mean == pytest.approx(loop["average_flops"], rel=1e-12)
  assert mean / flops[0] == pytest.approx(loop["average_over_first"], 1e-12)


def test_sparsities_of_str_are_the_published_ones(golden):
  layers = architectures.resnet(50)
  rows = [r for r in golden["records"] if "row" in r]
  assert len(rows) >= 9
  for record in rows:
    overall = round(record["row"]["overall_percent"] / 100, 4)
    custom = str_rows.learned_sparsities(overall)
    stats = sparse_utils.get_stats(
      layers, 0.0, "random", custom, published_rules=True
    )
    assert stats.total_flops == pytest.approx(record["total_flops"], rel=1e-9)
    assert stats.total_param_bits == pytest.approx(
      record["total_param_bits"], rel=1e-9
    )


def test_size_with_zeros_rounded_up_is_the_one_in_the_published_outputs(golden):
  # Sparsity 0.9 by ERK, depthwise kernels dense.
  rows = {int(row[0]): row for row in golden["rounded_up"]}
  setting = paper_rows.setting_of(
    published_values.MOBILENET_V1.rows[0], "mobilenet_v1"
  )
  size = paper_rows.cost_of(setting, 1, published_rules=True).size
  assert paper_rows.size_if_rounded_up(setting, size) == pytest.approx(
    rows[254][2] / 8e6, rel=1e-12
  )


def test_correct_count_has_the_sizes_that_keras_says(golden):
  for model in NETWORKS:
    layers = golden["models"][model]
    for spec, layer in zip(specs_of(golden, model), layers, strict=True):
      if spec.kind == "dense":
        continue
      padding = "same"
      if layer["input_size"] in (230, 225, 113, 57, 29, 15):
        padding = "valid"  # After a ZeroPadding2D.
      size = counting.LayerSpec(
        spec.name,
        spec.kind,
        spec.kernel_shape,
        spec.input_size,
        spec.strides,
        padding,
      ).applications
      assert size == layer["output_shape"][1] * layer["output_shape"][2]
