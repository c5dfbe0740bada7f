"""Studies with known numbers: done runs in the places where a sweep looks for them, without any training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from atlab import runs
from atlab.runs import execution, grid, notebooks

GRIDS = Path(__file__).parents[2] / "notebooks/experiments/grids"
LOST = {"base": 0.0, "BnB": 0.02, "BnB+": -0.01, "AnB": 0.05, "AnB+": -0.03, "random": 0.2}


def made(path: Path, root: Path, accuracy: Callable[[dict], float], scale: str = "laptop") -> None:
    """Every run of a grid, with the test accuracy that a function of its parameters gives."""
    opened = grid.load(path, scale)
    for given in opened.jobs:

        def execute(_notebook: Path, handed: dict, *_: object, **_how: bool) -> None:
            scores = {"test_accuracy": accuracy(handed), "train_accuracy": 1.0, "validation_accuracy": 0.5}
            runs.Run(handed["run_dir"]).save_result(scores)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(execution, "execute", execute)
            notebooks.run(opened.notebook, given, root=root, study=opened.study, progress=False)


def halves_accuracy(parameters: dict) -> float:
    """More layers lose more, man-made halves twice as much; every direction and seed has its own level."""
    lost = LOST[parameters["treatment"]] * parameters.get("n", 0) * (2 - (parameters["halves"] == "random"))
    return 0.8 - lost / 7 + 0.01 * parameters["seed"] + (0.05 if parameters["half"] == "B" else 0)
