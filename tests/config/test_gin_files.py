# SPDX-License-Identifier: Apache-2.0
"""Gin's configuration within a block, and its bindings as lines."""

import gin
import pytest

from rigl import configurable
from rigl.config import gin_files


@configurable.configurable()
def gin_files_toy(size=1, names=()):
  return size, names


@pytest.fixture(autouse=True)
def own_configuration():
  gin.clear_config()
  gin.parse_config("gin_files_toy.size = 2")
  yield
  gin.clear_config()


def test_another_configuration_counts_within_the_block_alone():
  with gin_files.applied([], ["gin_files_toy.names = ('a',)"]):
    assert gin_files_toy() == (1, ("a",))
  assert gin_files_toy() == (2, ())
  gin.parse_config("gin_files_toy.size = 3")  # It is not locked, as before.
  assert gin_files_toy() == (3, ())


def test_a_locked_configuration_is_locked_afterwards():
  gin.finalize()
  with gin_files.applied([], [], before=["gin_files_toy.size = 5", "no.x = 1"]):
    assert gin_files_toy() == (5, ())
  assert gin.config_is_locked() and gin_files_toy() == (2, ())


def test_a_wrong_binding_leaves_the_configuration_as_it_was():
  wrong = gin_files.applied([], ["no_such_thing.x = 1"])
  with pytest.raises(ValueError, match="`--gin_bindings`"), wrong:
    pytest.fail("The block began.")
  assert gin_files_toy() == (2, ())


def test_without_bindings_the_configuration_counts_in_the_block():
  with gin_files.applied([], []):
    assert gin_files_toy() == (2, ())


def test_current_bindings_are_lines_that_gin_reads_again():
  long = ", ".join(f"'name {i}'" for i in range(99))
  gin.parse_config(f"gin_files_toy.names = [{long}]\nSIZE = 7")
  gin.parse_config("gin_files_toy.size = %SIZE")
  lines = gin_files.current_bindings()
  expected = gin_files_toy()
  assert len(lines) == 3
  with gin_files.applied([], lines):
    assert gin_files_toy() == expected
  assert gin_files.current_bindings(without="gin_files_toy") == ["SIZE = 7"]
