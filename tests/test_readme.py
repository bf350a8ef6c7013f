# SPDX-License-Identifier: Apache-2.0
"""Every command and example of README.md and docs/ runs, in a short form."""

import re
import runpy
import shlex
import subprocess

import numpy as np
import pages
import pytest
import tensorflow as tf
import warm_python
from pages import PAGES, ROOT

from rigl.imagenet_resnet.models.factory import create_model
from rigl.mnist.mnist_model import MnistFc

_MNIST = [
  "--use_synthetic_data",
  "--num_epochs=2",
  "--maskupdate_frequency=5",
]
_CIFAR = [
  "--use_synthetic_data",
  "--resnet_depth=10",
  "--resnet_width=1",
  "--batch_size=8",
  "--max_steps=4",
  "--maskupdate_frequency=2",
]
_SMALL_RESNET = ["--resnet_depth=18", "--width=0.1", "--image_size=32"]
_IMAGENET = [
  *_SMALL_RESNET,
  "--train_batch_size=4",
  "--train_steps=4",
  "--steps_per_eval=4",
  "--eval_batch_size=5",
  "--num_eval_images=10",
  "--export_model_freq=0",
]
# Flags that make a command short, by a part of the command; the first counts.
_SHORT = {
  "mnist_train_eval": _MNIST,
  "resnet_train_eval": _CIFAR,
  "--action=export": _CIFAR,
  "cifar10_to_tfrecords": ["--num_train_images=20", "--num_eval_images=10"],
  "--data_directory=TFRECORDS": [*_IMAGENET, "--num_train_images=20"],
  "imagenet_train_eval": [*_IMAGENET, "--use_synthetic_data"],
}
_COMMANDS = {
  "rigl-export": "rigl.exporting.command",
  "rigl-flops": "rigl.flops.command",
  "rigl-predict": "rigl.predict.command",
}
# Commands that other tests run: the suite itself, test_scripts.py,
# test_benchmarks.py and flops/paper/test_paper_rows.py.
_ELSEWHERE = re.compile(
  r"bash run\.sh$|.* scripts/train_all\.py|.* benchmarks/|.*/paper_tables\.py"
  r"|python blocks/"
)


def _commands(page):
  """The commands to run: each once, README's in the test of README."""
  known = () if page == "README.md" else pages.commands("README.md")
  return [
    command
    for command in dict.fromkeys(pages.commands(page))
    if command not in known and not _ELSEWHERE.match(command)
  ]


_EXAMPLES = [
  pytest.param(
    page,
    example,
    id=f"{page}-{i}",
    # It trains as long as a reader's first run does.
    marks=[pytest.mark.slow] if (page, i) == ("README.md", 0) else [],
  )
  for page in PAGES
  for i, example in enumerate(pages.blocks(page, "python"))
]


def _shortened(command):
  """The arguments of `bash run.sh python ...`, for this interpreter."""
  words = shlex.split(command)
  if words[0] == "python":
    return warm_python.command(*words[1:], "--platform=cpu")
  if words[2] in _COMMANDS:
    return warm_python.command("-m", _COMMANDS[words[2]], *words[3:])
  assert words[:3] == ["bash", "run.sh", "python"], command
  script, *flags = words[3:]
  short = next((s for part, s in _SHORT.items() if part in command), [])
  flags = [
    flag.replace("rigl_runs/", "").replace("configs/", f"{ROOT}/configs/")
    for flag in flags
    if "--use_synthetic_data" not in short
    or not flag.startswith("--data_directory=")
  ]
  if "--mask_record_frequency=100" in flags:
    flags[flags.index("--mask_record_frequency=100")] = (
      "--mask_record_frequency=5"
    )
  here = [word for part in (script, *flags) for word in _here(part)]
  return warm_python.command(*here, *short)


def _here(word):
  """The interpreter and scripts of a command, where the tests run."""
  if word == "python":
    return warm_python.command()
  is_script = word.endswith(".py") and not word.startswith("-")
  return [str(ROOT / word) if is_script else word]


def _save_network(prefix, model, variables):
  """Writes a checkpoint of a network whose connections are all active."""
  masks = {f"{name}/mask": tf.ones_like(k) for name, k in model.kernels.items()}
  tensors = {**masks, **variables, "global_step": np.int64(0)}
  prefix.parent.mkdir(parents=True)
  tf.raw_ops.SaveV2(
    prefix=str(prefix),
    tensor_names=list(tensors),
    shape_and_slices=[""] * len(tensors),
    tensors=[tf.convert_to_tensor(tensor) for tensor in tensors.values()],
  )


def _make_photo(path):
  photo = tf.zeros([300, 400, 3], tf.uint8)
  path.write_bytes(tf.io.encode_jpeg(photo).numpy())


def _make_digits(path):
  np.savez(path, images=np.zeros([2, 784], np.uint8))


def _make_resnet(prefix):
  resnet = create_model("resnet", 50, prune_first_layer=True)
  _save_network(prefix, resnet, resnet.named_variables)


def _make_small_resnet(prefix):
  resnet = create_model("resnet", 18, width=0.1, prune_first_layer=True)
  _save_network(prefix, resnet, resnet.named_variables)


def _make_mnist(prefix):
  mnist = MnistFc(784, 0)
  variables = {v.name.split(":")[0]: v for v in mnist.variables}
  _save_network(prefix, mnist, variables)


def _make_cifar(directory):
  """Writes official binary files of a few random images."""
  directory.mkdir()
  rng = np.random.default_rng(0)
  names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
  for name in names:
    records = rng.integers(0, 256, [10, 1 + 3072], dtype=np.uint8)
    records[:, 0] %= 10
    records.tofile(directory / f"{name}.bin")


# What the commands of a page read.
_FILES = {
  "docs/export.md": {
    "digits.npz": _make_digits,
    "mnist/model.ckpt": _make_mnist,
  },
  "docs/predict.md": {
    "photo.jpg": _make_photo,
    "digits.npz": _make_digits,
    "s90erk5x/model.ckpt-160000": _make_resnet,
    "mnist/model.ckpt": _make_mnist,
  },
  "docs/imagenet.md": {
    "path/to/ckpt/folder/model.ckpt-3200000": _make_small_resnet,
    "DIRECTORY": _make_cifar,
  },
}
# A pattern of what they write.
_RESULTS = {
  "docs/mnist.md": "records/mask_records_layer0.png",
  "docs/export.md": "digits.tflite",
  "docs/predict.md": "predictions.npz",
  "docs/imagenet.md": "RUN/result.json",
  "docs/gpu.md": "rigl_runs/**/result.json",
}


def test_the_first_commands_train_mnist_and_run_the_tests():
  first, second, *_ = pages.commands("README.md")
  assert "mnist_train_eval.py --training_method=rigl" in first
  assert second == "bash run.sh"
  assert len(pages.text_of("README.md").splitlines()) < 220


@pytest.mark.parametrize(("page", "example"), _EXAMPLES)
def test_python_example_runs_as_written(
  page, example, tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  tf.random.set_seed(0)
  path = tmp_path / "example.py"
  path.write_text(example)
  runpy.run_path(str(path))
  printed = capsys.readouterr().out
  assert printed
  if page == "README.md":
    rows, text = (
      [" ".join(line.split()) for line in lines.splitlines()]
      for lines in (printed, pages.text_of(page))
    )
    assert rows[-4].startswith("layer1 784x300 18,715 92.04%")
    assert set(rows[-5:]) <= set(text)
    assert (tmp_path / "sparse.keras").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if _commands(page)])
def test_every_command_runs_in_a_short_form(page, tmp_path):
  for name, make in _FILES.get(page, {}).items():
    make(tmp_path / name)
  for command in _commands(page):
    done = subprocess.run(
      _shortened(command), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
  if page in _RESULTS:
    assert list(tmp_path.glob(_RESULTS[page]))


def _slug(heading):
  """The anchor of a heading, as GitHub and MkDocs make it."""
  words = re.sub(r"[^\w\s-]", "", heading.replace("`", "").lower())
  return re.sub(r"[\s]+", "-", words.strip())


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_links_and_named_files_exist(page):
  text = pages.text_of(page)
  for name, anchor in re.findall(
    r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text
  ):
    path = (ROOT / page).parent / name if name else ROOT / page
    assert path.exists(), name
    if anchor:
      headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
      assert anchor in map(_slug, headings), anchor
  for name in re.findall(
    r"`((?:rigl|configs|scripts|tests|benchmarks|docs|results|examples|colabs)"
    r"/[^`*<> ]*)`",
    text,
  ):
    assert (ROOT / name).exists(), name
