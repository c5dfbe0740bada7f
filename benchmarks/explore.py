"""How long a page of the explorers takes from a change to its figure: `python -m benchmarks.explore [--repeats N] [--out FILE]`.

Networks of 1/8 width with random weights on synthetic clips of 1 s, on one thread. Medians and quartiles of the time on the
clock, which other load lengthens, and of processor time, which is what a free core takes. Both include writing the figure
as the text that the browser gets, not the browser's drawing. A plain loop of pytorch-grad-cam over the same networks and
clips runs in turn with the explorer's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

STORED, LIVE, PAGE = 300, 1500, 5000  # milliseconds wanted: without and with a pass through networks, a new page
PAGES, READY = 3, 20  # pages asked for, and seconds until a kernel waits for the next one
ROW = "{change:46} {clock:>8.0f} {processor:>10.0f}   {limit}"


def main(arguments: list[str] | None = None) -> dict:
    """Measure, print, write: -> what was written."""
    import torch

    from benchmarks.machine import describe

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/explore.json")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        fs, study = make(Path(folder))
        rows = [*measure(fs, study, given.repeats), first_page(study)]
    print(f"{'milliseconds, medians':46} {'clock':>8} {'processor':>10}   limit")
    for row in rows:
        print(
            ROW.format(
                change=row["change"],
                clock=row["clock_ms"][1],
                processor=row["processor_ms"][1] if row["processor_ms"] else float("nan"),
                limit=row["limit_ms"] or "-",
            )
        )
    found = {"machine": describe(), "repeats": given.repeats, "quartiles": [0.25, 0.5, 0.75], "rows": rows}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    return found


def make(folder: Path):
    """A data set of 1 s clips, and a study of five networks of 1/8 width with results of three seeds."""
    import torch

    import atlab
    from atlab import models, runs
    from atlab.experiment.settings import Settings

    fs = atlab.data.toy(folder / "toy", words=4, speakers=4, repetitions=4, samples=16000)
    base = Settings(data=str(fs.path), width=1 / 8)
    rng = np.random.default_rng(0)
    arms = [
        replace(base, strategy="baseline"),
        replace(base, strategy="wi"),
        *(replace(base, layers=f"conv{n}") for n in (1, 5, 9)),
    ]
    for arm, seed in itertools.product(arms, range(3)):
        settings = replace(arm, seed=seed)
        with runs.open_run(folder / "runs", "study", asdict(settings), fs.content_hash) as run:
            torch.manual_seed(seed)
            models.save(
                models.vgg16(4, width=1 / 8),
                run.model_path,
                classes=fs.classes("word"),
                task="word",
                data=fs.content_hash,
            )
            run.save_history(
                pd.DataFrame(
                    {
                        "epoch": range(1, 21),
                        **{f"{p}_{n}": rng.random(20) for p in ("train", "validation") for n in ("loss", "at")},
                    }
                )
            )
            run.finish({f"{part}_accuracy": rng.uniform(0.4, 0.9) for part in ("train", "validation", "test")})
    return fs, str(folder / "runs/study")


def measure(fs, study: str, repeats: int) -> list[dict]:
    """Every kind of change: quartiles over the repeats, in milliseconds."""
    from atlab import explore, models
    from atlab.explore import studies
    from atlab.explore.cache import FIGURES

    chosen = tuple(n.label for n in studies.networks(study).values() if n.seed == 0)
    assert len(chosen) == 5
    common = {"study": study, "networks": chosen, "layer": "conv13"}
    maps = explore.page(explore.MapsState(**common, pair_by="-"), threaded=False)
    paired = explore.page(explore.MapsState(**common), threaded=False)
    ablation, layers = (
        explore.page(kind(study=study), threaded=False) for kind in (explore.AblationState, explore.LayersState)
    )
    clips = itertools.cycle(fs.factors["id"].tolist()[1:])
    nets = [models.load(studies.networks(study)[label].path) for label in chosen]
    numbers = np.random.default_rng(1).permutation(np.arange(5, 95)) / 100
    opacities, layer_names = (itertools.cycle(numbers.tolist()), itertools.cycle(f"conv{n}" for n in range(1, 14)))
    draws = itertools.count(1)
    cells = itertools.cycle(
        itertools.product(("heat map", "curves"), ("train_accuracy", "test_accuracy"), ("strategy", "layers"))
    )

    def result() -> None:
        FIGURES.clear()  # results are stored, the figure is made anew
        kind, metric, x = next(cells)
        ablation.change(kind=kind, metric=metric, x=x, y="-")

    ways: dict[str, tuple[Callable[[], None], int | None]] = {
        "ablation: another axis, result or kind": (result, STORED),
        "maps: opacity": (lambda: maps.change(opacity=next(opacities)), STORED),
        "layers: another layer": (lambda: layers.change(layer=next(layer_names)), STORED),
        "layers: baseline and AT on another draw of 24 clips": (lambda: layers.change(seed=next(draws)), LIVE),
        "maps: a new pair and the agreement over 12 pairs at a new layer": (
            lambda: paired.change(clip=next(clips), layer=next(layer_names)),
            LIVE,
        ),
        "maps: Grad-CAM of five networks, a new clip": (lambda: maps.change(clip=next(clips)), LIVE),
        "the same five maps, plain pytorch-grad-cam": (lambda: plain(nets, fs, next(clips)), None),
    }
    for way, _ in ways.values():
        way()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (way, _) in ways.items():
            clock, processor = time.perf_counter(), time.process_time()
            way()
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    assert not any(page.message for page in (maps, paired, ablation, layers))
    rows = []
    for name, (_, limit) in ways.items():
        clock, processor = (1000 * np.quantile(times[name], [0.25, 0.5, 0.75], axis=0)).round(1).T.tolist()
        rows.append({"change": name, "clock_ms": clock, "processor_ms": processor, "limit_ms": limit})
    return rows


def first_page(study: str) -> dict:
    """From the address of `atlab explore` to runs and figure of its home page, drawn by Chromium, while a kernel waits."""
    from playwright.sync_api import sync_playwright

    from atlab.explore import serving

    times = []
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with serving.served(study, port) as (_, address), sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(PAGES):
            time.sleep(READY)
            page = browser.new_page()
            clock = time.perf_counter()
            page.goto(address)
            for place in (".atlab-table-runs tbody tr", ".atlab-figure-differences .main-svg"):
                page.locator(place).first.wait_for()
            times.append(time.perf_counter() - clock)
            page.close(run_before_unload=True)
        browser.close()
    clock_ms = (1000 * np.quantile(times, [0.25, 0.5, 0.75])).round(1).tolist()
    return {
        "change": "home: a new page of atlab explore, drawn",
        "clock_ms": clock_ms,
        "processor_ms": None,
        "limit_ms": PAGE,
    }


def plain(nets: list, fs, clip: str) -> None:
    """What the library itself asks a user to write."""
    import torch
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from atlab.data import frontend

    row = fs.factors["id"].tolist().index(clip)
    x = frontend(fs)(torch.from_numpy(fs.read([row])))
    for net in nets:
        with GradCAM(model=net, target_layers=[net.features[29]]) as cam:
            cam(input_tensor=x, targets=[ClassifierOutputTarget(0)])


if __name__ == "__main__":
    main()
