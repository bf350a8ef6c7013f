# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of the CIFAR-10 scripts."""

import pytest
from cifar_runs import Shell

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings


@pytest.fixture
def shell(monkeypatch, capsys):
  """Runs the training script with a command line, in this process."""
  return Shell(resnet_train_eval, CifarSettings, monkeypatch, capsys)
