"""Tones as data, and small networks on them, trained for a moment."""

from __future__ import annotations

import pytest
import torch

import atlab


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """4 words x 3 speakers x 8 repetitions."""
    folder = tmp_path_factory.mktemp("data") / "tones"
    return atlab.data.toy(folder, words=4, speakers=3, repetitions=8, samples=4096)


def network(seed: int, classes: int = 4, task: str = "word") -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = atlab.models.vgg16(classes, width=1 / 16).eval()
    model.set_normalisation(0.01, 0.03)
    model.card = {"task": task, "classes": [f"{task}{k}" for k in range(classes)]}
    return model


@pytest.fixture(scope="session")
def networks():
    return [network(seed) for seed in range(2)]


@pytest.fixture(scope="session")
def speaker_network():
    return network(7, 3, "speaker")
