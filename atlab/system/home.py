"""Where the project's folder is, the home of `runs/`, `data/` and `notebooks/`: found the same way from everywhere."""

from __future__ import annotations

import os
from pathlib import Path

from atlab.errors import AtlabError, unknown

MARKS = ("atlab.toml", "notebooks/experiments/train.ipynb")


def home() -> Path:
    """The project's folder: $ATLAB_HOME, else the nearest folder upward with `atlab.toml` or atlab's notebooks, else the current one.

    AtlabError if $ATLAB_HOME is not a folder.

    >>> home().is_dir()
    True
    """
    if given := os.environ.get("ATLAB_HOME"):
        if not Path(given).is_dir():
            raise AtlabError(f"expected a folder in the environment variable ATLAB_HOME, got {given!r}")
        return Path(given).absolute()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if any((folder / mark).is_file() for mark in MARKS)), here)


def find(path: str | Path) -> Path:
    """A path as it stands, or below the project's folder: notebooks run in folders of their own."""
    return Path(path) if os.path.exists(path) else home() / path


def in_home(path: str | Path) -> Path:
    """Where a relative folder such as "runs" lies: below the project's folder, whichever folder is the current one.

    >>> in_home("/elsewhere").as_posix()
    '/elsewhere'
    """
    return Path(path) if Path(path).is_absolute() else Path(shown(home() / path))


def data_folder() -> Path:
    """Where prepared data sets live: $ATLAB_DATA, or data/ in the project's folder."""
    return Path(os.environ["ATLAB_DATA"]) if "ATLAB_DATA" in os.environ else home() / "data"


def shown(path: str | Path) -> str:
    """A path as a person reads it: relative where it lies below the current folder."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)


def packaged_notebooks() -> Path:
    """The notebooks and grids that belong to this atlab: in the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "notebooks", package.parent / "notebooks") if folder.is_dir())


def named(name: str | Path, suffix: str) -> Path:
    """The notebook (".ipynb") or grid (".yaml") that a path or a name such as "train" or "tutorials/01_quickstart" means.

    A path that exists; else one below notebooks/ of the project's folder, else a packaged one, of which leading folders
    may be left out. AtlabError with the nearest names if there is none, with the candidates if there are several.

    >>> named("01_quickstart", ".ipynb").parent.name
    'tutorials'
    """
    if Path(name).is_file():
        return Path(name)
    kind = {".ipynb": "notebook", ".yaml": "grid"}[suffix]
    wanted = Path(name).as_posix().removesuffix(suffix).removeprefix("notebooks/")
    known: list[str] = []
    for shelf in (home() / "notebooks", packaged_notebooks()):
        names = {path.relative_to(shelf).with_suffix("").as_posix(): path for path in _files(shelf, suffix)}
        found = [path for known_as, path in names.items() if f"/{known_as}".endswith(f"/{wanted}")]
        if len(found) > 1:
            raise AtlabError(
                f"{kind} {str(name)!r} is one of {len(found)}: {', '.join(map(shown, found))}; give its path"
            )
        if found:
            return found[0]
        known += [path.stem for path in names.values()]
    raise unknown(kind, Path(wanted).name, dict.fromkeys(known))


def _files(shelf: Path, suffix: str) -> list[Path]:
    """The files of a folder of notebooks, without those in hidden folders (checkpoints)."""
    files = sorted(shelf.rglob(f"*{suffix}"))
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(shelf).parts)]
