# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of the MNIST scripts."""

import pytest
from mnist_runs import Shell

from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings


@pytest.fixture
def shell(monkeypatch, capsys):
  """Runs the training script with a command line, in this process."""
  return Shell(mnist_train_eval, MnistSettings, monkeypatch, capsys)
