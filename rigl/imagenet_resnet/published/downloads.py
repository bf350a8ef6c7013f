# SPDX-License-Identifier: Apache-2.0
"""Files from the web: whole, with a known checksum, or not there at all."""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import pathlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from rigl import files

_SCHEMES = ("http", "https", "file")
_BUCKETS = "https://storage.googleapis.com/"
_TIMEOUT_SECONDS = 60.0
_CHUNK = 1 << 20


def is_url(name: str) -> bool:
  """Whether a name starts like a URL, with a scheme and `://`."""
  return "://" in name


def web_url(url: str) -> str:
  """A URL that `fetch` takes; `gs://` becomes the address of the public file.

  Raises:
    ValueError: if the scheme is another, or no file is named.
  """
  if url.startswith("gs://"):
    url = _BUCKETS + urllib.parse.quote(url.removeprefix("gs://"))
  parts = urllib.parse.urlsplit(url)
  if parts.scheme not in _SCHEMES or not file_name(url):
    raise ValueError(
      f"A URL must name a file and start with gs:// or one of {_SCHEMES}, got "
      f"{url!r}."
    )
  return url


def file_name(url: str) -> str:
  """The name of the file of a URL, without its folder; may be empty."""
  path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
  return path.replace("\\", "/").rsplit("/", 1)[-1].strip(".")


def fetch(url: str, path: pathlib.Path, sha256: str | None = None) -> None:
  """Downloads a file; an error leaves nothing behind.

  The number of bytes is compared with that of the server, and the content with
  the MD5 checksum that Google Cloud Storage sends.

  Args:
    url: as `web_url` returns it.
    path: the file to write; its folder exists.
    sha256: the checksum of the content, 64 hexadecimal digits; None if it is
      not known.

  Raises:
    ValueError: if it cannot be fetched, or the content is not as expected.
    OSError: if the file cannot be written.
  """
  hashes = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
  with files.replacing(path) as temporary:
    with temporary.open("wb") as file:
      try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
          headers, size = answer.headers, 0
          while chunk := _read(answer, url):
            for one in hashes:
              one.update(chunk)
            size += len(chunk)
            file.write(chunk)
      except urllib.error.URLError as error:
        raise ValueError(f"{url} cannot be fetched: {error}.") from error
      except http.client.HTTPException as error:
        raise ValueError(f"{url} cannot be fetched: {error!r}.") from error
    _check_answer(url, headers, size, hashes[1].digest())
    check_sha256(url, hashes[0].hexdigest(), sha256)


def parse_sha256(text: str) -> str:
  """A SHA-256 checksum in lower case.

  Raises:
    ValueError: if the text is not 64 hexadecimal digits.
  """
  text = text.strip().lower()
  if len(text) != 64 or set(text) - set("0123456789abcdef"):
    raise ValueError(f"`--sha256` must be 64 hexadecimal digits, got {text!r}.")
  return text


def sha256_of(path: pathlib.Path) -> str:
  """The SHA-256 checksum of a file, 64 hexadecimal digits."""
  found = hashlib.sha256()
  with path.open("rb") as file:
    while chunk := file.read(_CHUNK):
      found.update(chunk)
  return found.hexdigest()


def check_sha256(what: str, found: str, expected: str | None) -> None:
  """Raises ValueError if a checksum is not the expected one, if any."""
  if expected is not None and found != expected:
    raise ValueError(
      f"{what} must have the SHA-256 checksum {expected}, got {found}."
    )


def _read(answer: http.client.HTTPResponse, url: str) -> bytes:
  """The next bytes; a connection that breaks is an error of the URL."""
  try:
    return answer.read(_CHUNK)
  except OSError as error:
    raise ValueError(f"{url} cannot be fetched: {error}.") from error


def _check_answer(
  url: str, headers: Mapping[str, str], size: int, md5: bytes
) -> None:
  """Raises ValueError if a download is not what the server announced."""
  announced = headers.get("Content-Length", "")
  if announced.isdigit() and int(announced) != size:
    raise ValueError(f"{url}: {size} of {announced} bytes arrived.")
  for part in headers.get("x-goog-hash", "").split(","):
    kind, _, text = part.strip().partition("=")
    if kind == "md5" and _decoded(text) != md5:
      raise ValueError(f"{url}: the content has not the announced MD5 {text}.")


def _decoded(text: str) -> bytes | None:
  try:
    return base64.b64decode(text, validate=True)
  except binascii.Error:
    return None
