"""A small sweep, with its orthogonal network and its cache, killed at random moments: what comes of it is what comes undisturbed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from atlab.data.synthetic.toy import toy

GRID = """
study: s
notebook: {notebook}
fixed: {{data: {data}, target: word, split: random, width: 0.015625, epochs: 2, clips: 40, teacher_clips: 40, precision: fp32}}
axes:
  seed: 0..1
  arm:
    - {{strategy: baseline}}
    - {{strategy: at, layers: conv5}}
"""
TIMES = ("seconds",)  # what differs from run to run, and may
LONGEST = 300  # seconds that a sweep takes, undisturbed


def run(count: int) -> int:
    """Kill processes of a sweep `count` times, each time followed by the same sweep: -> 0 if every end was that of an undisturbed one."""
    rng, kills, ends, wrong = random.Random(0), 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "tmp").mkdir()
        data = toy(place / "data", words=4, speakers=4, repetitions=4, samples=2048).path
        (place / "g.yaml").write_text(
            GRID.format(notebook=Path("notebooks/experiments/train.ipynb").absolute(), data=data)
        )
        began = time.monotonic()
        _finish(_sweep(place))
        took, expected = time.monotonic() - began, _content(place / "runs")
        print(f"undisturbed: {len(expected)} files in {took:.0f} s", flush=True)
        while kills < count:
            shutil.rmtree(place / "runs")
            for _ in range(rng.randint(1, 6)):
                kills += _killed(_sweep(place), rng, took)
            _finish(_sweep(place))
            ends += 1
            found, litter = _content(place / "runs"), _litter(place)
            differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            if differ or litter:
                wrong.append((kills, differ, litter))
                print(f"after {kills} kills: {differ} differ, {litter} left", flush=True)
    print(
        f"{kills} kills, {ends} completed sweeps, {len(wrong)} of them differ from an undisturbed one or leave litter"
    )
    return int(bool(wrong))


def _sweep(place: Path) -> subprocess.Popen:
    words = ["-c", "from atlab.cli import command; command()", "sweep", place / "g.yaml", "--root", place / "runs"]
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(place / "tmp")},
    )


def _finish(process: subprocess.Popen) -> None:
    if process.wait(LONGEST):
        sys.exit(f"the sweep ended with {process.returncode}")


def _killed(process: subprocess.Popen, rng: random.Random, took: float) -> int:
    """Kill the sweep, or one of the processes that it started, at a random moment: -> 1, or 0 if it was done before."""
    try:
        process.wait(rng.uniform(0.5, took))
        return 0
    except subprocess.TimeoutExpired:
        pass
    everyone = _descendants(process.pid)
    victim = rng.choice([process.pid, rng.choice([process.pid, *everyone])])
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    if victim != process.pid:  # the sweep may go on, or say what failed
        time.sleep(rng.uniform(0, 2))
        process.kill()
    process.wait()
    limit = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in everyone):
        if time.monotonic() > limit:
            sys.exit(f"processes of a killed sweep stay: {everyone}")
        time.sleep(0.05)
    return 1


def _descendants(pid: int) -> list[int]:
    try:
        children = [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return [*children, *(below for child in children for below in _descendants(child))]


def _content(root: Path) -> dict[str, str]:
    """The hash of every file under the root that is a result; of tables and JSON without what says how long something took."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not path.is_file() or path.name in ("out.ipynb", "done", ".lock") or path.suffix == ".lock":
            continue
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            content = table.drop(columns=[column for column in TIMES if column in table]).to_csv().encode()
        elif path.suffix == ".json":
            content = json.dumps(json.loads(path.read_text()), sort_keys=True).encode()
        else:
            content = path.read_bytes()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def _litter(place: Path) -> list[str]:
    """What killed processes left and the sweep after them did not remove: half-written files of runs, older temporary folders."""
    left = [path for path in (place / "runs").rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".out.")]
    old = [
        path for path in (place / "tmp").glob("atlab-*") if path.is_dir() and time.time() - path.stat().st_mtime > 120
    ]
    return [str(path.relative_to(place)) for path in left + old]
