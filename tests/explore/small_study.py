"""A study of tiny untrained networks with made-up results, as a sweep leaves it; for tests of the explorers."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from atlab import explore, models, runs
from atlab.experiment.settings import Settings
from atlab.explore.app import PAGES
from atlab.explore.widgets.explorer import Explorer

LAYERS, BETAS, SEEDS = ("conv1", "conv5"), (0.5, 1.0), (0, 1, 2)


def write_study(root: Path, fs, width: float = 1 / 32) -> Path:
    """A baseline, WI and AT at two layers with two betas, three seeds each; their speaker network beside them: -> folder."""
    base = Settings(data=str(fs.path), width=width, epochs=2)
    write_run(root, "networks", base.teacher(), fs, "speaker")
    for seed in SEEDS:
        for strategy in ("baseline", "wi"):
            write_run(root, "small", replace(base, strategy=strategy, seed=seed), fs, "word")
        for layer in LAYERS:
            for beta in BETAS:
                write_run(root, "small", replace(base, strategy="at", layers=layer, beta=beta, seed=seed), fs, "word")
    return root / "small"


def write_run(root: Path, study: str, settings: Settings, fs, factor: str) -> runs.Run:
    """A finished run with an untrained network, and results that depend on its settings only."""
    draw = int(runs.run_id(asdict(settings) | {"data": ""}), 16) % 2**31  # wherever the data lies
    rng, classes = np.random.default_rng(draw), fs.classes(factor)
    with torch.random.fork_rng():
        torch.manual_seed(draw)
        net = models.vgg16(len(classes), width=settings.width)
    net.set_normalisation(0.01, 0.02)
    with runs.open_run(root, study, asdict(settings), data_hash=fs.content_hash) as run:
        models.save(net, run.model_path, classes=classes, task=factor, data=fs.content_hash)
        losses = {
            f"{part}_{name}": rng.random(2) for part in ("train", "validation") for name in ("loss", "accuracy", "at")
        }
        run.save_history(pd.DataFrame({"epoch": [1, 2], **losses}))
        run.finish(
            {f"{part}_accuracy": float(rng.uniform(0.4, 0.9)) for part in ("train", "validation", "test")}
            | {"epochs_run": 2}
        )
    return run


def page(name: str, **fields) -> Explorer:
    """A page of the explorers at fields of its state, computed before this returns."""
    return explore.page(PAGES[name].state(**fields), threaded=False)
