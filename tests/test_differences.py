# SPDX-License-Identifier: Apache-2.0
"""docs/differences.md: its checklist is whole, its statements hold."""

import ast
import dataclasses
import re

import imagenet_runs
import numpy as np
import pages
import pytest
import tensorflow as tf
from cifar_runs import SHORT as CIFAR
from cifar_runs import active
from mnist_runs import SHORT as MNIST
from script_runs import Shell, final_tensors

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_state import make_learning_rate
from rigl.imagenet_resnet.imagenet_trainer import build_trainer
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings
from rigl.sparse_optimizers.registry import METHODS

PAGE = "docs/differences.md"
STATUS = re.compile(r"same(; .+)?$|different, because .+|left out: .+")
BEHAVIOURS = "tests/test_published_behaviours.py"
UNIT_TESTS = {
  "SparseSETOptimizerTest": 7,
  "SparseStaticOptimizerTest": 1,
  "SparseMomentumOptimizerTest": 1,
  "SparseRigLOptimizerTest": 2,
  "SparseSnipOptimizerTest": 4,
  "SparseDNWOptimizerTest": 5,
  "GetMaskRandomTest": 3,
  "GetSparsitiesTest": 4,
  "DataHelperTest": 2,
  "DataInputTest": 1,
}


def rows(heading):
  """The cells of the table below a heading."""
  text = pages.text_of(PAGE)
  (part,) = re.findall(
    rf"^#+ {heading}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE
  )
  lines = [line for line in part.splitlines() if line.startswith("|")]
  return [
    [cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]
  ]


def functions_of(path):
  tree = ast.parse((pages.ROOT / path).read_text(encoding="utf-8"))
  return {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize(
  "heading, count",
  [
    ("Commands of the published README", 8),
    ("Calculations of the published notebooks", 11),
    ("Published unit tests", 30),
  ],
)
def test_every_line_has_a_status(heading, count):
  found = rows(heading)
  assert len(found) == count
  for row in found:
    assert STATUS.match(row[1]), row


def test_every_published_unit_test_has_a_test_here():
  found = {}
  for name, _, test in rows("Published unit tests"):
    group, _, published = name.strip("`").partition(".")
    found.setdefault(group, set()).add(published)
    place = test.strip("`")
    if place.startswith("tests/"):
      assert functions_of(place)
    else:
      assert place in functions_of(BEHAVIOURS)
  assert {group: len(names) for group, names in found.items()} == UNIT_TESTS


def test_every_test_of_published_behaviours_is_listed():
  listed = {row[2].strip("`") for row in rows("Published unit tests")}
  tests = {n for n in functions_of(BEHAVIOURS) if n.startswith("test_")}
  assert tests <= listed


def test_paths_and_flags_of_the_page_exist():
  text = pages.text_of(PAGE)
  names = {
    field.name
    for settings in (MnistSettings, CifarSettings, ImagenetSettings)
    for field in dataclasses.fields(settings)
  }
  flags = set(re.findall(r"--(\w+)", text))
  assert flags and flags <= names
  for path in re.findall(r"`(tests/[\w/.]+)`", text):
    assert (pages.ROOT / path).exists(), path


# --- Summaries ----------------------------------------------------------------


def tags_below(path, kind):
  found = set()
  for file in (path / kind).glob("events.out.*"):
    for event in tf.compat.v1.train.summary_iterator(str(file)):
      found |= {value.tag for value in event.summary.value}
  return found


def ours_of(name):
  """The names of our scalars that the lines of a task name."""
  found = set()
  for published, here in rows("Summaries"):
    if published.startswith(name):
      found |= set(re.findall(r"`([\w/]+)`", here.split(";")[0]))
  return found - {"eval", "eval_once", "LAYER", "sparsity/LAYER"}


SCRIPTS = {
  "MNIST": (mnist_train_eval, MnistSettings, (*MNIST, "--num_epochs=1")),
  "CIFAR-10": (
    resnet_train_eval,
    CifarSettings,
    (*CIFAR, "--mode=train_and_eval", "--max_steps=3"),
  ),
  "ImageNet": (
    imagenet_train_eval,
    ImagenetSettings,
    (
      *imagenet_runs.TINY,
      "--use_synthetic_data",
      "--mode=train_and_eval",
      "--train_steps=2",
      "--num_eval_images=4",
    ),
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_summaries_have_the_names_of_the_table(
  name, eagerly, monkeypatch, capsys, tmp_path
):
  script, settings, arguments = SCRIPTS[name]
  shell = Shell(script, settings, monkeypatch, capsys)
  shell.done(*arguments, "--training_method=set", f"--output_dir={tmp_path}")
  (run,) = tmp_path.rglob("run.json")
  tags = tags_below(run.parent, "train") | tags_below(run.parent, "eval")
  named = ours_of(name)
  assert len(named) >= 2
  assert named | {"drop_fraction", "sparsity"} <= tags | {"epoch"}
  assert any(tag.startswith("sparsity/") for tag in tags)


# --- Flags --------------------------------------------------------------------


def test_pruning_of_cifar10_takes_a_distribution_and_snip_a_power_scale():
  arguments = CifarSettings(
    training_method="prune", mask_init_method="erdos_renyi_kernel"
  ).method_arguments()
  assert arguments["mask_init_method"] == "erdos_renyi_kernel"
  for method in ("snip", "dnw"):
    arguments = ImagenetSettings(
      training_method=method, erk_power_scale=0.2
    ).method_arguments()
    assert arguments["erk_power_scale"] == 0.2
    assert arguments["mask_init_method"] == "random"


@pytest.mark.parametrize("settings", [MnistSettings, CifarSettings])
def test_all_methods_exist_for_small_tasks(settings):
  for method in METHODS:
    assert settings(training_method=method).training_method == method


@pytest.mark.parametrize("multiplier", [0.5, 3.0])
def test_multiplier_leaves_restarts_of_the_rate_and_intervals(multiplier):
  flags = ImagenetSettings(use_sgdr=True)
  stretched = dataclasses.replace(flags, training_steps_multiplier=multiplier)
  plain, other = make_learning_rate(flags), make_learning_rate(stretched)
  for step in (0, 1000, 6000, 20000):
    assert float(plain.at(step)) == float(other.at(step))
  for name in ("steps_per_eval", "steps_per_checkpoint", "export_model_freq"):
    assert getattr(stretched, name) == getattr(flags, name)
  adam = dataclasses.replace(stretched, use_sgdr=False, use_adam=True)
  assert float(make_learning_rate(adam).at(10**6)) == pytest.approx(0.4)


@pytest.mark.parametrize("settings", [CifarSettings, ImagenetSettings])
@pytest.mark.parametrize("multiplier", [0.5, 2.0])
def test_multiplier_leaves_an_endless_window(settings, multiplier):
  flags = settings(
    training_method="set",
    mask_init_method="random",
    maskupdate_begin_step=6,
    maskupdate_end_step=-1,
    training_steps_multiplier=multiplier,
  )
  found = flags.method_arguments()
  assert found["end_step"] == -1
  assert found["begin_step"] == int(6 * multiplier)


# --- Masks and parameters of other runs ---------------------------------------


def test_seed_of_a_run_brings_its_initial_weights(
  eagerly, monkeypatch, capsys, tmp_path
):
  shell = Shell(resnet_train_eval, CifarSettings, monkeypatch, capsys)
  common = (*CIFAR, "--seed=4")
  first = shell.run_of(
    *common, "--training_method=prune", f"--train_dir={tmp_path / 'a'}"
  )
  initial = {n: v.numpy() for n, v in first.state.variables.items()}
  shell.done(
    *common, "--training_method=prune", f"--train_dir={tmp_path / 'b'}"
  )
  (done,) = (tmp_path / "b").rglob("run.json")
  masks = active(final_tensors(done.parent))
  ticket = shell.run_of(
    *common,
    "--training_method=scratch",
    f"--load_mask_dir={done.parent}",
    f"--train_dir={tmp_path / 'c'}",
  )
  assert masks
  for layer, mask in masks.items():
    name = f"{layer}/weights"
    found = ticket.state.variables[name].numpy()
    np.testing.assert_array_equal(found, np.where(mask, initial[name], 0))
    assert np.all(initial[name] != 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["snip", "dnw"])
def test_parameters_are_loaded_by_methods_that_start_dense(
  method, eagerly, tmp_path
):
  common = ImagenetSettings(
    use_synthetic_data=True,
    resnet_depth=18,
    width=0.1,
    image_size=32,
    num_label_classes=5,
    train_batch_size=2,
    train_steps=1,
    training_method=method,
    use_folder_stub=False,
    export_model_freq=0,
    output_dir=str(tmp_path / "first"),
  )
  first = build_trainer(common)
  first.prepare()
  first.save()
  first.directory.close()
  second = build_trainer(
    dataclasses.replace(
      common,
      seed=9,
      output_dir=str(tmp_path / "second"),
      initial_value_checkpoint=str(tmp_path / "first"),
    )
  )
  for name, variable in second.state.variables.items():
    if name.endswith("/weights"):
      np.testing.assert_array_equal(variable, first.state.variables[name])
  second.directory.close()
