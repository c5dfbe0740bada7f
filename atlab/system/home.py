"""Where the project's folder is: the home of `runs/` and `data/`, found the same way from everywhere."""

from __future__ import annotations

import os
from pathlib import Path

MARKS = ("atlab.toml", "notebooks/experiments/train.ipynb")


def home() -> Path:
    """The project's folder: $ATLAB_HOME, else the nearest folder upward with `atlab.toml` or atlab's notebooks, else the current one.

    >>> home().is_dir()
    True
    """
    if given := os.environ.get("ATLAB_HOME"):
        return Path(given)
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if any((folder / mark).is_file() for mark in MARKS)), here)


def find(path: str | Path) -> Path:
    """A path as it stands, or below the project's folder: notebooks run in folders of their own."""
    return Path(path) if Path(path).exists() else home() / path


def data_folder() -> Path:
    """Where prepared data sets live: $ATLAB_DATA, or data/ in the project's folder."""
    return Path(os.environ["ATLAB_DATA"]) if "ATLAB_DATA" in os.environ else home() / "data"


def shown(path: str | Path) -> str:
    """A path as a person reads it: relative where it lies below the current folder."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)
