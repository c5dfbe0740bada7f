"""A hundred updates in a row leave no hook on a network, no thread, and no more tensors or figures than fifty."""

from __future__ import annotations

import gc
import itertools
import threading

import plotly.graph_objects as go
import torch

from atlab.explore import cache, studies
from tests.explore.small_study import page


def live(kind) -> int:
    gc.collect()
    return sum(1 for thing in gc.get_objects() if type(thing) is kind)


def hooks(study) -> int:
    nets = [studies.model(str(study), label)[1] for label in studies.networks(str(study))]
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for net in nets
        for m in net.modules()
    )


def run(change, values, times) -> None:
    for value in itertools.islice(itertools.cycle(values), times):
        change(**value)


def test_many_updates_leave_nothing_behind(study, toy, monkeypatch):
    monkeypatch.setattr(cache.FIGURES, "most", 6)  # so that figures are made and dropped, not only found
    monkeypatch.setattr(cache.RESULTS, "most", 200)
    maps = page(
        "grad-cam", study=str(study), networks=("baseline seed 0", "WI seed 0"), pair_by="-", clip="word0-speaker0-0"
    )
    layers = page("layers", study=str(study), clips=4)
    ablation = page("ablation", study=str(study))
    data = page("data", data=str(toy.path))
    clips = toy.factors["id"].tolist()[:12]
    threads = threading.active_count()

    def everything(times: int) -> None:
        run(
            maps.change,
            [
                {"clip": clip, "layer": layer, "opacity": 0.5}
                for clip, layer in zip(clips, ["conv3", "conv5"] * 6, strict=True)
            ],
            times,
        )
        run(layers.change, [{"layer": f"conv{n}", "clip": clips[n % 4]} for n in range(1, 14)], times)
        run(
            ablation.change,
            [
                {"kind": kind, "cell": ("at", y), "x": "strategy", "y": "layers"}
                for kind in ("heat map", "curves")
                for y in ("conv1", "conv5")
            ],
            times,
        )
        run(
            data.change,
            [{"clip": clip, "noise": kind} for clip, kind in zip(clips, ["none", "hum", "pink"] * 4, strict=True)],
            times,
        )

    everything(13)  # 52 updates fill the caches
    before = live(torch.Tensor), live(torch.nn.Parameter), live(go.Figure)
    everything(13)  # as many again
    after = live(torch.Tensor), live(torch.nn.Parameter), live(go.Figure)
    assert hooks(study) == 0
    assert threading.active_count() == threads
    assert after[1] == before[1] and after[0] <= before[0] + 5 and after[2] <= before[2] + 6
    assert not any(e.message for e in (maps, layers, ablation, data))
    for net in (studies.model(str(study), "WI seed 0")[1],):
        assert all(p.grad is None for p in net.parameters())
