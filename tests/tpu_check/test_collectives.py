# SPDX-License-Identifier: Apache-2.0
"""The collectives that are read from the text of a program."""

import pytest

from rigl.tpu_check.collectives import Collectives, find_collectives


@pytest.mark.parametrize(
  ("line", "expected"),
  [
    ("  %a.1 = f32[3,4]{1,0} all-reduce(%x), channel_id=1", (1, 48)),
    (
      "  ROOT %a = (f32[10]{0:T(256)}, bf16[2,2]{1,0}) all-reduce(%x, %y)",
      (1, 48),
    ),
    ("  a = f32[]{:T(128)} all-reduce-start(x), to_apply=%sum", (1, 4)),
    ("  %a = (f32[4], f32[4]) all-reduce-start(f32[4]{0:T(8,2)} %x)", (1, 16)),
    ("  %a = (f32[4], f32[6]) all-reduce-start(%x, f32[6]{0} %y)", (1, 40)),
    (
      "  %a = ((f32[4], f32[6]), (f32[4], f32[6]), u32[]) "
      "all-reduce-start(%x, %y), to_apply=%sum",
      (1, 40),
    ),
    ("  %d = f32[] all-reduce-done(%a)", (0, 0)),
    ("  %g = (f32[2], f32[8]) all-gather-start(%x)", (1, 32)),
    ("  %p = pred[16]{0} collective-permute(%x)", (1, 16)),
    ("  %f = f32[8]{0} fusion(%all-reduce.1), calls=%all-reduce", (0, 0)),
  ],
)
def test_count_and_bytes(line, expected):
  assert find_collectives(line) == Collectives(*expected)


def test_lines_add_up():
  lines = ["  %a = f32[2] all-reduce(%x)", "  %b = s32[2] all-gather(%a)"]
  assert find_collectives("\n".join(lines)) == Collectives(2, 16)
