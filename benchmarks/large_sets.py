"""Memory while a set is built, and time to open one, in this process: a fresh one for each measurement.

    python -m benchmarks.large_sets --build 50000 --workers 2
    python -m benchmarks.large_sets --open data/synthetic_speech

Peaks are beyond what the process holds after its imports (Linux only). The answer is a line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from atlab.data import Clip, FactorSet, build

CARD = {"name": "benchmark", "recipe": "benchmark", "licence": "public domain", "sample_rate": 16_000}


def seconds(task: Callable[[], object]) -> float:
    """Time that a task takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def short_clip(number: int) -> list[Clip]:
    """A tenth of a second."""
    wave = np.full(1600, number % 1000, np.int16)
    row = {
        "id": f"clip{number}",
        "source": f"file{number // 4}",
        "duration": 0.1,
        "word": f"w{number % 10}",
        "speaker": f"s{number % 97}",
    }
    return [Clip(wave, row)]


def many_clips(number: int) -> list[Clip]:
    """A thousand clips of 16 samples."""
    rows = (short_clip(1000 * number + k)[0].row for k in range(1000))
    return [Clip(np.full(16, number, np.int16), row) for row in rows]


def memory_mib(field: str, process: int | str = "self") -> float:
    """VmRSS (resident now) or VmHWM (its peak); 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return 0.0


@contextmanager
def children_watched(peaks: dict[str, float]) -> Iterator[None]:
    """Notes the peak memory of every child process, every 50 ms."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for task in Path("/proc/self/task").iterdir():
                for child in (task / "children").read_text().split():
                    peaks[child] = max(peaks.get(child, 0.0), memory_mib("VmHWM", child))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def build_peaks(clips: int, workers: int) -> dict:
    """Peak memory of building a set of short clips in this process, a fresh one, and of its workers."""
    import pandas as pd
    import pyarrow.parquet  # noqa: F401 - what the build imports is not what it needs for its clips

    with tempfile.TemporaryDirectory() as folder:
        pd.DataFrame({"a": ["b"]}).to_parquet(Path(folder) / "first.parquet")
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
        before, peaks = memory_mib("VmRSS"), {}
        with children_watched(peaks):
            options = {"card": CARD, "factors": ["word", "speaker"], "workers": workers}
            wall = seconds(partial(build, Path(folder) / "set", range(clips), short_clip, **options))
        own, workers_own = memory_mib("VmHWM") - before, max(peaks.values())
    return {
        **{"clips": clips, "prepared_mb": clips * 3200 / 1e6, "seconds": wall, "clips_per_s": clips / wall},
        **{"peak_mib": own, "largest_worker_mib": workers_own},
    }


def open_time(path: Path) -> dict:
    """Seconds to import what opening a set needs, to open it the first time in this process, and again."""
    imports = seconds(partial(importlib.import_module, "pandas"))
    first = seconds(partial(FactorSet.open, path))
    again = seconds(partial(FactorSet.open, path))
    return {"clips": len(FactorSet.open(path)), "imports_s": imports, "first_s": first, "again_s": again}


def write_large(path: Path) -> None:
    """A set of 100,000 clips of 16 samples."""
    build(path, range(100), many_clips, card=CARD, factors=["word", "speaker"], workers=0)


def in_fresh_process(*arguments: object) -> dict:
    """The answer of this module, run with these arguments."""
    command = [sys.executable, "-m", "benchmarks.large_sets", *map(str, arguments)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(answer.splitlines()[-1])


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--build", type=int, help="clips of the set that is built")
    what.add_argument("--open", type=Path, help="the set that is opened")
    parser.add_argument("--workers", type=int, default=2)
    a = parser.parse_args()
    print(json.dumps(build_peaks(a.build, a.workers) if a.build else open_time(a.open)))


if __name__ == "__main__":
    main()
