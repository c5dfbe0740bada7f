"""A small study to explore: synthetic speech, a speaker network, baseline, WI and AT at three layers, in about a minute."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from atlab.data import catalog
from atlab.system.home import find, home

STUDY = "runs/demo_study"
SEEDS = (0, 1)
LAYERS = ("conv1", "conv5", "conv13")


def study(folder: str | Path = STUDY, workers: int | None = None) -> str:
    """A study to open: `folder` itself, or, if that is the demo study and it is not there yet, the demo study trained now."""
    if Path(folder).name == Path(STUDY).name and not any(find(folder).glob("*/done")):
        return demo_study(workers=workers)
    return str(folder)


def demo_study(workers: int | None = None) -> str:
    """Train the demo study into runs/demo_study of the project, or find it done: -> its folder.

    480 clips of 6 words by 8 speakers, those of the test unheard in training; networks of 1/16 width.
    Enough to try the explorers on; too small to conclude anything from.
    """
    from atlab import experiment

    fs = catalog.load_data(catalog.DEMO)
    base = experiment.Settings(
        data=str(fs.path.resolve()),
        split="disjoint",
        width=1 / 16,
        epochs=6,
        patience=6,
        learning_rate=2e-3,
        teacher_clips=300,
    )
    arms = [replace(base, strategy="baseline"), replace(base, strategy="wi")]
    arms += [replace(base, strategy="at", layers=layer) for layer in LAYERS]
    wanted = [replace(arm, seed=seed) for seed in SEEDS for arm in arms]
    folder = home() / STUDY
    experiment.train_many(wanted, folder.parent, folder.name, workers or min(4, os.cpu_count() or 1))
    return STUDY if Path(STUDY).is_dir() or home() != Path.cwd() else str(folder)
