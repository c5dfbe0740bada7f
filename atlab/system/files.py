"""Files and folders that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atlab.errors import AtlabError


def write_atomic(path: str | Path, data: bytes | str) -> Path:
    """Write a file that readers see whole or not at all; parent folders are made.

    >>> import tempfile
    >>> write_atomic(Path(tempfile.mkdtemp()) / "a" / "note.txt", "hello").read_text()
    'hello'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to `path` on success and removed on failure.

    Raises FileExistsError at the end if another process made `path` meanwhile; that folder is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            raise FileExistsError(f"{path} exists already")
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold an exclusive lock beside `path` (`.<name>.lock`), waiting for its holder; a dead process holds nothing.

    AtlabError in a worker process that is still importing the main script: a script without a main guard would have
    its own workers wait for it here.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise AtlabError("a script that starts worker processes needs its main part under: if __name__ == '__main__':")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
