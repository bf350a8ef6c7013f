# SPDX-License-Identifier: Apache-2.0
"""The typed decorator: gin's arguments, records and errors."""

import inspect

import gin
import pytest

from rigl.configurable import configurable


@pytest.fixture(autouse=True)
def fresh_gin():
  yield
  gin.clear_config()


@configurable(module="tests", unrecorded=["quiet"])
class Square:
  """A square."""

  def __init__(self, side: float = 1.0, *, quiet: int = 2) -> None:
    if side <= 0:
      raise ValueError(f"`side` must be positive, got {side}.")
    self.side, self.quiet = side, quiet


@configurable(module="tests", denylist=["length"])
def doubled(length: float, times: float = 2.0) -> float:
  """The length times 2."""
  return length * times


def test_gin_supplies_omitted_arguments():
  gin.parse_config("Square.side = 3\nSquare.quiet = 4\ndoubled.times = 5")
  assert (Square().side, Square().quiet, Square(7).side) == (3, 4, 7)
  assert doubled(2) == 10


def test_a_denied_argument_cannot_be_bound():
  with pytest.raises(ValueError, match="length"):
    gin.parse_config("doubled.length = 3")


def test_unknown_arguments_cannot_be_bound():
  with pytest.raises(ValueError, match="sides"):
    gin.parse_config("Square.sides = 3")


def test_unrecorded_arguments_are_recorded_only_when_bound():
  Square()
  assert "Square.side = 1.0" in gin.operative_config_str()
  assert "quiet" not in gin.operative_config_str()
  gin.parse_config("Square.quiet = 4")
  Square()
  assert "Square.quiet = 4" in gin.operative_config_str()


def test_unrecorded_names_are_checked():
  with pytest.raises(ValueError, match=r"`unrecorded`.*\['depth'\]"):
    configurable(unrecorded=["depth"])(lambda side: side)


def test_the_signature_and_docstring_are_those_of_the_function():
  assert str(inspect.signature(Square)).startswith("(side: float = 1.0")
  assert inspect.signature(doubled).parameters["times"].default == 2.0
  assert (Square.__doc__, doubled.__doc__) == (
    "A square.",
    "The length times 2.",
  )


@pytest.mark.parametrize(
  "call, kind",
  [
    (lambda: Square(-1), ValueError),
    (lambda: Square(sides=1), TypeError),
    (lambda: doubled(None), TypeError),
    (lambda: doubled(), TypeError),
  ],
)
def test_errors_without_bindings_have_no_text_of_gin(call, kind):
  with pytest.raises(kind) as caught:
    call()
  assert type(caught.value) is kind
  assert "configurable" not in str(caught.value)
  assert "Gin" not in str(caught.value)
  assert "configurable" not in str(caught.value.__cause__)
  assert caught.value.__context__ is None


def test_errors_of_bound_arguments_name_the_configurable():
  gin.parse_config("Square.side = -3")
  with pytest.raises(ValueError, match="got -3") as caught:
    Square()
  assert "In call to configurable 'Square'" in str(caught.value)
