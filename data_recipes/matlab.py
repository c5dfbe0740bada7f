"""Arrays of MATLAB 5 files streamed to disk: scipy.io.loadmat would hold SVHN's 1.6 GB in memory.

Format: "MAT-File Level 5", MathWorks.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

import numpy as np

from atlab.errors import AtlabError

COMPRESSED, MATRIX, UINT8_CLASS = 15, 14, 9


def stream_mat_array(file: BinaryIO, variable: str, target: BinaryIO) -> tuple[int, ...]:
    """Write a uint8 array of an open MATLAB 5 file to `target`, 1 MiB at a time; returns its shape.

    The first dimension runs fastest. Raises AtlabError if the variable is not there or is not uint8, EOFError
    if the file ends early.
    """
    head = file.read(128)
    if head[126:128] != b"IM":
        raise AtlabError("no little-endian MATLAB 5 file")
    while len(tag := file.read(8)) == 8:
        kind, size = struct.unpack("<II", tag)
        following = file.tell() + size
        source: BinaryIO = file
        if kind == COMPRESSED:
            source = io.BufferedReader(_Inflated(file, size), 1 << 20)
            kind = struct.unpack("<II", exactly(source, 8))[0]
        if kind == MATRIX:
            flags, shape, name = _element(source), _element(source), _element(source).decode()
            if name == variable:
                if flags[0] != UINT8_CLASS:
                    raise AtlabError(f"{variable} is not an array of uint8")
                left = struct.unpack("<II", exactly(source, 8))[1]
                dimensions = struct.unpack(f"<{len(shape) // 4}i", shape)
                if left != int(np.prod(dimensions)):
                    raise AtlabError(f"{variable} has {left} bytes for the shape {dimensions}")
                while left:
                    left -= target.write(exactly(source, min(left, 1 << 20)))
                return dimensions
        file.seek(following)
    raise AtlabError(f"no variable {variable}")


def _element(source: BinaryIO) -> bytes:
    """The next sub-element of a MATLAB array; short ones share their eight bytes with the tag."""
    tag = exactly(source, 8)
    kind, size = struct.unpack("<II", tag)
    if kind >> 16:
        return tag[4 : 4 + (kind >> 16)]
    return exactly(source, size + -size % 8)[:size]


def exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise EOFError("the file ends early")
    return data


class _Inflated(io.RawIOBase):
    """`size` bytes of a file as the stream they decompress to."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.left, self.inflate = file, size, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = b""
        while not data and not self.inflate.eof:
            pending = self.inflate.unconsumed_tail
            if not pending:
                pending = self.file.read(min(self.left, 1 << 16))
                self.left -= len(pending)
                if not pending:
                    break
            data = self.inflate.decompress(pending, len(buffer))
        buffer[: len(data)] = data
        return len(data)
