"""Notebook files as a stranger may have written them: read whole, validated, nothing executed."""

from __future__ import annotations

import os
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
    """What of a notebook decides its results: its code, without outputs, prose and metadata."""
    return "\n\n".join(cell.source for cell in read(notebook).cells if cell.cell_type == "code")
