"""Files that a stranger wrote: read whole within bounds, or one sentence."""

from __future__ import annotations

import os

import pytest

from atlab.errors import AtlabError
from atlab.system.foreign import read_json, read_text


def test_text_is_read_without_a_byte_order_mark_and_up_to_its_bound(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(tmp_path / "a") == "abc" and read_text(tmp_path / "a", 6) == "abc"
    with pytest.raises(AtlabError, match="a is larger than 5 bytes, the most that is read"):
        read_text(tmp_path / "a", 5)


def test_what_is_no_text_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    for path, message in [
        (tmp_path / "pipe", "pipe is not a regular file"),
        ("/dev/zero", "/dev/zero is not a regular file"),
        (tmp_path, "is not a regular file"),
        (tmp_path / "none", "none cannot be read: No such file or directory"),
        (tmp_path / "loop", "loop cannot be read: Too many levels of symbolic links"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        ("a\0b", "cannot be read: embedded null byte"),
        (tmp_path / "latin", "latin is not text in UTF-8: byte 0 is 0xe9"),
    ]:
        with pytest.raises(AtlabError, match=message):
            read_text(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[1]", "expected a JSON object, got a list"),
        ('{"a": NaN}', "is not JSON: NaN is not a number"),
        ('{"a": -Infinity}', "is not JSON: -Infinity is not a number"),
        ('{"a": "\\ud800"}', "is not JSON"),
        ('{"a": ' + "[" * 100_000, "is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
    ],
)
def test_what_is_no_json_object_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(AtlabError, match=f"a.json {message}|a.json is not what it should be: {message}"):
        read_json(tmp_path / "a.json")
