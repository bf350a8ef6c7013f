# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import gin
import pytest
from absl import flags

from rigl.config import gin_files, settings
from rigl.config.settings import setting


@gin.configurable(module="test_settings")
@dataclasses.dataclass(frozen=True)
class ToySettings(settings.Settings):
  toy_rate: float = setting(0.5, "A rate.", minimum=0.0)
  toy_count: int = setting(3, "A count.", minimum=1, maximum=10)
  toy_share: float = setting(0.1, "A share.", minimum=0.0, less_than=1.0)
  toy_kind: str = setting("a", "A kind.", choices=("a", "b"))
  toy_fast: bool = setting(False, "Whether it is fast.")
  toy_path: str = setting("", "A path.", defines_run=False)


@gin.configurable(module="test_settings")
def toy_function(size=1, rate=2.0, name="x"):
  return size, rate, name


@pytest.fixture(autouse=True)
def toy_flags():
  before = set(flags.FLAGS)
  settings.define_flags(ToySettings)
  yield
  for name in set(flags.FLAGS) - before:
    delattr(flags.FLAGS, name)
  gin.clear_config()


def read(*arguments):
  flags.FLAGS(["program", *arguments])
  return settings.read_flags(ToySettings)


def identity(*arguments):
  return settings.run_identity(read(*arguments))


def binding(text):
  return f"--gin_bindings={text}"


def test_without_flags_and_gin_all_are_defaults():
  found = read()
  assert found == ToySettings()
  assert found.explicit == frozenset()


def test_gin_wins_over_the_default():
  found = read(binding("ToySettings.toy_count = 5"))
  assert found == ToySettings(toy_count=5)
  assert found.explicit == frozenset()


@pytest.mark.parametrize("count", [3, 7])
def test_typed_flag_wins_over_gin_even_if_it_is_the_default(count):
  found = read(f"--toy_count={count}", binding("ToySettings.toy_count = 5"))
  assert found.toy_count == count
  assert found.explicit == {"toy_count"}


def test_flags_of_every_type_are_read():
  found = read(
    "--toy_rate=2",
    "--toy_count=4",
    "--toy_kind=b",
    "--toy_fast",
    "--toy_path=/somewhere",
  )
  assert found == ToySettings(2.0, 4, 0.1, "b", True, "/somewhere")
  assert len(found.explicit) == 5


def test_bindings_win_over_files_and_later_files_over_earlier(tmp_path):
  one, two = tmp_path / "one.gin", tmp_path / "two.gin"
  one.write_text("ToySettings.toy_count = 4\nToySettings.toy_rate = 4.0\n")
  two.write_text("ToySettings.toy_count = 5\nToySettings.toy_share = 0.5\n")
  found = read(
    f"--gin_config={one}",
    f"--gin_config={two}",
    binding("ToySettings.toy_share = 0.6"),
  )
  assert found == ToySettings(4.0, 5, 0.6)


def test_includes_are_relative_to_their_file(tmp_path, monkeypatch):
  folder = tmp_path / "folder"
  folder.mkdir()
  (folder / "base.gin").write_text("ToySettings.toy_count = 4\n")
  (folder / "top.gin").write_text("include 'base.gin'\n")
  monkeypatch.chdir(tmp_path)
  assert read("--gin_config=folder/top.gin").toy_count == 4


def test_earlier_gin_configuration_is_forgotten():
  read(binding("ToySettings.toy_count = 5"))
  flags.FLAGS.unparse_flags()
  flags.FLAGS["gin_bindings"].value = []
  assert read().toy_count == 3


@pytest.mark.parametrize(
  ("value", "expected"),
  [
    ("toy_rate = 'fast'", "`toy_rate` must be of type float, got 'fast'"),
    ("toy_rate = True", "`toy_rate` must be of type float, got True"),
    ("toy_count = 2.0", "`toy_count` must be of type int, got 2.0"),
    ("toy_count = True", "`toy_count` must be of type int, got True"),
    ("toy_count = None", "`toy_count` must be of type int, got None"),
    ("toy_fast = 1", "`toy_fast` must be of type bool, got 1"),
    ("toy_kind = 3", "`toy_kind` must be of type str, got 3"),
    ("toy_kind = 'c'", "`toy_kind` must be one of ['a', 'b'], got 'c'"),
    ("toy_rate = -0.1", "`toy_rate` must be in [0.0, inf), got -0.1"),
    ("toy_count = 0", "`toy_count` must be in [1, 10], got 0"),
    ("toy_count = 11", "`toy_count` must be in [1, 10], got 11"),
    ("toy_share = 1", "`toy_share` must be in [0.0, 1.0), got 1"),
  ],
)
def test_wrong_type_or_range_names_setting_rule_and_value(value, expected):
  with pytest.raises(ValueError) as error:
    read(binding(f"ToySettings.{value}"))
  assert str(error.value).startswith(expected)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_that_are_not_finite_are_refused(value):
  with pytest.raises(ValueError, match="`toy_rate` must be in"):
    read(f"--toy_rate={value}")


@pytest.mark.parametrize("count", [1, 10])
def test_ends_of_a_range_are_allowed(count):
  assert read(f"--toy_count={count}").toy_count == count


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("ToySettings.toy_cuont = 1", "toy_cuont"),
    ("ToySetings.toy_count = 1", "ToySetings"),
    ("toy_function.sise = 1", "sise"),
    ("ToySettings.toy_count =", "parse"),
    ("ToySettings.toy_count = @nothing", "nothing"),
    ("ToySettings.toy_count = %nothing", "nothing"),
    ("import no_such_module", "no_such_module"),
  ],
)
def test_unknown_gin_is_refused_naming_it(text, expected):
  with pytest.raises(ValueError, match=expected) as error:
    read(binding(text))
  assert "`--gin_" in str(error.value)


def test_missing_gin_file_and_include_are_named(tmp_path):
  with pytest.raises(ValueError, match="`--gin_config`.*'nowhere.gin'"):
    gin_files.parse_gin(["nowhere.gin"], [])
  (tmp_path / "top.gin").write_text("include 'absent.gin'\n")
  with pytest.raises(ValueError, match=r"absent\.gin"):
    gin_files.parse_gin([str(tmp_path / "top.gin")], [])


def test_identity_leaves_out_what_does_not_define_the_run():
  assert identity("--toy_path=/one") == {
    "toy_rate": 0.5,
    "toy_count": 3,
    "toy_share": 0.1,
    "toy_kind": "a",
    "toy_fast": False,
    "gin_bindings": [],
  }


def test_identity_is_the_same_by_flag_by_gin_and_by_default():
  by_flag = json.dumps(identity("--toy_rate=2", "--toy_count=3"))
  flags.FLAGS.unparse_flags()
  for name in ("toy_rate", "toy_count"):
    flags.FLAGS[name].unparse()
  by_gin = identity(
    binding("ToySettings.toy_rate = 2"), binding("ToySettings.toy_count = 3")
  )
  assert json.dumps(by_gin) == by_flag


def test_identity_does_not_depend_on_the_order_of_bindings():
  lines = [
    "toy_function.size = 4",
    "toy_function.rate = 5",
    "one/toy_function.rate = 6",
  ]
  found = []
  for order in (lines, lines[::-1]):
    gin_files.parse_gin([], order)
    found.append(settings.run_identity(ToySettings()))
  assert found[0] == found[1]
  assert len(found[0]["gin_bindings"]) == 3


def test_identity_tells_bindings_of_other_functions_apart():
  found = []
  for size in (4, 5):
    gin_files.parse_gin([], [f"toy_function.size = {size}"])
    found.append(settings.run_identity(ToySettings()))
  assert found[0] != found[1]
  assert json.loads(json.dumps(found[0])) == found[0]


def test_identity_keeps_long_bindings_in_one_line():
  values = list(range(200))
  gin_files.parse_gin([], [f"toy_function.size = {values}"])
  found = settings.run_identity(ToySettings())["gin_bindings"]
  assert found == [f"toy_function.size = {values}"]


@pytest.mark.parametrize(
  ("bindings", "typed", "expected"),
  [
    ([], [], (7, 8.0, "x")),
    (["toy_function.size = 4"], [], (4, 8.0, "x")),
    (["toy_function.size = 4"], ["toy_size"], (7, 8.0, "x")),
    (["toy_function.size = 4"], ["size"], (4, 8.0, "x")),
    (["toy_function.rate = 4.0"], ["rate"], (7, 8.0, "x")),
    (["toy_function.name = 'y'"], [], (7, 8.0, "y")),
  ],
)
def test_configured_leaves_arguments_to_gin_unless_their_flag_is_typed(
  bindings, typed, expected
):
  gin_files.parse_gin([], bindings)
  found = (
    ToySettings()
    .with_explicit(typed)
    .configure(toy_function, {"size": "toy_size"}, size=7, rate=8.0)
  )
  assert found == expected


def test_identity_holds_an_added_setting_only_where_it_is_used():
  @dataclasses.dataclass(frozen=True)
  class Older(settings.Settings):
    old: int = setting(1, "A number.")

  @dataclasses.dataclass(frozen=True)
  class Newer(Older):
    new: int = setting(2, "Another number.", records_default=False)

  assert settings.run_identity(Newer()) == settings.run_identity(Older())
  assert settings.run_identity(Newer(new=2)) == settings.run_identity(Older())
  assert settings.run_identity(Newer(new=3)) == {
    **settings.run_identity(Older()),
    "new": 3,
  }
