"""A small study to explore: synthetic speech, a speaker network, baseline, WI, AT at three layers and in four forms.

`python -m atlab.explore.demo` trains it and ends when its standard input does.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
from dataclasses import replace
from typing import NamedTuple

from atlab import experiment, runs
from atlab.data import catalog
from atlab.experiment.settings import Settings
from atlab.explore.process import last_words, started
from atlab.system.home import home
from atlab.system.processes import cores, end_with_input

STUDY = "runs/demo_study"
SEEDS = (0, 1)
LAYERS = ("conv1", "conv5", "conv13")
FORMS = tuple(itertools.product(("gram", "mean"), ("squared_cosine", "cka")))
SECONDS = 45  # of processor time that a run takes, about, the speaker networks' share included

_process: list[tuple[subprocess.Popen, object]] = []  # the training that this kernel began


class Training(NamedTuple):
    """Whether the demo study trains or is done, and a sentence ("" where there is nothing to say)."""

    running: bool
    done: bool
    sentence: str


def wanted(data: str) -> list[Settings]:
    """The settings of the study's students."""
    # The published network learns nothing from so few clips.
    size = {"width": 1 / 16, "batch_norm": True, "head": "pool"}
    base = Settings(data=data, split="disjoint", **size, epochs=6, patience=6, learning_rate=2e-3, teacher_clips=300)
    arms = [replace(base, strategy="baseline"), replace(base, strategy="wi")]
    arms += [replace(base, strategy="at", layers=layer) for layer in LAYERS]
    arms += [replace(base, strategy="at", layers="conv5", aggregation=a, similarity=s) for a, s in FORMS]
    return [replace(arm, seed=seed) for seed in SEEDS for arm in dict.fromkeys(arms)]


def offer() -> str:
    """What training the study costs."""
    minutes = max(1, round(len(wanted("")) * SECONDS / 60 / _workers()))
    return f"Train the demo study: {len(wanted(''))} small runs, about {minutes} min"


def _workers() -> int:
    return min(4, cores())


def demo_study() -> str:
    """Train the demo study into runs/demo_study of the project, or find it done: -> its folder, below the project's.

    480 clips of 6 words by 8 speakers, those of the test unheard in training; networks of 1/16 width, with batch norm.
    Enough to try the explorers on; too small to conclude anything from.
    """
    fs = catalog.load_data(catalog.DEMO)
    folder = home() / STUDY
    experiment.train_many(wanted(str(fs.path.resolve())), folder.parent, folder.name, _workers())
    return STUDY


def start() -> None:
    """Train the study in a process of its own, which ends with this one; does nothing while one trains."""
    if not status().running:
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when the process has ended
        _process[:] = [(started("atlab.explore.demo", log), log)]


def status() -> Training:
    """How far the demo study is."""
    finished = sum(map(runs.is_done, (home() / STUDY).glob("*/")))
    total = len(wanted(""))
    if _process and _process[0][0].poll() is None:
        return Training(True, False, f"training the demo study: {finished} of {total} runs are done")
    if _process and _process[0][0].returncode:
        return Training(False, False, f"the demo study's training ended: {last_words(_process[0][1])}")
    return Training(False, finished >= total, "")


def main() -> None:
    """Train; end when the input does."""
    end_with_input()
    demo_study()
    os._exit(0)


if __name__ == "__main__":
    main()
