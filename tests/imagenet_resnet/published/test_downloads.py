# SPDX-License-Identifier: Apache-2.0
"""Downloads are whole or leave nothing."""

import base64
import hashlib
import http.server
import threading

import pytest

from rigl.imagenet_resnet.published import downloads

CONTENT = bytes(range(256)) * 9000


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves the content, in ways that the path names."""

  def do_GET(self):
    if self.path == "/moved":
      self.send_response(302)
      self.send_header("Location", "/whole")
      self.end_headers()
      return
    if self.path == "/nowhere":
      self.send_error(404)
      return
    md5 = hashlib.md5(CONTENT).digest()
    if self.path == "/other":
      md5 = bytes(16)
    self.send_response(200)
    self.send_header("Content-Length", str(len(CONTENT)))
    encoded = base64.b64encode(md5).decode()
    self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={encoded}")
    self.end_headers()
    end = len(CONTENT) // 2 if self.path == "/half" else None
    self.wfile.write(CONTENT[:end])

  def log_message(self, *arguments):
    pass


@pytest.fixture
def server():
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.mark.parametrize("page", ["whole", "moved"])
def test_a_file_arrives_with_its_checksum(server, tmp_path, page):
  path = tmp_path / "file"
  sha256 = hashlib.sha256(CONTENT).hexdigest()
  downloads.fetch(f"{server}/{page}", path, sha256)
  assert path.read_bytes() == CONTENT
  assert downloads.sha256_of(path) == sha256


@pytest.mark.parametrize(
  ("page", "named"),
  [
    ("nowhere", "404"),
    ("half", "bytes arrived|cannot be fetched"),
    ("other", "MD5"),
  ],
)
def test_a_failed_download_leaves_nothing(server, tmp_path, page, named):
  with pytest.raises(ValueError, match=named):
    downloads.fetch(f"{server}/{page}", tmp_path / "file")
  assert [*tmp_path.iterdir()] == []


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
  with pytest.raises(ValueError, match=r"must have the SHA-256 .*, got"):
    downloads.fetch(f"{server}/whole", tmp_path / "file", "0" * 64)
  assert [*tmp_path.iterdir()] == []


def test_a_host_that_does_not_answer_is_a_value_error(tmp_path):
  with pytest.raises(ValueError, match="cannot be fetched"):
    downloads.fetch("http://127.0.0.1:9/x", tmp_path / "file")
  with pytest.raises(ValueError, match="cannot be fetched"):
    downloads.fetch((tmp_path / "none").as_uri(), tmp_path / "file")
  assert [*tmp_path.iterdir()] == []


def test_addresses():
  assert downloads.web_url("gs://b/a c.tgz").endswith(".com/b/a%20c.tgz")
  assert downloads.file_name("https://x/y/-delete.tar.gz?a=/b") == (
    "-delete.tar.gz"
  )
  assert downloads.file_name("https://x/a%2F..%2F..%2Fb") == "b"
  for url in ("s3://b/x.tgz", "https://x", "https://x/", "http://x/y/.."):
    with pytest.raises(ValueError, match="URL"):
      downloads.web_url(url)


def test_a_checksum_has_64_digits():
  assert downloads.parse_sha256("AB" * 32) == "ab" * 32
  for text in ("", "ab", "g" * 64, "a" * 65):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
      downloads.parse_sha256(text)
