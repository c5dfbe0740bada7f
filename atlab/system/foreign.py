"""Text that a stranger wrote: from a regular file, bounded in size, in UTF-8; JSON of it, bounded in depth."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from atlab.errors import AtlabError

TEXT = 1 << 26  # bytes of a list of labels or a card that are read at most


def read_text(path: str | Path, most_bytes: int = TEXT) -> str:
    """The text of a file, without a byte order mark.

    AtlabError for a file that is missing, larger than this, not in UTF-8, or not a regular one: a named pipe would wait for ever.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.txt")
    >>> _ = path.write_bytes(b"caf\\xc3\\xa9")
    >>> read_text(path)
    'café'
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise AtlabError(f"{path} is not a regular file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size  # of the file, since as much memory is taken as is asked for
            data = file.read(min(size, most_bytes) + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, AtlabError):
            raise
        raise AtlabError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > most_bytes:
        raise AtlabError(f"{path} is larger than {most_bytes:,} bytes, the most that is read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AtlabError(f"{path} is not text in UTF-8: byte {error.start:,} is {data[error.start]:#04x}") from None


def read_json(path: str | Path, most_bytes: int = TEXT) -> dict[str, Any]:
    """The JSON object of a file; AtlabError as for `read_text`, and for what is not a JSON object or nests too deep.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.json")
    >>> _ = path.write_text('{"clips": 3}')
    >>> read_json(path)
    {'clips': 3}
    """
    text = read_text(path, most_bytes)
    try:
        found = json.loads(text, parse_constant=_refuse)
        json.dumps(found, ensure_ascii=False).encode()  # an escape such as \ud800 is no character
    except (ValueError, RecursionError) as error:
        raise AtlabError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise AtlabError(f"{path} is not what it should be: expected a JSON object, got a {type(found).__name__}")
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number")
