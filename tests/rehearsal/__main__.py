"""`python -m tests.rehearsal [--quick] [GRID ...]`: every grid (or those named) at its largest scale in miniature, and what reads it."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from atlab.runs import parameters
from tests.rehearsal import rehearse

Step = tuple[str, Callable, tuple]  # title, what is done, its arguments


def main(names: list[str], quick: bool) -> int:
    """Rehearse in a temporary home, one line per step with its wall time: -> how many grids and notebooks failed."""
    grids = [path for path in rehearse.GRIDS if not names or path.stem in names]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="atlab-rehearsal-") as folder, rehearse.at(Path(folder)):
        home, how = Path(folder), rehearse.InProcess(quick)
        rehearse.lay_out(home)
        trained = [path for path in grids if not done(training(path, home, how))]
        failed = len(grids) - len(trained)
        failed += sum(done([reading]) for path in trained for reading in readings(path, trained, home))
        if not names:
            failed += sum(done([reading]) for reading in other_readings(home))
    print(f"rehearsed in {time.monotonic() - start:.0f} s, {failed} failed")
    return failed


def training(path: Path, home: Path, how: rehearse.InProcess) -> list[Step]:
    """Preparation and runs of a grid."""
    return [
        (f"{path.stem}, preparation", rehearse.prepare, (path, home)),
        (f"{path.stem}, runs", rehearse.train, (path, home / "runs", how)),
    ]


def readings(path: Path, trained: list[Path], home: Path) -> list[Step]:
    """The notebooks whose parameter `grid` is this one; those that name further grids, if these are trained, too."""
    given = {"grid": path.stem, "scale": rehearse.scale_of(path)}
    untrained = [other for other in rehearse.GRIDS if other not in trained]
    return [
        (f"{path.stem}, {notebook.name}", rehearse.read, (notebook, home / "runs", given))
        for notebook in rehearse.readers(path)
        if not any(rehearse.names(notebook, other) for other in untrained)
    ]


def other_readings(home: Path) -> list[Step]:
    """The notebooks that read several grids, all runs, or none (those at their smallest scale)."""
    steps = []
    trains = {rehearse.trained_by(path) for path in rehearse.GRIDS}
    for notebook in sorted((rehearse.NOTEBOOKS / "experiments").glob("*.ipynb")):
        known = parameters.defaults(notebook)
        if notebook not in trains and "grid" not in known:
            scales = {rehearse.scale_of(path) for path in rehearse.GRIDS if rehearse.names(notebook, path)} or {"tiny"}
            given = {"scale": scales.pop()} if "scale" in known else {}
            steps.append((notebook.name, rehearse.read, (notebook, home / "runs", given)))
    return steps


def done(steps: list[Step]) -> bool:
    """Do steps in turn, printing a line each; the first failure ends them: -> whether there was one."""
    for title, do, arguments in steps:
        start, failed = time.monotonic(), False
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # bars, counts
                said = do(*arguments)
        except Exception as error:
            said, failed = f"FAILED: {type(error).__name__}: {error}", True
        print(f"{time.monotonic() - start:6.1f} s  {title}: {said}", flush=True)
        if failed:
            return True
    return False


if __name__ == "__main__":
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    sys.exit(bool(main([word for word in sys.argv[1:] if word not in options], quick="--quick" in options)))
