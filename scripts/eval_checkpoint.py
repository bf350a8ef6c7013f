# SPDX-License-Identifier: Apache-2.0
"""Evaluates a published checkpoint on ImageNet.

Fetches its archive, unpacks it, finds the checkpoint and the flags of its
model, and prints top-1, top-5, losses and sparsities.

  python scripts/eval_checkpoint.py [--sha256=HEX] NAME DATA [FLAG ...]
  python scripts/eval_checkpoint.py s90erk5x path/to/imagenet
  python scripts/eval_checkpoint.py s90erk5x.tar.gz gs://bucket/imagenet
  NAME   name of a published archive (--list prints them), an archive (.tar,
         .tar.gz, .tgz, .zip), the URL of one, or a folder with a checkpoint
  DATA   as --data_directory of the ImageNet script; "synthetic" needs none
  FLAG   further flags of that script; they win over those of the checkpoint
  --sha256=HEX  the checksum that the archive must have
  OUT    (environment) where archives are kept and unpacked
         (rigl_runs/checkpoints)
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple, NoReturn

from rigl.imagenet_resnet.published import archives, downloads

ROOT = pathlib.Path(__file__).resolve().parents[1]
PUBLISHED = "https://storage.googleapis.com/gresearch/rigl"
NAMES = [
  "s80erk5x",
  "s80uniform5x",
  "s90erk5x",
  "s90uniform5x",
  "s95erk5x",
  "s95uniform5x",
  "s965erk5x",
  "s965uniform5x",
  "s99erk5x",
  "s99erk10x",
  "s99erk40x",
  "s99erk100x",
  "s80erk1x",
  "s80uniform1x",
  "s90erk1x",
  "s90uniform1x",
  "S80erk_nolabelsmooth_1x",
  "S80erk_nolabelsmooth_5x",
  "S90erk_nolabelsmooth_1x",
  "S90erk_nolabelsmooth_5x",
  "S95erk_nolabelsmooth_1x",
  "S95erk_nolabelsmooth_5x",
  "mbv1_s90_erk10x",
  "mbv1_s90_erk50x",
  "mbv1_s90_uniform10x",
  "mbv1_s90_uniform50x",
  "mbv1_s90_uniform100x",
]
OPTION = "--sha256"
SYNTHETIC = "synthetic"
EXIT_CODE = 2
# Windows has no SIGHUP.
STOP_SIGNALS = [
  getattr(signal, name)
  for name in ("SIGINT", "SIGTERM", "SIGHUP")
  if hasattr(signal, name)
]


class Request(NamedTuple):
  """What the command line asks for.

  Attributes:
    name, data, flags: NAME, DATA and FLAG of the command line.
    sha256: the checksum of the archive; None if it is not known.
    out: where archives are kept and unpacked.
  """

  name: str
  data: str
  flags: list[str]
  sha256: str | None
  out: pathlib.Path


def parse(arguments: Sequence[str]) -> Request:
  """Reads the command line.

  NAME may start with a dash, as any file may.

  Raises:
    ValueError: if NAME or DATA is missing, or the checksum is none.
  """
  rest, sha256 = [], None
  words = iter(arguments)
  for word in words:
    option, equals, value = word.partition("=")
    if option == OPTION:
      sha256 = downloads.parse_sha256(value if equals else next(words, ""))
    else:
      rest.append(word)
  if len(rest) < 2 or not all(rest[:2]):
    raise ValueError("needs NAME and DATA; --help explains them.")
  out = pathlib.Path(os.environ.get("OUT") or "rigl_runs/checkpoints")
  return Request(rest[0], rest[1], rest[2:], sha256, out)


def find_checkpoint(request: Request) -> pathlib.Path:
  """The prefix of the checkpoint, which is fetched and unpacked if need be.

  Raises:
    ValueError: if there is none, or something is not as it should be.
    OSError: if a file cannot be read or written.
  """
  place = pathlib.Path(request.name)
  if place.is_dir():
    if request.sha256:
      raise ValueError(f"`{OPTION}` is for archives, and {place} is a folder.")
    files = [path for path in place.rglob("*") if path.is_file()]
  else:
    place = _find_archive(request)
    folder = request.out / f"{archives.stem(place.name)}.unpacked"
    files = archives.unpack(place, folder)
  prefix = archives.newest_checkpoint(files)
  if prefix is None:
    raise ValueError(
      f"{place} holds no checkpoint (no *.index with its *.data-*)."
    )
  return prefix


def _find_archive(request: Request) -> pathlib.Path:
  """The archive, whose checksum is printed, and compared if one is given."""
  name, sha256 = request.name, request.sha256
  if pathlib.Path(name).is_file():
    archive, url = pathlib.Path(name), None
  elif name in NAMES:
    archive = request.out / f"{name}.tar.gz"
    url = f"{PUBLISHED}/{archive.name}"
  elif downloads.is_url(name):
    url = downloads.web_url(name)
    # Files of one name at two places are two archives.
    mark = hashlib.sha256(url.encode()).hexdigest()[:8]
    archive = request.out / f"{mark}-{downloads.file_name(url)}"
  else:
    raise ValueError(
      f"NAME: there is no file or folder {name!r}, and the published names "
      f"are: {' '.join(NAMES)}"
    )
  if url is not None and not archive.exists():
    _check_data(request.data)
    request.out.mkdir(parents=True, exist_ok=True)
    print(f"Fetching {url} ...", file=sys.stderr)
    downloads.fetch(url, archive, sha256)
  found = downloads.sha256_of(archive)
  downloads.check_sha256(str(archive), found, sha256)
  print(f"{archive}: SHA-256 {found}", file=sys.stderr)
  return archive


def _check_data(data: str) -> None:
  """Raises ValueError if there are no images, before an archive is fetched."""
  if data != SYNTHETIC and "://" not in data and not os.path.isdir(data):
    raise ValueError(f"DATA: there is no folder {data!r}.")


def command_of(request: Request, prefix: pathlib.Path) -> list[str]:
  """The command that evaluates a checkpoint.

  Raises:
    ValueError: if the checkpoint is damaged or of no model of this package.
  """
  # These take seconds, which a wrong argument need not wait for.
  from rigl.config import tensorflow_environment  # noqa: F401 - Comes first.
  from rigl.imagenet_resnet.published import checkpoint_flags

  try:
    shapes = checkpoint_flags.read_shapes(str(prefix))
    flags = checkpoint_flags.command_line(checkpoint_flags.find_flags(shapes))
  except ValueError as error:
    raise ValueError(f"{prefix}: {error}") from error
  if "nolabelsmooth" in request.name:
    flags.append("--label_smoothing=0")
  if request.data == SYNTHETIC:
    flags.append("--use_synthetic_data")
  else:
    flags.append(f"--data_directory={request.data}")
  return [
    sys.executable,
    str(ROOT / "rigl" / "imagenet_resnet" / "imagenet_train_eval.py"),
    "--mode=eval_once",
    f"--output_dir={prefix.parent}",
    f"--eval_once_ckpt_prefix={prefix.name}",
    "--use_folder_stub=False",
    *flags,
    *request.flags,
  ]


def fail(message: str) -> NoReturn:
  """Prints one line and exits."""
  print("error: " + " ".join(message.split()), file=sys.stderr)
  sys.exit(EXIT_CODE)


def stop(number: int, frame: FrameType | None) -> NoReturn:
  """Ends the process; an exception lets a download remove what it wrote."""
  del frame
  print(f"Stopped by {signal.Signals(number).name}.", file=sys.stderr)
  sys.exit(128 + number)


def main(arguments: Sequence[str]) -> NoReturn:
  """Finds the checkpoint, prints the command that evaluates it and runs it."""
  if arguments[:1] == ["--list"]:
    print("\n".join(NAMES))
    sys.exit()
  if arguments[:1] in (["--help"], ["-h"]):
    print((__doc__ or "").strip())
    sys.exit()
  for number in STOP_SIGNALS:
    if signal.getsignal(number) is not signal.SIG_IGN:  # As `nohup` leaves it.
      signal.signal(number, stop)
  try:
    request = parse(arguments)
    command = command_of(request, find_checkpoint(request))
  except (OSError, ValueError) as error:
    fail(str(error))
  print(shlex.join(command), flush=True)
  os.execv(sys.executable, command)


if __name__ == "__main__":
  main(sys.argv[1:])
