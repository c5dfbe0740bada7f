"""`python -m tests.rehearsal [GRID ...]`: every grid (or those named) at paper scale in miniature, then every notebook that reads one."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from atlab.runs import parameters
from tests.rehearsal import rehearse


def main(names: list[str]) -> int:
    """Rehearse in a temporary home, one line per step with its wall time; what fails stops nothing else: -> failed steps."""
    grids = [path for path in rehearse.GRIDS if not names or path.stem in names]
    start, failed = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="atlab-rehearsal-") as folder, rehearse.at(Path(folder)):
        home, how = Path(folder), rehearse.InProcess()
        rehearse.lay_out(home)
        for path in grids:
            failed += step(f"{path.stem}, preparation", rehearse.prepare, path, home)
        for path in grids:
            failed += step(f"{path.stem}, runs", rehearse.train, path, home / "runs", how)
        for notebook, given in readings(grids, whole=not names):
            failed += step(
                " ".join(map(str, [notebook.name, *given.values()])), rehearse.read, notebook, home / "runs", given
            )
    print(f"rehearsed in {time.monotonic() - start:.0f} s, {failed} steps failed")
    return failed


def step(title: str, do: Callable, *arguments: object) -> bool:
    """Do a step and print one line with its wall time: -> whether it failed."""
    start, failed = time.monotonic(), False
    try:
        said = do(*arguments)
    except Exception as error:
        said, failed = f"FAILED: {type(error).__name__}: {error}", True
    print(f"{time.monotonic() - start:6.1f} s  {title}: {said}", flush=True)
    return failed


def readings(grids: list[Path], whole: bool) -> list[tuple[Path, dict]]:
    """Every notebook that reads grids, with its parameters; where all grids are rehearsed, those that read runs or none as well."""
    found: dict[str, tuple[Path, dict]] = {}
    for path in grids:
        for notebook in rehearse.readers(path):
            given = {"scale": rehearse.scale_of(path)}
            if "grid" in parameters.defaults(notebook):
                given["grid"] = path.stem
            elif not whole:
                continue  # it reads other grids too
            found[f"{notebook} {given}"] = (notebook, given)
    if whole:
        known = {notebook for notebook, _ in found.values()} | {rehearse.trained_by(path) for path in grids}
        for notebook in sorted((rehearse.NOTEBOOKS / "experiments").glob("*.ipynb")):
            if notebook not in known:
                found[str(notebook)] = (notebook, {"scale": "tiny"} if "scale" in parameters.defaults(notebook) else {})
    return list(found.values())


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
