"""Files and folders that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.errors import AtlabError

if TYPE_CHECKING:
    import numpy as np
    from filelock import FileLock

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the user's share of it, the largest file allowed


class Held(AtlabError):
    """What is asked for is being made by another process."""


def write_atomic(path: str | Path, data: bytes | str) -> Path:
    """Write a file that readers see whole or not at all, even after a power cut; parent folders are made.

    >>> import tempfile
    >>> write_atomic(Path(tempfile.mkdtemp()) / "a" / "note.txt", "hello").read_text()
    'hello'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def sync(path: str | Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk before this returns.

    >>> import tempfile
    >>> sync(tempfile.mkdtemp())
    """
    if os.name == "nt" and Path(path).is_dir():  # has no such thing
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder next to `path`, renamed to `path` on success and removed on failure.

    Raises FileExistsError at the end if another process made `path` meanwhile; that folder is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent, f".{path.name}.", ".tmp")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        with _held(temporary):
            yield temporary
            if path.exists():
                raise FileExistsError(f"{path} exists already")
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def lock(file: Path, what: str, wait: bool = True) -> FileLock:
    """Take the exclusive lock that a file stands for: -> it, to be released; a dead process holds nothing.

    While another process holds it: Held, which names that process, or with `wait`, say so on stderr and wait.

    >>> import tempfile
    >>> lock(Path(tempfile.mkdtemp()) / ".lock", "the example").release()
    """
    from filelock import FileLock, Timeout

    taken = FileLock(file, thread_local=False, fallback_to_soft=False)
    try:
        taken.acquire(blocking=False)
    except Timeout:
        holder = _text(file).strip() or "unknown"
        said = f"{what} is being computed by another process (process id {holder})"
        if not wait:
            raise Held(said) from None
        print(f"waiting: {said}", file=sys.stderr, flush=True)
        taken.acquire()
    file.write_text(f"{os.getpid()}\n")
    return taken


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # Windows lets nobody read a locked file
        return ""


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder atlab-NAME-* among the system's temporary files, removed afterwards; what killed processes left is removed first.

    >>> with scratch("example") as folder:
    ...     folder.is_dir()
    True
    >>> folder.exists()
    False
    """
    _sweep(Path(tempfile.gettempdir()), f"atlab-{name}-", "")
    folder = Path(tempfile.mkdtemp(prefix=f"atlab-{name}-"))
    try:
        with _held(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a lock next to a folder, which shows other processes that it is in use; Held if one of them does."""
    file = folder.with_name(f"{folder.name}.lock")
    taken = lock(file, str(folder), wait=False)
    try:
        yield
    finally:
        taken.release()
        file.unlink(missing_ok=True)


def _sweep(parent: Path, start: str, end: str) -> None:
    """Remove this user's folders of this name that no process holds, but for those made in the last minute."""
    if not hasattr(os, "getuid"):  # Windows
        return
    for name in os.listdir(parent):
        folder = parent / name
        if name.startswith(start) and name.endswith(end) and folder.is_dir() and not folder.is_symlink():
            with suppress(FileNotFoundError, PermissionError, Held):  # gone meanwhile, not ours, in use
                found = folder.stat()
                if found.st_uid == os.getuid() and time.time() - found.st_mtime > 60:
                    with _held(folder):
                        shutil.rmtree(folder, ignore_errors=True)


def allocated(path: str | Path, dtype: str | type, shape: tuple[int, ...]) -> np.memmap:
    """A new .npy file as a writable memory map, with room on the disk for every byte of it.

    Writing into a map without room ends the process with SIGBUS. AtlabError, and no file, where the disk is too small.

    >>> allocated(Path(tempfile.mkdtemp()) / "a.npy", "float16", (2, 3)).shape
    (2, 3)
    """
    import numpy as np

    path = Path(path)
    try:
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        with open(path, "r+b") as file:
            size = path.stat().st_size
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.seek(array.offset)
                for start in range(array.offset, size, 1 << 20):
                    file.write(bytes(min(1 << 20, size - start)))
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno not in NO_ROOM:
            raise
        need, free = np.dtype(dtype).itemsize * int(np.prod(shape)), shutil.disk_usage(path.parent).free
        raise AtlabError(
            f"the disk of {path.parent.parent} is too small: {path.name} needs {need / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free"
        ) from None
    return array


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold an exclusive lock next to `path` (`.<name>.lock`), waiting for its holder; a dead process holds nothing.

    AtlabError in a worker process that is still importing the main script: a script without a main guard would have
    its own workers wait for it here.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise AtlabError("a script that starts worker processes needs its main part under: if __name__ == '__main__':")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.with_name(f".{path.name}.lock"), str(path)):
        yield
