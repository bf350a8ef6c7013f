"""Errors of gin-configurables: with gin's text only where gin took part."""

import inspect

import gin
import pytest

from rigl.configurable import call_configured, configurable
from rigl.sparse_optimizers import SparseRigLOptimizer


@configurable(module="test_configurable")
def toy_power(base, exponent=2):
  if exponent < 0:
    raise ValueError(f"`exponent` must be at least 0, got {exponent}.")
  return base**exponent


@configurable(module="test_configurable")
class ToyBox:
  def __init__(self, size=1, **options):
    if options:
      raise KeyError("no options") from ValueError("a cause")
    self.size = toy_power(size, size)


class SmallToyBox(ToyBox):
  """A class that is not configurable itself."""


@pytest.fixture(autouse=True)
def fresh_gin():
  yield
  gin.clear_config()


def error_of(call, *args, **kwargs):
  with pytest.raises(Exception) as caught:
    call(*args, **kwargs)
  return caught.value


@pytest.mark.parametrize(
  "call",
  [lambda: toy_power(3, -1), lambda: ToyBox(-1), lambda: SmallToyBox(-1)],
)
def test_errors_of_python_calls_carry_no_gin_text(call):
  error = error_of(call)
  assert type(error) is ValueError
  assert str(error) == "`exponent` must be at least 0, got -1."
  assert error.__suppress_context__


def test_missing_and_unknown_arguments_carry_no_gin_text():
  assert "In call to configurable" not in str(error_of(toy_power))
  error = error_of(SparseRigLOptimizer, drop_fration=0.3)
  assert "In call to configurable" not in str(error)


def test_the_cause_of_an_error_is_kept():
  error = error_of(ToyBox, colour=1)
  assert str(error.__cause__) == "a cause"


@pytest.mark.parametrize("scope", ["", "inner/"])
def test_errors_of_bindings_name_the_configurable(scope):
  gin.parse_config(f"{scope}toy_power.exponent = -1")
  with gin.config_scope("inner"):
    error = error_of(toy_power, 3)
  assert isinstance(error, ValueError)
  assert "In call to configurable 'toy_power'" in str(error)


def test_bindings_of_others_do_not_matter():
  gin.parse_config("ToyBox.size = 3")
  assert "configurable" not in str(error_of(toy_power, 3, -1))


def test_gin_sees_the_arguments_and_defaults():
  assert list(inspect.signature(toy_power).parameters) == ["base", "exponent"]
  toy_power(3)
  assert "toy_power.exponent = 2" in gin.operative_config_str()
  gin.parse_config("toy_power.exponent = 3")
  assert toy_power(2) == 8
  with pytest.raises(ValueError, match="exponant"):
    gin.parse_config("toy_power.exponant = 3")


def test_explicit_arguments_win_over_gin():
  gin.parse_config("toy_power.exponent = 3")
  assert call_configured(toy_power, [], base=2, exponent=5) == 8
  assert call_configured(toy_power, ["exponent"], base=2, exponent=5) == 32
