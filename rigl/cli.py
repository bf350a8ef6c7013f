# SPDX-License-Identifier: Apache-2.0
"""Console scripts: each one loads its module when it is called.

A module is loaded by name: a command without a package that it needs ends in
one line, and `rigl-flops` does without TensorFlow.
"""

from __future__ import annotations

import importlib

from rigl import missing_package
from rigl.config import app, stop_signals


def mnist() -> None:
  """`rigl-mnist`: trains a fully connected network on MNIST."""
  _run("rigl.mnist.mnist_train_eval")


def cifar10() -> None:
  """`rigl-cifar10`: trains a wide residual network on CIFAR-10."""
  _run("rigl.cifar_resnet.resnet_train_eval")


def imagenet() -> None:
  """`rigl-imagenet`: trains, evaluates and exports ImageNet models."""
  _run("rigl.imagenet_resnet.imagenet_train_eval")


def predict() -> None:
  """`rigl-predict`: predicts the classes of images."""
  _run("rigl.predict.command")


def export() -> None:
  """`rigl-export`: writes trained networks in other formats."""
  _run("rigl.exporting.command")


def flops() -> None:
  """`rigl-flops`: counts FLOPs and bytes of a sparse network."""
  _run("rigl.flops.command", needs_tensorflow=False)


def _run(module: str, needs_tensorflow: bool = True) -> None:
  """Calls the function `run` of a module."""
  stop_signals.install()
  try:
    if needs_tensorflow:  # Before anything else imports TensorFlow.
      importlib.import_module("rigl.config.tensorflow_environment")
    loaded = importlib.import_module(module)
  except ImportError as error:
    line = missing_package.describe(error)
    if line is None:
      raise
    app.fail(line)
  loaded.run()
