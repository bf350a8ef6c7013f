# SPDX-License-Identifier: Apache-2.0
"""README.md and the pages in docs/, with their blocks of code."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [
  "README.md",
  *(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md")),
]
PAGES.sort()


def text_of(page: str) -> str:
  return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
  """The blocks of code in this language."""
  return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def commands(page: str, language: str = "bash") -> list[str]:
  """The commands of all shell blocks, one line each, without comments."""
  text = "\n".join(blocks(page, language)).replace("\\\n", " ")
  lines = [re.sub(r"\s#.*", "", line) for line in text.splitlines()]
  return [" ".join(line.split()) for line in lines if line.strip()]
