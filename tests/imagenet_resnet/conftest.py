# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of the ImageNet scripts."""

import pytest
from imagenet_runs import TinyShell

from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings


@pytest.fixture
def shell(monkeypatch, capsys):
  """Runs the training script with a command line, in this process."""
  return TinyShell(imagenet_train_eval, ImagenetSettings, monkeypatch, capsys)
