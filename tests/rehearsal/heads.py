"""What a grid says in its head: the commands that prepare its data; and the data sets that its runs name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import data_recipes

PREFIX = "atlab data prepare "
NAMES_DATA = ("data", "emotion_data", "noise_from")  # parameters whose value is a data set
NAMES_TASK = ("source", "base")  # parameters whose value may be a task of another data set


def commands(grid: Path) -> list[list[str]]:
    """The words after `atlab data prepare` of every command in the head; the words before may be left out after the first.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "g.yaml")
    >>> _ = path.write_text("# Prepare: `atlab data prepare gsc`, `iemocap\\n# --option seconds=1`.\\nstudy: s")
    >>> commands(path)
    [['gsc'], ['iemocap', '--option', 'seconds=1']]
    """
    lines = grid.read_text().splitlines()
    head = " ".join(line.lstrip("# ") for line in lines[: next(n for n, line in enumerate(lines) if line[:1] != "#")])
    found = [shlex.split(span.removeprefix(PREFIX)) for span in re.findall(r"`([^`]+)`", head)]
    return [words for words in found if words and words[0] in data_recipes.recipes()]


def folder(command: list[str]) -> str:
    """The data set that a command writes.

    >>> folder(["gsc"]), folder(["iemocap", "--out", "data/iemocap_1s"])
    ('gsc', 'iemocap_1s')
    """
    return PurePosixPath(command[command.index("--out") + 1]).name if "--out" in command else command[0]


def named(jobs: Iterable[Mapping]) -> set[str]:
    """The data sets that runs name, without "data/".

    >>> sorted(named([{"data": "data/gsc", "orthogonal": ("speaker", "emotion@data/iemocap_1s"), "noise_from": ""}]))
    ['gsc', 'iemocap_1s']
    """
    found = set()
    for job in jobs:
        tasks = job.get("orthogonal", ())
        tasks = [*(tasks.split(",") if isinstance(tasks, str) else tasks), *(job.get(name, "") for name in NAMES_TASK)]
        found |= {task.partition("@")[2] for task in tasks} | {job.get(name, "") for name in NAMES_DATA}
    return {name.removeprefix("data/") for name in found if name}
