"""Notebook files as a stranger may have written them: read whole, validated, nothing executed."""

from __future__ import annotations

import ast
import io
import os
import tokenize
from pathlib import Path
from typing import Any

from atlab.errors import AtlabError, unknown
from atlab.system.foreign import read_text

BYTES = 1 << 28  # the most that is read: figures that carry plotly.js make executed notebooks large


def read(notebook: str | Path) -> Any:
    """A notebook as an nbformat 4 node.

    AtlabError if it is not there (with the nearest names), larger than 268,435,456 bytes, or not a valid notebook.
    """
    import nbformat

    if not os.path.lexists(notebook):
        folder = Path(notebook).parent
        near = sorted(p.name for p in folder.glob("*.ipynb")) if os.path.isdir(folder) else []
        raise unknown(f"notebook in {folder}", Path(notebook).name, near)
    text, broken = read_text(notebook, BYTES), {}
    try:
        found = nbformat.reads(text, as_version=4, capture_validation_error=broken)
        if broken:
            raise broken["ValidationError"]
    except Exception as error:  # nbformat raises a dozen types for a file that is no notebook
        reason = str(error).splitlines() or [type(error).__name__]
        raise AtlabError(f"{notebook} is not a notebook: {reason[0]}") from None
    return found


def metadata(notebook: str | Path) -> dict[str, Any]:
    """A notebook's metadata."""
    return dict(read(notebook).metadata)


def source(notebook: str | Path) -> str:
    """What of a notebook decides its results: its code, without comments, outputs, prose and metadata."""
    return "\n\n".join(without_comments(cell.source) for cell in read(notebook).cells if cell.cell_type == "code")


def without_comments(code: str) -> str:
    """Python code without comments and blank lines; as it is where it is more than Python (magics).

    >>> without_comments('width = 0.125  # above 0\\n\\n# one of: a, b\\nname = "#1"')
    'width = 0.125\\nname = "#1"'
    """
    lines = code.splitlines()
    try:
        ast.parse(code)
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError):
        return code
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    inside = {row for token in tokens for row in range(token.start[0], token.end[0])}  # strings of several lines
    kept = [
        line if row in inside else line.rstrip() for row, line in enumerate(lines, 1) if row in inside or line.strip()
    ]
    return "\n".join(kept)
