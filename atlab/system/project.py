"""A folder to work in, for users who installed atlab: its mark, the notebooks, and places for data sets and runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from atlab.errors import AtlabError
from atlab.system.home import packaged_notebooks

_MARK = """\
# This folder is an atlab project: atlab looks for runs/, data/ and notebooks/ here, whichever folder below is the current one.
"""
_IGNORED = "/data/\n/runs/\n.ipynb_checkpoints/\n"


def create(folder: str | Path) -> None:
    """Lay out a project in a new or empty folder; AtlabError if anything is in it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> create(folder)
    >>> sorted(path.name for path in folder.iterdir())
    ['.gitignore', 'atlab.toml', 'data', 'notebooks', 'runs']
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AtlabError(f"expected a new or empty folder for the project, got {folder}, which has something in it")
    for name in ("data", "runs"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(packaged_notebooks(), folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (folder / ".gitignore").write_text(_IGNORED)
    (folder / "atlab.toml").write_text(_MARK)  # last: the mark stands for a whole project
