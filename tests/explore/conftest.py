"""A small crossed data set and a study of tiny untrained networks with made-up results, as a sweep leaves it."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch

import atlab
from atlab import explore, models, runs
from atlab.settings import Settings

LAYERS, BETAS, SEEDS = ("conv1", "conv5"), (0.5, 1.0), (0, 1, 2)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """48 clips: 3 words x 4 speakers x 4 repetitions, 33 x 129 spectrograms."""
    return atlab.data.toy(
        tmp_path_factory.mktemp("data") / "toy", words=3, speakers=4, repetitions=4, samples=4096
    )


@pytest.fixture(scope="session")
def study(toy, tmp_path_factory):
    """Folder of a study: a baseline, WI and AT at two layers with two betas, three seeds each; its speaker network beside it."""
    root = tmp_path_factory.mktemp("runs")
    base = Settings(data=str(toy.path), width=1 / 32, epochs=2)
    write_run(root, "networks", base.teacher(), toy, "speaker")
    for seed in SEEDS:
        write_run(
            root, "small", Settings(**asdict(base) | {"strategy": "baseline", "seed": seed}), toy, "word"
        )
        write_run(root, "small", Settings(**asdict(base) | {"strategy": "wi", "seed": seed}), toy, "word")
        for layer in LAYERS:
            for beta in BETAS:
                at = {"strategy": "at", "layers": layer, "beta": beta, "seed": seed}
                write_run(root, "small", Settings(**asdict(base) | at), toy, "word")
    return root / "small"


def write_run(root, study, settings, fs, factor) -> runs.Run:
    """A finished run with an untrained network, and results that depend on its settings only."""
    draw = int(runs.run_id(asdict(settings)), 16) % 2**31
    rng, classes = np.random.default_rng(draw), fs.classes(factor)
    with torch.random.fork_rng():
        torch.manual_seed(draw)
        net = models.vgg16(len(classes), width=settings.width)
    net.set_normalisation(0.01, 0.02)
    with runs.open_run(root, study, asdict(settings), data_hash=fs.content_hash) as run:
        models.save(net, run.model_path, classes=classes, task=factor, data=fs.content_hash)
        losses = {
            f"{part}_{name}": rng.random(2)
            for part in ("train", "validation")
            for name in ("loss", "accuracy", "at")
        }
        run.save_history(pd.DataFrame({"epoch": [1, 2], **losses}))
        run.finish(
            {f"{part}_accuracy": float(rng.uniform(0.4, 0.9)) for part in ("train", "validation", "test")}
            | {"epochs_run": 2}
        )
    return run


@pytest.fixture
def done():
    """Every view of an explorer drawn: -> {name: figure}."""

    def figures(explorer) -> dict:
        explorer.wait()
        return {name: view.figure for name, view in explorer.views.items()}

    return figures


@pytest.fixture(autouse=True)
def _forget():
    yield
    explore.clear()
