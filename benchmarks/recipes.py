"""What preparing a data set costs: speed against decoding alone, memory as a set grows, opening a large set.

    python -m benchmarks.recipes --workers 2 --out benchmarks/results/recipes.json

Corpora of synthetic sounds and pictures are written in their official layouts. Each is decoded in this
process (every file read to samples or pixels, nothing else; for the second line of fsdd, also resampled),
prepared in this process, and prepared by worker processes; the fastest of --repeats counts, the four taking
turns. A ratio is time over that of decoding in one process, in seconds of processor, which depend little on
what else the machine does; for the workers it is their time beyond starting and importing (measured apart, on
an empty task) divided by their number: what a large corpus takes on that many free cores. Seconds of the
clock are there too, with the load under which they were taken.

Memory and opening are those of `benchmarks.large_sets`, a fresh process each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import data_recipes
from atlab.data import FactorSet
from atlab.system.processes import pool
from benchmarks.large_sets import in_fresh_process, write_large

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Corpus:
    """A recipe, how its corpus is written, its files and how one is decoded, options of the recipe."""

    recipe: str
    write: Callable[[Path], object]
    files: str
    decode: Callable[[Path], object]
    options: dict


def decode_sound(path: Path) -> np.ndarray:
    """Samples of a sound file, as they are."""
    import soundfile

    return soundfile.read(path, dtype="float32")[0]


def decode_and_resample(path: Path) -> np.ndarray:
    """Samples of a sound file at 16 kHz."""
    from data_recipes.audio import read_audio

    return read_audio(path, 16_000)


def decode_picture(path: Path) -> np.ndarray:
    """Pixels of a picture, as they are."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def decode_records(path: Path) -> np.ndarray:
    """Pixels and labels of a CIFAR file."""
    return np.fromfile(path, np.uint8).reshape(-1, 3073)


def write_fsdd(root: Path) -> None:
    """1,200 recordings of 0.2 to 0.7 s at 8 kHz."""
    from data_recipes import fsdd
    from tests.recipes import corpora

    for digit in range(10):
        for s, speaker in enumerate(fsdd.SPEAKERS):
            for take in range(20):
                wave = corpora.sound(0.2 + 0.05 * ((digit + take) % 11), 100 * digit + 10 * s + take, rate=8000)
                corpora.write(root / "recordings" / f"{digit}_{speaker}_{take}.wav", wave, 8000)


def write_gsc(root: Path) -> None:
    """1,021 clips of 1 s at 16 kHz."""
    from tests.recipes import corpora

    corpora.speech_commands(root, words=DIGITS, repeats=17)


def write_nsynth(root: Path) -> None:
    """500 notes of 4 s at 16 kHz."""
    from tests.recipes import corpora_music

    corpora_music.nsynth(root, {"nsynth-train": 500})


def write_cifar10(root: Path) -> None:
    """30,000 images."""
    from tests.recipes import corpora_images

    corpora_images.cifar10(root, per_batch=5000, tested=5000)


def write_pictures(root: Path) -> None:
    """1,000 photographs, as far as a decoder can tell: JPEG of 256 x 256."""
    from tests.recipes import corpora_images

    for n in range(1000):
        corpora_images.picture(root / "train" / f"n{n % 10:08d}" / f"{n}.jpg", 256, 256, seed=n)


CORPORA = {
    "fsdd": Corpus("fsdd", write_fsdd, "*.wav", decode_sound, {}),
    "fsdd, from 8 to 16 kHz": Corpus("fsdd", write_fsdd, "*.wav", decode_and_resample, {}),
    "gsc": Corpus("gsc", write_gsc, "*_nohash_*.wav", decode_sound, {"per_word": "all"}),
    "nsynth": Corpus("nsynth", write_nsynth, "*.wav", decode_sound, {"per_family": "all"}),
    "cifar10": Corpus("cifar10", write_cifar10, "*.bin", decode_records, {}),
    "imagenet": Corpus("imagenet", write_pictures, "*.jpg", decode_picture, {"size": 64}),
}


def processor_seconds() -> float:
    """Time on the processor of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def timed(task: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    wall, processor = time.perf_counter(), processor_seconds()
    task()
    return time.perf_counter() - wall, processor_seconds() - processor


def fastest(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """The least of several runs of each task, which take turns; each kind of time for itself."""
    times = [{name: timed(task) for name, task in tasks.items()} for _ in range(repeats)]
    return {name: tuple(min(run[name][kind] for run in times) for kind in (0, 1)) for name in tasks}


def measure(name: str, workers: int, repeats: int, folder: Path) -> dict:
    """One corpus: time to decode its files, to prepare it here, and with workers."""
    corpus, raw = CORPORA[name], folder / name / "raw"
    raw.mkdir(parents=True)
    corpus.write(raw)
    paths = sorted(raw.rglob(corpus.files))
    recipe = data_recipes.get(corpus.recipe)

    out = folder / name / "out"

    def prepare(workers: int) -> None:
        shutil.rmtree(out, ignore_errors=True)
        recipe.prepare(raw, out, workers=workers, **corpus.options)

    first = decode_and_resample if corpus.decode is decode_sound else corpus.decode
    tasks = {
        "decode": lambda: [corpus.decode(path) for path in paths],
        "here": partial(prepare, 0),
        "workers": partial(prepare, workers),
        "start": partial(start_workers, workers, corpus.recipe, paths[0], first),
    }
    with redirect_stdout(sys.stderr):  # what differs from the published corpus
        for task in tasks.values():  # imports, and reading from the disk, are not part of decoding
            task()
        times = fastest(tasks, repeats)
    decode, here, several, start = times.values()
    fs = FactorSet.open(out)
    size, at_work = sum(path.stat().st_size for path in paths) / 1e6, (several[1] - start[1]) / workers
    return {
        "corpus": name,
        "files": len(paths),
        "clips": len(fs),
        "raw_mb": size,
        "prepared_mb": fs.inputs.nbytes / 1e6,
        "decode_s": decode[0],
        "decode_processor_s": decode[1],
        "one_process_s": here[0],
        "one_process_processor_s": here[1],
        "one_process_ratio": here[1] / decode[1],
        "one_process_clips_per_s": len(fs) / here[0],
        "one_process_mb_per_s": size / here[0],
        "workers_s": several[0],
        "workers_start_s": start[0],
        "workers_processor_s": several[1],
        "workers_start_processor_s": start[1],
        "workers_ratio": at_work / decode[1],
        "workers_clips_per_s": len(fs) / at_work,
        "workers_mb_per_s": size / at_work,
    }


def start_workers(workers: int, recipe: str, path: Path, decode: Callable[[Path], object]) -> None:
    """Start the processes of a build, have each import what it needs for its first item, and end them."""
    with pool(workers) as processes:
        list(processes.map(partial(import_recipe, recipe, path), [decode] * workers))


def import_recipe(recipe: str, path: Path, decode: Callable[[Path], object]) -> None:
    """What the first item of a worker waits for."""
    data_recipes.get(recipe)
    decode(path)
    time.sleep(0.05)  # so that no worker gets two


def rounded(found: object) -> object:
    """All floats to four digits."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return float(f"{found:.4g}") if isinstance(found, float) else found


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="*", choices=CORPORA, default=list(CORPORA))
    parser.add_argument(
        "--clips", type=int, nargs="*", default=[1000, 10_000, 50_000, 200_000], help="sets whose memory is measured"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'corpus':23}{'clips':>7}{'decode s':>10}{'here s':>8}{'ratio':>7}", end="")
        print(f"{'workers s':>11}{'started in':>12}{'ratio':>7}")
        rows = []
        for name in a.corpora:
            row = measure(name, a.workers, a.repeats, Path(folder))
            rows.append(row)
            print(f"{name:23}{row['clips']:7}{row['decode_s']:10.2f}{row['one_process_s']:8.2f}", end="")
            print(f"{row['one_process_ratio']:7.2f}{row['workers_s']:11.2f}", end="")
            print(f"{row['workers_start_s']:12.2f}{row['workers_ratio']:7.2f}", flush=True)
        peaks = [in_fresh_process("--workers", a.workers, "--build", clips) for clips in a.clips]
        for peak in peaks:
            print({key: round(value, 1) for key, value in peak.items()}, flush=True)
        write_large(Path(folder) / "large")
        opened = in_fresh_process("--open", Path(folder) / "large")
        print(opened)
    if a.out:
        machine = {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "workers": a.workers,
        }
        found = {
            "machine": machine,
            "command": " ".join(sys.argv[1:]),
            "recipes": rows,
            "memory": peaks,
            "open": opened,
        }
        a.out.parent.mkdir(parents=True, exist_ok=True)
        a.out.write_text(json.dumps(rounded(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
