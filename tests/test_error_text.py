# SPDX-License-Identifier: Apache-2.0
"""Texts of errors: whole, their first line, cut, and of errors without one."""

import pytest

from rigl import error_text


def test_all_lines_become_one():
  error = ValueError(" a\n\n  b c\td ")
  assert error_text.one_line(error) == "a b c d"
  assert error_text.one_line(error, 3) == "a b"


def test_the_first_line_is_one_with_a_text():
  error = ValueError("\n \n  first one \nsecond")
  assert error_text.first_line(error) == "first one"
  assert error_text.first_line(error, 5) == "first"


@pytest.mark.parametrize("text", ["", " \n "])
def test_an_error_without_a_text_is_told_by_its_class(text):
  for function in (error_text.one_line, error_text.first_line):
    assert function(KeyboardInterrupt(text)) == "KeyboardInterrupt"
