# SPDX-License-Identifier: Apache-2.0
"""The model zoo: a table of the compact files of trained networks."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from rigl import counting
from rigl.counting import architectures
from rigl.flops.real_counts import count_with_sparsities, dense_count
from rigl.formats import compact
from rigl.tensor_names import is_mask

_HEADER = (
  "Network",
  "File",
  "Sparsity",
  "Size (kB)",
  "of dense",
  "FLOPs (millions)",
  "of dense",
  "Test accuracy (%)",
)
_KERNEL_RANK = 2
_SPARSITY_DIGITS = 2  # By which rows are grouped.
_TITLES = {"imagenet": "ImageNet", "cifar10": "CIFAR-10", "mnist": "MNIST"}


class Entry(NamedTuple):
  """A trained network in a compact file.

  Attributes:
    network: its name, such as WRN-22-2.
    task: the task that it was trained for.
    file: where it is, below the directory of the zoo.
    sparsity: share of zeros among the weights of all its kernels.
    bytes: size of the file.
    dense_bytes: bytes of all weights and biases in 32 bits.
    flops: FLOPs of the forward pass of one example.
    dense_flops: those of the dense network.
    accuracy: test accuracy in percent; None if the file does not say it.
  """

  network: str
  task: str
  file: str
  sparsity: float
  bytes: int
  dense_bytes: float
  flops: float
  dense_flops: float
  accuracy: float | None


def read_zoo(
  directory: pathlib.Path,
) -> tuple[list[Entry], dict[str, str]]:
  """Reads all compact files below a directory.

  Args:
    directory: where they are.

  Returns:
    The networks by task, network, sparsity and accuracy, and why other files
    were left out, by their path below the directory.

  Raises:
    ValueError: if there is no such directory.
  """
  if not directory.is_dir():
    raise ValueError(f"`{directory}` must be a directory.")
  entries, left_out = [], {}
  for path in sorted(directory.rglob(f"*{compact.SUFFIX}")):
    name = path.relative_to(directory).as_posix()
    try:
      entries.append(read_entry(path)._replace(file=name))
    except (ValueError, OSError) as error:
      left_out[name] = str(error)
    except (LookupError, TypeError, AttributeError) as error:
      left_out[name] = f"its metadata is not that of `rigl-export`: {error}"
  return sorted(entries, key=_place), left_out


def _place(entry: Entry) -> tuple[int, str, float, float, str]:
  """Sorts by task, network and sparsity; the most accurate come first."""
  return (
    [*_TITLES].index(entry.task),
    entry.network,
    round(entry.sparsity, _SPARSITY_DIGITS),
    -(entry.accuracy or 0.0),
    entry.file,
  )


def read_entry(path: pathlib.Path) -> Entry:
  """Reads a compact file of a network of one of the scripts.

  Args:
    path: the file.

  Raises:
    ValueError: if it is damaged, or the network is not known.
    LookupError, TypeError, AttributeError: if its metadata is not that of
      `rigl-export`.
    OSError: if it cannot be read.
  """
  file = compact.CompactFile(path)
  metadata = file.metadata
  task = metadata.get("task")
  if task not in _TITLES:
    raise ValueError(f"its task is {task!r}, and not one of {[*_TITLES]}")
  kernels = {
    _layer(name): shape
    for name, shape in file.shapes.items()
    if len(shape) >= _KERNEL_RANK and not is_mask(name)
  }
  name, layers = _network(task, metadata, kernels)
  for layer in layers:
    if kernels.get(layer.name) != layer.kernel_shape:
      raise ValueError(
        f"its layer {layer.name!r} has the shape {kernels.get(layer.name)}, "
        f"and that of {name} {layer.kernel_shape}"
      )
  counted = count_with_sparsities(
    layers, {_layer(n): s for n, s in metadata["sparsities"].items()}
  )
  dense = dense_count(layers)
  accuracy = metadata.get("accuracy")
  return Entry(
    name,
    task,
    path.name,
    counting.real_sparsity(counted),
    path.stat().st_size,
    dense.bytes,
    counting.total_count(counted).flops,
    dense.flops,
    None if accuracy is None else 100 * accuracy,
  )


def table(entries: list[Entry]) -> str:
  """The table in Markdown."""
  rule = ("---", "---", *("---:" for _ in _HEADER[2:]))
  rows = (_HEADER, rule, *map(_cells, entries))
  return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cells(entry: Entry) -> tuple[str, ...]:
  accuracy = "" if entry.accuracy is None else f"{entry.accuracy:.2f}"
  return (
    f"{entry.network}, {_TITLES[entry.task]}",
    f"`{entry.file}`",
    f"{entry.sparsity:.4f}",
    f"{entry.bytes / 1e3:.1f}",
    f"{entry.bytes / entry.dense_bytes:.3f}",
    f"{entry.flops / 1e6:.4g}",
    f"{entry.flops / entry.dense_flops:.3f}",
    accuracy,
  )


def _network(
  task: str,
  metadata: Mapping[str, Any],
  kernels: Mapping[str, tuple[int, ...]],
) -> tuple[str, list[counting.LayerSpec]]:
  """Name and layers of a network."""
  flags = metadata["flags"]
  if task == "mnist":
    shapes = [kernels[f"layer{i + 1}"] for i in range(len(kernels))]
    units = (shapes[0][0], *(shape[1] for shape in shapes))
    return "-".join(map(str, units)), architectures.mnist_fc(units)
  if task == "cifar10":
    depth, width = flags["resnet_depth"], flags["resnet_width"]
    layers = architectures.wide_resnet(
      depth, width, classes=flags["num_classes"]
    )
    return f"WRN-{depth}-{width}", layers
  name = flags["model_architecture"]
  if name == "resnet":
    name = f"resnet{flags['resnet_depth']}"
  width = flags["width"] if flags["width"] > 0 else 1.0
  layers = architectures.network(name, width, metadata["image_size"])
  return name if width == 1 else f"{name}, width {width:g}", layers


def _layer(name: str) -> str:
  """The layer of a kernel; names of layers without a mask have it twice."""
  *parts, _ = name.split("/")
  if parts[-2:-1] == parts[-1:]:
    parts.pop()
  return "/".join(parts)


def page(directory: str, entries: list[Entry], left_out: dict[str, str]) -> str:
  """The page of the documentation.

  Args:
    directory: where the files are, for the commands.
    entries: the networks.
    left_out: why other files were left out.
  """
  parts = [
    f"""# Model zoo

This page is generated by `scripts/model_zoo.py`:

```sh
python scripts/model_zoo.py {directory} --output=docs/model_zoo.md
```

`{directory}` holds trained networks as
[compact files](export.md#compact-files): the masks in one bit per weight, the
values of active connections, norms and biases. The path of a file names the
study, the configuration and the seed: `STUDY/CONFIG_seedNUMBER/model.rigl`. The
metrics of the run are in the same directory.""",
    table(entries) if entries else "There is no file yet.",
  ]
  if left_out:
    reasons = [f"`{name}` ({why})" for name, why in left_out.items()]
    parts.append(f"Left out: {', '.join(reasons)}.")
  parts.append(
    f"""The most accurate network of each sparsity comes first. Sizes are those
of the files, and their share of all weights and biases of the dense network in
32 bits. FLOPs are those of the forward pass of one example by [our
rules](flops.md#rules), with the zeros in the file. Accuracies are those of the
last step of training. [Methods](methods.md) explains the names in the paths.

## Use one

A compact file knows its task and flags; classifying images needs nothing else:

```sh
rigl-predict --checkpoint={directory}/FILE --images="photos/*.jpg"
```

The script of CIFAR-10 evaluates one on the test images, with the flags of its
network:

```sh
python rigl/cifar_resnet/resnet_train_eval.py --mode=eval \\
  --gin_config=configs/cifar10/rigl_erk_0.95.gin --data_directory=DIRECTORY \\
  --initial_value_checkpoint={directory}/FILE
```

`rigl-export --checkpoint={directory}/FILE` makes a SavedModel, LiteRT or ONNX
file of it, and `rigl.keras.load_compact` loads it into a Keras model.

## Add one

Export a finished run, whose `result.json` has the accuracy, and make this page
again:

```sh
rigl-export --checkpoint=RUN --format=compact \\
  --output={directory}/STUDY/CONFIG_seed0/model.rigl
```"""
  )
  return "\n\n".join(parts) + "\n"
