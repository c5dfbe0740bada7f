"""The runs of a grid without kernels: what a sweep would leave, in a fraction of its time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest

from atlab.runs import execution, jobs, notebooks


def run(what: str | Path, root: Path, scale: str = "laptop", **fixed: Any) -> None:
    """Run a grid's notebook cell by cell in this process, into the folders that `sweep.run` would use."""
    opened = jobs.load(what, scale, **fixed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "execute", _execute)
        for parameters in opened.jobs:
            notebooks.run(opened.notebook, parameters, root=root, study=opened.study, progress=False)


def _execute(notebook: Path, given: Mapping[str, Any], _executed: Path, **_how: bool) -> None:
    names: dict[str, Any] = {}
    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(notebook), "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                names.update(given)
