"""Cached targets: the live loss at no teacher forward; never another teacher's, never half-written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import atlab
from atlab import functional as F
from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.system.hashing import sha256_file
from atlab.teachers.cached import cached_or_live

SIZE = (32, 34)


def vgg(seed: int, classes: int = 4):
    torch.manual_seed(seed)
    return atlab.models.vgg16(classes, width=1 / 16).eval()


def clips(n: int = 10, seed: int = 0, **kwargs) -> InMemory:
    x = torch.rand(n, 1, *SIZE, generator=torch.Generator().manual_seed(seed))
    return InMemory(x, torch.arange(n) % 4, batch_size=4, **kwargs)


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: sha256_file(p) for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("aggregation", [a for a in F.AGGREGATIONS if a != "stochastic_pairwise"])
@pytest.mark.parametrize("similarity", F.SIMILARITIES)
def test_cached_equals_live_in_value_and_gradient(tmp_path, aggregation, similarity):
    student, live, data = vgg(0), atlab.Teacher(vgg(1), ["conv2", "conv5", "conv13"]), clips()
    cached = atlab.CachedTeacher(live, data, tmp_path / "cache", aggregation)
    values, gradients = [], []
    for teacher in (live, cached):
        batch = next(iter(data.epoch(0)))
        with atlab.AntiTransferLoss(student, teacher, aggregation, similarity) as at:
            student.zero_grad()
            student(batch.x)
            loss = at(batch.x, index=batch.index)
            loss.backward()
        values.append(float(loss.detach()))
        gradients.append(student.features[0].weight.grad.clone())
        if teacher is live:
            live = atlab.Teacher(live.model, live.layers)
    assert values[1] == pytest.approx(values[0], abs=2e-3)
    assert torch.allclose(gradients[0], gradients[1], atol=0.02 * float(gradients[0].abs().max()) + 1e-9)


def test_targets_are_float32_under_autocast(tmp_path):
    """Also those that are made anew of stored features (conv10), or are the features (conv13)."""
    layers, data = ["conv5", "conv10", "conv13"], clips()
    cached = atlab.CachedTeacher(atlab.Teacher(vgg(1), layers), data, tmp_path / "cache")
    index = torch.tensor([3, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cached.targets(index=index)
    wanted = cached.targets(index=index)
    for layer in layers:
        pairs = zip(*(t if isinstance(t, tuple) else (t,) for t in (found[layer], wanted[layer])), strict=True)
        assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in pairs)


def test_stochastic_pairwise_draws_from_the_cached_features(tmp_path):
    student, live, data = vgg(0), atlab.Teacher(vgg(1), "conv5"), clips()
    cached = atlab.CachedTeacher(live, data, tmp_path / "cache", "stochastic_pairwise")
    batch = next(iter(data.epoch(0)))
    values = []
    for teacher in (atlab.Teacher(vgg(1), "conv5"), cached):
        with atlab.AntiTransferLoss(student, teacher, "stochastic_pairwise") as at:
            student(batch.x)
            torch.manual_seed(3)
            values.append(float(at(batch.x, index=batch.index).detach()))
    assert values[0] == pytest.approx(values[1], abs=2e-3)


def test_training_with_a_cache_runs_no_teacher_forward(tmp_path):
    student, teacher, data = vgg(0), atlab.Teacher(vgg(1), "conv5"), clips()
    at = atlab.AntiTransferLoss(student, atlab.CachedTeacher(teacher, data, tmp_path / "cache"))
    calls = []
    for model in (vgg(1), teacher.model):
        model.features[0].register_forward_hook(lambda *_: calls.append(1))
    for batch in data.epoch(1):
        student(batch.x)
        at(batch.x, index=batch.index).backward()
    assert calls == []


def test_grams_are_triangles_and_late_layers_are_stored_as_their_smaller_features(tmp_path):
    teacher, data = atlab.Teacher(vgg(1), ["conv1", "conv13"]), clips()
    cached = atlab.CachedTeacher(teacher, data, tmp_path / "cache")
    values = {layer: np.load(tmp_path / "cache" / f"{layer}.values.npy", mmap_mode="r") for layer in cached.layers}
    assert values["conv1"].shape == (10, 4 * 5 // 2) and values["conv13"].shape == (10, 32, 4)
    assert all(v.dtype == np.float16 for v in values.values())


def test_several_sets_share_one_cache_and_any_order_of_clips_is_found(tmp_path):
    x = torch.rand(12, 1, *SIZE, generator=torch.Generator().manual_seed(5))
    y = torch.arange(12) % 4
    train = InMemory(x[:8], y[:8], batch_size=3, rows=torch.arange(8) + 20)
    validation = InMemory(x[8:], y[8:], batch_size=3, rows=torch.arange(4))
    cached = atlab.CachedTeacher(atlab.Teacher(vgg(1), "conv5"), [train, validation], tmp_path / "cache")
    wanted = F.gram(atlab.Teacher(vgg(1), "conv5")(x)["conv5"])
    got = cached.targets(index=torch.tensor([25, 0, 20]))["conv5"]
    assert torch.allclose(got, wanted[[5, 8, 0]], rtol=2e-3, atol=1e-3 * float(wanted.max()))
    with pytest.raises(AtlabError, match=r"clips in rows \[7, 99\] are not in the cache"):
        cached.targets(index=torch.tensor([25, 7, 99]))


def test_a_cache_too_large_for_the_device_is_read_from_the_map(tmp_path, monkeypatch):
    teacher, data, index = atlab.Teacher(vgg(1), "conv5"), clips(), torch.tensor([3, 1])
    resident = atlab.CachedTeacher(teacher, data, tmp_path / "cache").targets(index=index)["conv5"]
    monkeypatch.setattr("atlab.teachers.cached.RESIDENT_BYTES", 0)
    mapped = atlab.CachedTeacher(teacher, data, tmp_path / "cache")
    assert isinstance(mapped._stored["conv5"][0], np.memmap)
    assert torch.equal(mapped.targets(index=index)["conv5"], resident)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": 2}, "is the cache of another teacher"),
        ({"data": 9}, "is the cache of another data"),
        ({"layers": "conv6"}, "is the cache of another layers"),
        ({"aggregation": "mean"}, "is the cache of another aggregation"),
    ],
)
def test_the_cache_of_something_else_is_refused(tmp_path, change, message):
    def make(teacher=1, data=0, layers="conv5", aggregation="gram"):
        return atlab.CachedTeacher(
            atlab.Teacher(vgg(teacher), layers), clips(seed=data), tmp_path / "cache", aggregation
        )

    make()
    make()
    with pytest.raises(AtlabError, match=message):
        make(**change)


def test_bad_use_is_explained(tmp_path):
    teacher, student, data = atlab.Teacher(vgg(1), "conv5"), vgg(0), clips()
    augmented = clips()
    augmented.augmented = True
    with pytest.raises(AtlabError, match="cannot follow augmented inputs"):
        atlab.CachedTeacher(teacher, augmented, tmp_path / "a")
    with pytest.raises(AtlabError, match="unknown aggregation of a cached teacher 'grams'"):
        atlab.CachedTeacher(teacher, data, tmp_path / "a", "grams")
    assert not (tmp_path / "a").exists()
    cached = atlab.CachedTeacher(teacher, data, tmp_path / "cache")
    with pytest.raises(AtlabError, match="was built for 'gram', the loss asks for 'mean'"):
        atlab.AntiTransferLoss(student, cached, "mean")
    with pytest.raises(AtlabError, match="need the teacher's features"):
        atlab.AntiTransferLoss(student, cached, published=True)
    with pytest.raises(AtlabError, match="needs the clips' row numbers"):
        cached.targets()
    with pytest.raises(AtlabError, match="expected one row number per clip, got 1 for 3 clips"):
        cached.targets(torch.rand(3, 1, *SIZE), index=torch.tensor([0]))
    with pytest.raises(AtlabError, match="computed from one input per clip, got 2: use atlab.Teacher"):
        cached.targets(data.x, mask=torch.ones(10), index=torch.arange(10))
    (tmp_path / "foreign").mkdir()
    with pytest.raises(AtlabError, match="is not a cache of teacher targets"):
        atlab.CachedTeacher(teacher, data, tmp_path / "foreign")


def test_a_disk_too_small_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 0))
    with pytest.raises(AtlabError, match="has 0.0 GB free"):
        atlab.CachedTeacher(atlab.Teacher(vgg(1), "conv5"), clips(), tmp_path / "cache")
    assert [p.name for p in tmp_path.iterdir()] == [".cache.lock"]


def test_a_teacher_runs_live_where_its_cache_would_take_over_half_of_the_free_disk(tmp_path, monkeypatch):
    live, data = atlab.Teacher(vgg(1), ["conv1", "conv13"]), clips()
    first = cached_or_live(live, [data], tmp_path / "new" / "cache")
    files = list((tmp_path / "new/cache").glob("conv*.npy"))
    size = sum(np.load(path, mmap_mode="r").nbytes for path in files)
    assert isinstance(first, atlab.CachedTeacher) and first.card["bytes"] == size
    for free, expected in ((2 * size, atlab.CachedTeacher), (2 * size - 1, atlab.Teacher)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: shutil._ntuple_diskusage(free, 0, free))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            chosen = cached_or_live(live, [data], tmp_path / f"cache{free}")
        assert type(chosen) is expected
        told = [str(w.message) for w in said if "runs live" in str(w.message)]
        assert len(told) == (expected is atlab.Teacher)
    assert type(cached_or_live(live, [data], tmp_path / "new/cache")) is atlab.CachedTeacher  # it is there already


KILLED = """
import os, signal, sys, torch
import tests.teachers.test_cached as t, atlab
torch.set_num_threads(1)
data, after = t.clips(), int(sys.argv[2])
teacher = atlab.Teacher(t.vgg(1), "conv5")
seen = []

def die(*_):
    seen.append(1)
    if len(seen) > after:
        os.kill(os.getpid(), signal.SIGKILL)

teacher.model.features[0].register_forward_hook(die)
atlab.CachedTeacher(teacher, data, sys.argv[1] + "/cache")
"""


def test_killed_while_caching_a_rerun_ends_with_the_same_files(tmp_path):
    undisturbed = tmp_path / "undisturbed"
    atlab.CachedTeacher(atlab.Teacher(vgg(1), "conv5"), clips(), undisturbed)
    killed = tmp_path / "killed"
    killed.mkdir()
    died = subprocess.run([sys.executable, "-c", KILLED, str(killed), "1"], capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (killed / "cache").exists()
    atlab.CachedTeacher(atlab.Teacher(vgg(1), "conv5"), clips(), killed / "cache")
    assert hashes(killed / "cache") == hashes(undisturbed)
    assert json.loads((undisturbed / "card.json").read_text())["clips"] == 10
