"""Agreement with the maps of orthogonal networks: against maps computed one by one, and claims with a known answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import atlab
from atlab.invariance.maps import orthogonal
from atlab.invariance.maps.gradcam import class_activation_map

ROWS = np.array([3, 11, 40, 77, 90])


def test_every_student_is_compared_with_every_orthogonal_network_clip_by_clip(tones, networks, speaker_network):
    models = {"baseline": [(4, networks[0])], "dual_at": [(4, networks[1])]}
    found = orthogonal.with_orthogonal(
        models, {"speaker": speaker_network}, tones, ROWS, "conv3", batch_size=2, device="cpu", progress=False
    )
    assert found.groupby("name")["row"].agg(list).to_dict() == {name: ROWS.tolist() for name in models}
    x = atlab.data.Spectrogram(sample_rate=tones.sample_rate)(torch.from_numpy(tones.read(ROWS)))
    theirs = class_activation_map(speaker_network, x, "conv3")
    for name, ((seed, student),) in models.items():
        ours = class_activation_map(student, x, "conv3")
        with np.errstate(invalid="ignore", divide="ignore"):  # constant maps
            want = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours, theirs, strict=True)]
        part = found[found["name"] == name]
        assert part["correlation"].to_numpy() == pytest.approx(np.array(want), abs=1e-4, nan_ok=True)
        means = orthogonal.by_seed(found).set_index(["name", "seed", "task"]).loc[name, seed, "speaker"]
        assert means["correlation"] == pytest.approx(np.nanmean(want), abs=1e-4)
        assert means["clips"] == np.isfinite(want).sum()


def test_looking_away_is_decided_by_paired_differences():
    rows = [
        {"name": name, "seed": seed, "task": task, "correlation": 0.5 + 0.01 * seed - away * (name == "dual_at")}
        for name in ("baseline", "dual_at")
        for task, away in (("noise", 0.2), ("emotion", -0.2))
        for seed in range(3)
    ]
    jitter = np.random.default_rng(0).normal(0, 0.01, len(rows))
    means = pd.DataFrame(rows).assign(correlation=lambda t: t["correlation"] + jitter)
    noise, emotion = orthogonal.claims(means)
    assert (
        "noise" in noise and "**holds here**" in noise and "emotion" in emotion and "**does not hold here**" in emotion
    )
