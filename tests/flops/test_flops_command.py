# SPDX-License-Identifier: Apache-2.0
"""The command `rigl-flops`, and what it reads and writes."""

import csv
import dataclasses
import io
import json
import pathlib
import subprocess
import sys

import keras
import pytest
from flops_settings import make

from rigl import counting, sparse_utils
from rigl.counting import architectures
from rigl.flops import flops_models, flops_report, plots
from rigl.flops.paper import str_rows, widths
from rigl.schedules import PruningSchedule

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = architectures.network("resnet18")


def run(*flags, cwd=None):
  return subprocess.run(
    [sys.executable, "-m", "rigl.flops.command", *flags],
    capture_output=True,
    text=True,
    cwd=cwd,
    env={"PYTHONPATH": str(ROOT)},
  )


def test_command_prints_a_table():
  done = run("--model=resnet50", "--sparsity=0.9")
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert lines[0].split() == [
    "layers",
    "of",
    "resnet_model/",
    "kernel",
    "sparsity",
    "weights",
    "flops",
    "bytes",
  ]
  assert lines[54].startswith("final_dense")
  assert lines[55].startswith("total")
  published = next(n for n in lines if "FLOPs, as published" in n)
  assert published.split()[-3:] == ["1.9944e+09", "8.2023e+09", "0.2431"]


def test_command_writes_files(tmp_path):
  flags = ("--model=mnist_fc", "--format=json", "--output=out.json")
  done = run(*flags, "--plot=bars.png", cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert done.stdout == ""
  content = json.loads((tmp_path / "out.json").read_text())
  assert len(content["layers"]) == 3
  assert (tmp_path / "bars.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--model=resnet51"], "`model` must be one of"),
    (["--sparsity=1.5"], "`sparsity` must be in [0, 1), got 1.5"),
    (["--sparsity=high"], "--sparsity=high"),
    (
      ["--training_method=prune", "--drop_gradient_weight=0.1"],
      "('set', 'rigl') with `drop_gradient_weight`, got 'prune'",
    ),
    (["--plot=out.unknown"], "`plot` must be a file whose name ends with"),
    (["--output=no/such/folder"], "no/such/folder"),
  ],
)
def test_bad_input_is_an_error_in_one_line(flags, words, tmp_path):
  done = run("--model=mnist_fc", *flags, cwd=tmp_path)
  assert done.returncode == 1
  assert done.stdout == ""
  assert done.stderr.startswith("error: ")
  assert words in done.stderr
  assert len(done.stderr.splitlines()) == 1


def test_report_is_what_get_stats_counts():
  custom = {"layer3": 0.0}
  answer = make(custom_sparsities=["layer3=0"])
  layers = architectures.network("mnist_fc")
  for counted, published in ((answer.layers, False), (answer.published, True)):
    stats = sparse_utils.get_stats(
      layers,
      0.9,
      "erdos_renyi_kernel",
      custom,
      published_rules=published,
    )
    assert counting.total_count(counted).flops == pytest.approx(
      stats.total_flops
    )
    assert counting.real_sparsity(counted) == stats.real_sparsity
  assert counting.real_sparsity(answer.dense) == 0


def test_ends_have_their_own_sparsities():
  answer = make(first_layer_sparsity=0.0, last_layer_sparsity=0.5)
  assert [n.sparsity for n in answer.layers][::2] == [0.0, 0.5]


def test_training_is_that_of_the_method():
  dense = counting.total_count(make().dense).flops
  sparse = counting.total_count(make().layers).flops
  rigl = (300 * sparse + 2 * sparse + dense) / 101
  assert make().training.total_flops == pytest.approx(rigl * 20_000)
  answer = make(training_method="baseline", sparsity=0.0).training
  assert (answer.fraction, answer.inference_fraction) == (2, 1)


def test_pruning_costs_the_mean_over_its_schedule():
  # Dense for 100 steps, and then an update every 100 steps until 900.
  schedule = PruningSchedule(100, 900, 100, 0.8)
  shares = [float(schedule.sparsity_at(n)) / 0.8 for n in range(100, 1000, 100)]
  asked = make(sparsity=0.8).layers
  flops = [
    sum(counting.count_layer(n.spec, n.sparsity * s).count.flops for n in asked)
    for s in [0.0, *shares]
  ]
  training = make(sparsity=0.8, training_method="prune").training
  assert training.step_flops == pytest.approx(3 * sum(flops) / 10)


@pytest.mark.parametrize("soft_memory", [False, True])
def test_set_that_drops_by_gradients_costs_what_rigl_does(soft_memory):
  options = {"soft_memory": soft_memory, "maskupdate_frequency": 50}
  plain = make(training_method="set", **options)
  found = make(training_method="set", drop_gradient_weight=0.01, **options)
  rigl = make(training_method="rigl", **options).training
  assert found.training == rigl
  assert found.training.step_flops > plain.training.step_flops
  assert found.settings["drop_gradient_weight"] == 0.01
  same = make(training_method="rigl", drop_gradient_weight=0.01, **options)
  assert same.training == rigl


@pytest.mark.parametrize(
  ("method", "last", "backward"),
  [
    ("erdos_renyi_kernel", -1.0, 0.6),
    ("random", 0.4, 0.6),
    ("random", -1.0, -1.0),
    ("erdos_renyi", -1.0, 0.8),
  ],
)
def test_top_kast_trains_the_weights_of_its_backward_set(
  method, last, backward
):
  changes = {"method": method, "sparsity": 0.8, "last_layer_sparsity": last}
  answer = make(
    training_method="top_kast", backward_sparsity=backward, **changes
  )
  backward = 0.6 if backward < 0 else backward
  last = last if last < 0 else last * backward / 0.8
  trained = make(
    **{**changes, "sparsity": backward, "last_layer_sparsity": last}
  )
  sparse = counting.total_count(answer.layers).flops
  expected = 2 * sparse + counting.total_count(trained.layers).flops
  assert answer.training.step_flops == pytest.approx(expected)


def test_published_rules_are_an_option():
  answer = make(published_rules=True)
  assert answer.layers == answer.published
  assert make().layers != make().published


def test_csv_has_a_line_a_layer_and_the_total():
  rows = list(csv.DictReader(io.StringIO(flops_report.as_csv(make()))))
  assert [row["layer"] for row in rows] == [
    "layer1",
    "layer2",
    "layer3",
    "total",
  ]
  assert rows[0]["kernel_shape"] == "784x300"
  flops = [float(row["flops"]) for row in rows]
  assert sum(flops[:3]) == flops[3]


def test_unknown_format_is_refused():
  with pytest.raises(ValueError, match="`format` must be in .* got 'xml'"):
    flops_report.render(make(), "xml")
  assert flops_report.render(make(), "csv") == flops_report.as_csv(make())


def test_json_has_settings_and_totals():
  content = json.loads(flops_report.as_json(make()))
  assert content["settings"]["sparsity"] == 0.9
  assert content["dense"]["flops"] > content["total"]["flops"]
  assert content["training"]["fraction"] == make().training.fraction


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"custom_sparsities": ["layer1"]}, "`custom_sparsities` .* 'layer1'"),
    ({"custom_sparsities": ["layer1=x"]}, "`custom_sparsities` .* 'layer1=x'"),
    ({"custom_sparsities": ["no=0.5"]}, "`custom_sparsities` .*'no'"),
    ({"first_layer_sparsity": 1.5}, "`first_layer_sparsity` .* got 1.5"),
    ({"sparsity": float("nan")}, "`sparsity` must be .* got nan"),
    ({"method": "x"}, "`method` must be in .* got 'x'"),
    ({"training_method": "x"}, "`training_method` must be in .* got 'x'"),
    (
      {"training_method": "top_kast", "backward_sparsity": 0.95},
      "`backward_sparsity` must be at most .*0.9.* got 0.95",
    ),
    (
      {"training_method": "granet", "drop_gradient_weight": 0.1},
      "`training_method` must be in .* with `drop_gradient_weight`.*'granet'",
    ),
    (
      {"training_method": "baseline", "drop_gradient_weight": 0.1},
      "`training_method` must be in .* with `drop_gradient_weight`.*'baseline'",
    ),
    (
      {"drop_gradient_weight": -1.0},
      "`drop_gradient_weight` must be .* got -1",
    ),
    (
      {"training_method": "set", "grow_batches": 2},
      "`training_method` must be in .* with `grow_batches`, got 'set'",
    ),
    ({"initial_sparsity": 0.5}, "with `initial_sparsity`, got 'rigl'"),
    ({"backward_sparsity": 0.5}, "with `backward_sparsity`, got 'rigl'"),
    ({"pruning_frequency": 0}, "`pruning_frequency` must be at least 1"),
    ({"sparsity_begin_step": -1}, "`sparsity_begin_step` must be at least 0"),
    ({"maskupdate_begin_step": -1}, "`maskupdate_begin_step` must be at least"),
    (
      {"training_method": "prune", "sparsity_end_step": 100},
      "`sparsity_end_step` must be more than `sparsity_begin_step` = 100, got",
    ),
    ({"train_steps": 0}, "`train_steps` must be at least 1, got 0"),
    ({"param_size": 0}, "`param_size` must be at least 1, got 0"),
    ({"image_size": 0}, "`image_size` must be at least 1, got 0"),
    ({"maskupdate_frequency": 0}, "`maskupdate_frequency` must be at least 1"),
    (
      {"training_steps_multiplier": 0.0},
      "`training_steps_multiplier` must be positive .* got 0",
    ),
    ({"model": "mnist_fc.json"}, "`model` must be an existing file"),
  ],
)
def test_wrong_settings_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    make(**changes)


# --- Models -------------------------------------------------------------------


def test_layers_are_read_from_a_file(tmp_path):
  layers = architectures.network("mobilenet_v1")
  path = tmp_path / "layers.json"
  path.write_text(json.dumps([dataclasses.asdict(n) for n in layers]))
  assert flops_models.load_layers(str(path)) == layers
  scaled = flops_models.load_layers(str(path), width=2.0)
  assert scaled == counting.scale_widths(layers, 2.0)


@pytest.mark.parametrize(
  "text, message",
  [
    ("no json", "`model` must be JSON"),
    ("{}", "`model` must hold a list of layers"),
    ('[{"name": "a"}]', "`model` must hold layers with the fields"),
    (
      '[{"name": 3, "kind": "dense", "kernel_shape": [2, 2]}]',
      "`name` must be a string, got 3",
    ),
    (
      '[{"name": "a", "kind": "dense", "kernel_shape": [2], "x": 1}]',
      "`model` must hold layers",
    ),
    (
      '[{"name": "a", "kind": "dense", "kernel_shape": [2, 2],'
      ' "activation": ["relu"]}]',
      "`activation` must be None or in",
    ),
    (
      '[{"name": "a", "kind": "dense", "kernel_shape": [2, 2],'
      ' "use_bias": "no"}]',
      "`use_bias` must be True or False, got 'no' for 'a'",
    ),
    ("[]", "`layers` must have a layer"),
  ],
)
def test_broken_files_are_refused(tmp_path, text, message):
  path = tmp_path / "layers.json"
  path.write_text(text)
  with pytest.raises(ValueError, match=message):
    flops_models.load_layers(str(path))
  with pytest.raises(ValueError, match="`image_size` must not be given"):
    flops_models.load_layers(str(path), image_size=32)


def test_keras_files_are_read(tmp_path):
  model = keras.Sequential(
    [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")]
  )
  path = tmp_path / "model.keras"
  model.save(path)
  assert flops_models.load_layers(str(path)) == counting.find_layers(model)


# --- Widths -------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.5, 0.75, 0.9, 0.95])
def test_small_dense_network_is_the_nearest_of_all_widths(sparsity):
  bits = sparse_utils.get_stats(LAYERS, sparsity, "random").total_param_bits
  found = widths.width_of_size(LAYERS, bits, step=0.05, largest=1.0)
  sizes = {
    number: sparse_utils.get_stats(
      LAYERS, 0.0, "random", width=number * 0.05
    ).total_param_bits
    for number in range(1, 21)
  }
  best = min(sizes, key=lambda number: abs(sizes[number] - bits))
  assert found.width == pytest.approx(best * 0.05)
  assert found.ratio == sizes[best] / bits
  assert found.stats.total_param_bits == sizes[best]


def test_big_sparse_network_is_about_as_large_as_the_dense():
  dense = sparse_utils.get_stats(LAYERS, 0.0, "random").total_param_bits
  found = widths.width_of_size(LAYERS, dense, 0.8, "erdos_renyi_kernel")
  assert found.ratio == pytest.approx(1, abs=0.01)
  assert found.width > 1.8
  assert found.stats.real_sparsity == pytest.approx(0.8, abs=0.001)


def test_impossible_sizes_are_refused():
  with pytest.raises(ValueError, match="`bits` must be at most"):
    widths.width_of_size(LAYERS, 1e15, largest=1.0)
  with pytest.raises(ValueError, match="`bits` must be positive, got -1"):
    widths.width_of_size(LAYERS, -1)
  with pytest.raises(ValueError, match="`step` must be in"):
    widths.width_of_size(LAYERS, 1e6, step=0)


# --- STR and plots ------------------------------------------------------------


@pytest.mark.parametrize("overall", str_rows.KNOWN)
def test_learned_sparsities_have_the_overall_one(overall):
  layers = architectures.resnet(50)
  custom = str_rows.learned_sparsities(overall)
  assert list(custom) == [layer.name for layer in layers]
  stats = sparse_utils.get_stats(layers, 0.0, "random", custom)
  assert stats.real_sparsity == pytest.approx(overall, abs=6e-4)


def test_unknown_learned_sparsity_is_refused():
  with pytest.raises(ValueError, match="`overall` must be in .* got 0.5"):
    str_rows.learned_sparsities(0.5)


def test_bars_are_the_layers():
  answer = make()
  left, right = plots.plot_layers(answer.layers, answer.dense, "x").axes
  sparsities = [bar.get_width() for bar in left.patches]
  assert sparsities == [n.n_zeros / n.spec.size for n in answer.layers]
  dense = [bar.get_width() * 1e6 for bar in right.patches][:3]
  assert dense == pytest.approx([n.count.flops for n in answer.dense])


@pytest.mark.parametrize("model", ["mnist_fc", "resnet50"])
def test_no_text_of_a_chart_overlaps_another(model):
  answer = make(model=model)
  figure = plots.plot_layers(answer.layers, answer.dense, "A title")
  figure.canvas.draw()
  left, right = figure.axes
  names = [label.get_text() for label in left.get_yticklabels()]
  full = [layer.spec.name for layer in answer.layers]
  assert all(a.endswith(b) for a, b in zip(full, names, strict=True))
  texts = [
    *left.get_yticklabels(),
    *(
      label
      for axes in (left, right)
      for label in axes.get_xticklabels()
      if label.get_position()[0] <= axes.get_xlim()[1]  # Others are not drawn.
    ),
    *right.get_legend().get_texts(),
    figure.texts[0],
  ]
  boxes = [text.get_window_extent() for text in texts]
  width, height = figure.canvas.get_width_height()
  for i, box in enumerate(boxes):
    assert 0 <= box.x0 <= box.x1 <= width
    assert 0 <= box.y0 <= box.y1 <= height
    assert not any(box.overlaps(other) for other in boxes[:i])
  # In the order of the layers, from top to bottom.
  heights = [box.y0 for box in boxes[: len(names)]]
  assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("model", ["resnet50", "vgg_19", "mobilenet_v2"])
def test_lines_of_the_table_fit_a_terminal(model):
  lines = flops_report.as_text(make(model=model)).splitlines()
  assert max(map(len, lines)) <= 100
  names = [line.split()[0] for line in lines[1 : len(make(model=model).layers)]]
  assert len(set(names)) == len(names)


def test_points_are_drawn_in_order():
  figure = plots.plot_accuracy(
    {"a": [(0.5, 70.0), (0.1, 60.0)]}, dense=(1.0, 76.0)
  )
  (axes,) = figure.axes
  assert list(axes.lines[0].get_xdata()) == [0.1, 0.5]
  assert list(axes.lines[1].get_ydata()) == [76.0]
