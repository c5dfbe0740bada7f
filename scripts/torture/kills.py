"""Runs with their orthogonal network and its cache, killed at random moments and begun again: the end is that of undisturbed ones."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from atlab.cli import command
from atlab.data.synthetic.toy import toy
from atlab.experiment import Settings, train

GRID = """
study: s
notebook: {notebook}
fixed: {{data: {data}, target: word, split: random, width: 0.015625, epochs: 2, clips: 40, teacher_clips: 40, precision: fp32}}
axes: {{seed: [0], strategy: [baseline, at], layers: [conv5]}}
"""
LONGEST = 600  # seconds that it takes to complete everything, undisturbed


def trainings(count: int) -> int:
    """Kill a process that trains all runs, one after the other, `count` times: -> 0 if every end was that of undisturbed runs."""
    return _series(_train_all, count)


def sweeps(count: int) -> int:
    """The same of `atlab sweep`, its workers and its kernels: the sweep itself is killed, or any of the processes below it."""
    return _series(_sweep, count)


def _train_all(place: Path) -> None:
    given = {"target": "word", "split": "random", "width": 1 / 64, "epochs": 2, "clips": 40, "teacher_clips": 40}
    for strategy in ("baseline", "at"):
        train(
            Settings(data=str(place / "data"), strategy=strategy, precision="fp32", **given),
            place / "runs",
            progress=False,
        )


def _sweep(place: Path) -> None:
    sys.argv = ["atlab", "sweep", str(place / "g.yaml"), "--root", str(place / "runs")]
    command()


def _series(act: Callable[[Path], None], count: int) -> int:
    torch.set_num_threads(1)  # and no thread before the first fork
    rng, kills, ends, wrong = random.Random(0), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "tmp").mkdir()
        toy(place / "data", words=4, speakers=4, repetitions=4, samples=4096)
        notebook = Path("notebooks/experiments/train.ipynb").absolute()
        (place / "g.yaml").write_text(GRID.format(notebook=notebook, data=place / "data"))
        began = time.monotonic()
        _completed(_begun(act, place), place)
        took, expected = time.monotonic() - began, _content(place / "runs")
        print(f"undisturbed: {len(expected)} files in {took:.1f} s", flush=True)
        while kills < count:
            shutil.rmtree(place / "runs")
            for _ in range(rng.randint(1, 8)):
                kills += _killed(_begun(act, place), rng, took)
            _completed(_begun(act, place), place)
            ends += 1
            found, litter = _content(place / "runs"), _litter(place)
            differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            wrong += bool(differ or litter)
            print(f"{kills} kills, {ends} times completed", flush=True)
            if differ or litter:
                print(f"after {kills} kills: {differ} differ, {litter} left", flush=True)
    print(f"{kills} kills, {ends} times completed, {wrong} of them other than undisturbed, or with litter", flush=True)
    return int(bool(wrong))


def _begun(act: Callable[[Path], None], place: Path) -> int:
    """The process id of a fork that acts; what it says is thrown away, but for a traceback."""
    if pid := os.fork():
        return pid
    os.setsid()
    os.environ["TMPDIR"] = tempfile.tempdir = str(place / "tmp")
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 1)
    code = 1
    try:
        with open(place / "said", "w") as file:
            os.dup2(file.fileno(), 2)
            act(place)
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def _completed(pid: int, place: Path) -> None:
    limit = time.monotonic() + LONGEST
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > limit:
            sys.exit("it hangs")
        time.sleep(0.02)
    if ended[1]:
        sys.exit((place / "said").read_text())


def _killed(pid: int, rng: random.Random, took: float) -> int:
    """Kill the process, or now and then one below it, at a random moment: -> 1, or 0 if it was done before."""
    limit = time.monotonic() + rng.uniform(0, took)
    while time.monotonic() < limit:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return 0
        time.sleep(0.005)
    below = _descendants(pid)
    if below and rng.random() < 0.5:
        os.kill(rng.choice(below), signal.SIGKILL)
        time.sleep(rng.uniform(0, 2))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    limit = time.monotonic() + 120
    while any(_alive(other) for other in below):
        if time.monotonic() > limit:
            sys.exit(f"processes of one that was killed stay: {below}")
        time.sleep(0.05)
    return 1


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _descendants(pid: int) -> list[int]:
    try:
        tasks = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [found for words in tasks for child in map(int, words) for found in (child, *_descendants(child))]


def _content(root: Path) -> dict[str, str]:
    """The hash of every result under the root; of a table without the seconds that it took."""
    found = {}
    for path in sorted(root.rglob("*")):
        if not path.is_file() or path.name in ("out.ipynb", "out.html", "done") or path.name.endswith(".lock"):
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = pd.read_parquet(path).drop(columns="seconds", errors="ignore").to_csv().encode()
        if path.suffix == ".json":
            content = json.dumps(json.loads(content), sort_keys=True).encode()
        found[path.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def _litter(place: Path) -> list[str]:
    """What killed processes left and the last one did not remove: half-written files, temporary folders older than a sweep."""
    left = [path for path in (place / "runs").rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".out.")]
    old = [
        path for path in (place / "tmp").glob("atlab-*") if path.is_dir() and time.time() - path.stat().st_mtime > 600
    ]
    return [str(path.relative_to(place)) for path in left + old]
