# SPDX-License-Identifier: Apache-2.0
import pytest

from rigl import file_contents


@pytest.mark.parametrize(
  "content", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000]
)
def test_what_is_no_json_object_is_damaged(tmp_path, content):
  place = tmp_path / "run.json"
  place.write_bytes(content)
  with pytest.raises(file_contents.DamagedError, match="^run.json is damaged$"):
    file_contents.read_json_object(place)
  with pytest.raises(FileNotFoundError):
    file_contents.read_json_object(tmp_path / "no")
  place.write_bytes(b'\xef\xbb\xbf{"a": [1]}')  # As Windows' editors write.
  assert file_contents.read_json_object(str(place)) == {"a": [1]}


@pytest.mark.parametrize("content", [b"\xff", b"a\n" + b"x" * 200_000])
def test_what_is_no_csv_file_is_damaged(tmp_path, content):
  place = tmp_path / "x.csv"
  place.write_bytes(content)
  with pytest.raises(file_contents.DamagedError, match="^x.csv is damaged$"):
    file_contents.read_csv(place)
  with pytest.raises(FileNotFoundError):
    file_contents.read_csv(tmp_path / "no")
  place.write_bytes(b'a,b\r\n1,"x\ny"\n2,\n')
  rows = [{"a": "1", "b": "x\ny"}, {"a": "2", "b": ""}]
  assert file_contents.read_csv(place) == rows
