# SPDX-License-Identifier: Apache-2.0
"""Trainer of the MNIST script."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from rigl import files
from rigl.config import method_optimizer, settings
from rigl.data.array_source import ArraySource, fingerprint
from rigl.mnist import layer_forms, mnist_data, mnist_estimator
from rigl.mnist.epoch_report import EpochLines
from rigl.mnist.input_mask import apply_input_mask
from rigl.mnist.mask_recorder import MaskRecorder
from rigl.mnist.mnist_settings import AUTO, BLOCK, CSR, NONE, MnistSettings
from rigl.mnist.mnist_state import make_model, make_state
from rigl.runners.evaluations import ArrayEvaluation
from rigl.runners.executors import make_executor
from rigl.sparse_optimizers import registry
from rigl.training import run_directory
from rigl.training.executor import Executor
from rigl.training.loop import Intervals
from rigl.training.reporting import Reporter
from rigl.training.run_directory import RunDirectory
from rigl.training.run_identity import default_directory
from rigl.training.train_state import new_global_step
from rigl.training.trainer import Trainer

_RUNS = pathlib.Path("rigl_runs") / "mnist"
_RECORDS_FILE = "mask_records.npz"
# The setting that says how long a run is.
_LENGTH = "num_epochs"


def build_trainer(flags: MnistSettings, evaluates: bool = False) -> Trainer:
  """Builds everything that a run on MNIST needs.

  Args:
    flags: the settings.
    evaluates: whether it only evaluates what another process trains.

  Raises:
    ValueError: if a setting or the data is not as it should be.
    OSError: if data cannot be read or the directory not be written.
  """
  by_estimator = flags.uses_estimator
  if by_estimator:
    mnist_estimator.check(flags)
  with flags.scope("batch_size") as replicas:
    method_optimizer.check_method(flags)
    data = apply_input_mask(_load_data(flags), flags.input_mask_path)
    identity = settings.run_identity(flags) | {"data": fingerprint(data)}
    if flags.sparse_compute == BLOCK:
      identity |= {"sparse_compute": BLOCK, "block_size": flags.block_size}
    train = {"images": data.train_images, "labels": data.train_labels}
    test = {"images": data.test_images, "labels": data.test_labels}
    source = ArraySource(train, flags.batch_size, flags.seed)
    test_source = ArraySource(test, 1, flags.seed)
    epoch = source.batches_per_epoch
    path = _directory(flags, identity)
    forms = _Forms(flags, path, replicas.count)
    model = make_model(flags, data.train_images.shape[1], forms.choose)
    state = make_state(flags, model, epoch, new_global_step())
    writes = replicas.is_chief and not evaluates
    directory = RunDirectory(
      path, identity, writes, length=_LENGTH, choices=forms.choices
    )
    intervals = Intervals(
      flags.num_epochs * epoch, epoch, save=flags.checkpoint_epochs * epoch
    )
    executor: Executor
    if by_estimator:
      executor = estimator = mnist_estimator.make_executor(
        flags, state, source, test_source, path, intervals
      )
      intervals = estimator.loop_intervals(intervals.save)
    else:
      jit_compile = flags.jit_compile != "false" and not forms.has_csr
      executor = make_executor(
        state,
        source,
        lambda make: ArrayEvaluation(
          state.task,
          test_source,
          replicas,
          jit_compile=jit_compile,
          make_program=make,
        ),
        replicas,
        jit_compile=jit_compile,
        skips=flags.skips_nonfinite,
      )
    recorder = MaskRecorder(
      state.optimizer, path / _RECORDS_FILE, flags.mask_record_frequency
    )
    return Trainer(
      state,
      executor,
      directory,
      replicas,
      intervals,
      Reporter(
        state.learning_rate,
        lambda iteration: iteration // epoch,
        EpochLines(state.optimizer, epoch),
      ),
      events=[recorder.event()],
      companions=[recorder],
      writes_checkpoints=flags.save_model,
    )


class _Forms:
  """The form of each layer, and what a run records of the choice.

  Attributes:
    choices: what `auto` took, for the run directory; empty if nothing.
    has_csr: whether a layer stores only its active connections.

  Args:
    flags: the settings.
    path: the run directory.
    num_devices: how many devices train together.

  Raises:
    ValueError: if the settings do not allow the form that they ask for, or the
      run directory is damaged.
  """

  def __init__(
    self, flags: MnistSettings, path: files.AnyPath, num_devices: int
  ) -> None:
    layer_forms.check(flags, num_devices)
    self._flags, self._num_devices = flags, num_devices
    self._earlier = run_directory.read_choices(path).get(layer_forms.CHOICE)
    self.choices: dict[str, Any] = {}
    self.has_csr = False

  def choose(
    self,
    shapes: Mapping[str, tuple[int, int]],
    sparsities: Mapping[str, float],
  ) -> layer_forms.Forms:
    """The form of every sparse layer; see `layer_forms.choose`."""
    forms = layer_forms.choose(
      self._flags, shapes, sparsities, self._num_devices, self._earlier
    )
    self.has_csr = CSR in forms.values()
    if self._flags.sparse_compute == AUTO and self._earlier is None:
      self.choices = {layer_forms.CHOICE: forms}
    return forms


def _directory(flags: MnistSettings, identity: dict[str, Any]) -> files.AnyPath:
  """The directory of a run; by default its settings name it."""
  if flags.save_path:
    return files.path(flags.save_path, "save_path")
  sparse = flags.training_method != registry.BASELINE
  sparsity = f"_{flags.end_sparsity:g}" if sparse else ""
  form = "" if flags.sparse_compute == NONE else f"-{flags.sparse_compute}"
  name = f"{flags.training_method}{form}{sparsity}_seed{flags.seed}"
  return default_directory(_RUNS, name, identity, _LENGTH)


def _load_data(flags: MnistSettings) -> mnist_data.MnistData:
  if flags.use_synthetic_data:
    return mnist_data.synthetic_mnist(seed=flags.seed)
  return mnist_data.load_mnist(flags.mnist)
