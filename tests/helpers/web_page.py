# SPDX-License-Identifier: Apache-2.0
"""Opens a folder as a web page in headless Chromium, which reports back."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

DRIVER = pathlib.Path(__file__).with_name("drive_page.js")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> str | None:
  """The path of Chromium or Chrome; None if there is none."""
  return next(filter(None, map(shutil.which, _BROWSERS)), None)


def visit(
  folder: pathlib.Path, browser: str, seconds: float = 120
) -> tuple[dict[str, Any], list[str]]:
  """Opens the page of a folder, with the driver in it.

  Args:
    folder: has `index.html`.
    browser: path of the browser.
    seconds: how long the driver may take.

  Returns:
    What the driver reports, and the paths that the page asked for in vain.
  """
  reports: queue.Queue[dict[str, Any]] = queue.Queue()
  missing: list[str] = []
  handler = _handler(folder, reports, missing)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
      with _running(browser, f"http://127.0.0.1:{server.server_port}/"):
        return reports.get(timeout=seconds), missing
    finally:
      server.shutdown()


def _handler(
  folder: pathlib.Path,
  reports: queue.Queue[dict[str, Any]],
  missing: list[str],
) -> type[http.server.BaseHTTPRequestHandler]:
  class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any) -> None:
      super().__init__(*arguments, directory=str(folder))

    def do_GET(self) -> None:  # noqa: N802 - The name of the base class.
      if self.path == "/":
        page = (folder / "index.html").read_text(encoding="utf-8")
        script = f'<script type="module">{DRIVER.read_text()}</script>'
        content = page.replace("</head>", f"{script}</head>").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return
      super().do_GET()

    def do_POST(self) -> None:  # noqa: N802 - The name of the base class.
      length = int(self.headers["Content-Length"])
      reports.put(json.loads(self.rfile.read(length)))
      self.send_response(204)
      self.end_headers()

    def send_error(self, code: int, *arguments: Any) -> None:
      missing.append(self.path)
      super().send_error(code, *arguments)

    def log_message(self, *arguments: Any) -> None:
      pass

  return Handler


@contextlib.contextmanager
def _running(browser: str, address: str) -> Iterator[None]:
  """A headless browser that reaches no other computer."""
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    process = subprocess.Popen(
      [
        browser,
        "--headless",
        "--no-sandbox",  # Which root, as in containers, cannot have.
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={profile}",
        address,
      ],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
    )
    try:
      yield
    finally:
      os.killpg(process.pid, signal.SIGKILL)
      process.wait()
