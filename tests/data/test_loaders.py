"""Batches: every clip once, an order that seed and epoch decide, the same clips by either way of reading."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest
import torch

from atlab.data import Batches, Clip, FactorSet, InMemory, Spectrogram, build, loaders
from atlab.data.synthetic.toy import toy
from atlab.errors import AtlabError


@pytest.fixture(scope="module")
def fs(tmp_path_factory) -> FactorSet:
    return toy(tmp_path_factory.mktemp("toy") / "set", words=3, speakers=3, repetitions=5, samples=600)


ROWS = np.arange(2, 45, 2)  # 22 clips: 3 batches of 8, the last of 6


@pytest.fixture(params=["resident", "mapped"])
def way(request, monkeypatch) -> str:
    """Both ways of reading: held on the device, or gathered ahead from the memory map."""
    if request.param == "mapped":
        monkeypatch.setattr(loaders, "RESIDENT_BYTES", 0)
    return request.param


def make(fs: FactorSet, **options) -> Batches:
    return Batches(fs, ROWS, fs.codes("word"), **({"batch_size": 8} | options))


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]


def test_batches_hold_the_spectrograms_codes_and_rows_of_their_clips(fs, way):
    batches, codes = make(fs, shuffle=True, seed=4), fs.codes("word")
    assert (batches._resident is None) == (way == "mapped")
    assert (len(batches), batches.clips, batches.augmented) == (3, 22, False)
    epoch = list(batches.epoch(0))
    assert [len(batch.x) for batch in epoch] == [8, 8, 6]
    assert sorted(torch.cat([batch.index for batch in epoch]).tolist()) == ROWS.tolist()
    for x, y, index in epoch:
        assert (x.dtype, y.dtype, index.dtype) == (torch.float32, torch.int64, torch.int64)
        assert torch.equal(x, Spectrogram()(torch.from_numpy(fs.read(index.numpy()))))
        assert y.tolist() == codes[index.numpy()].tolist()


@pytest.mark.parametrize(
    ("size", "least", "sizes"),
    [
        (7, 1, [7, 7, 7, 1]),
        (7, 2, [7, 7, 8]),
        (10, 2, [10, 10, 2]),
        (10, 4, [10, 12]),
        (30, 26, [22]),
        (11, 4, [11, 11]),
    ],
)
def test_a_last_batch_that_is_too_small_joins_the_one_before(fs, way, size, least, sizes):
    batches = make(fs, batch_size=size, least=least, shuffle=True, seed=1)
    found = list(batches.epoch(2))
    assert [len(batch.x) for batch in found] == sizes and len(batches) == len(sizes)
    alike = make(fs, batch_size=size, shuffle=True, seed=1).epoch(2)
    assert torch.equal(torch.cat([b.index for b in found]), torch.cat([b.index for b in alike])), "in the same order"
    assert [len(batch.x) for batch in batches.epoch(2, start=1)] == sizes[1:]


def test_order_depends_on_seed_and_epoch_only(fs, way):
    def order(batches: Batches, epoch: int) -> list[int]:
        return torch.cat([batch.index for batch in batches.epoch(epoch)]).tolist()

    shuffled = make(fs, shuffle=True, seed=1)
    torch.manual_seed(5)
    first = order(shuffled, 3)
    order(shuffled, 0)
    torch.manual_seed(6)
    assert order(shuffled, 3) == order(make(fs, shuffle=True, seed=1), 3) == first
    assert len({tuple(order(shuffled, epoch)) for epoch in range(5)}) == 5
    assert order(make(fs, shuffle=True, seed=2), 3) != first
    assert order(make(fs), 3) == ROWS.tolist()
    assert order(make(fs, shuffle=True, seed=1, batch_size=5), 3) == first


def test_the_global_generator_is_left_alone(fs, way):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    list(make(fs, shuffle=True).epoch(0))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_an_epoch_continues_at_a_batch(fs, way, start):
    batches = make(fs, shuffle=True, seed=9)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, start=start))
    assert len(rest) == 3 - start
    for one, other in zip(whole[start:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_mask_means_the_clips_it_marks(fs, way):
    mask = np.isin(np.arange(45), ROWS)
    for one, other in zip(Batches(fs, mask, fs.codes("word"), batch_size=8).epoch(0), make(fs).epoch(0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_small_sets_are_held_as_integers(fs):
    assert make(fs)._resident.dtype == torch.int16 and make(fs)._resident.shape == (22, 600)


def test_images_become_floats_between_0_and_1(tmp_path, way):
    def convert(number: int) -> list[Clip]:
        row = {"id": str(number), "source": str(number), "duration": 0.0, "digit": number % 2}
        return [Clip(np.full((3, 4, 4), 50 * number, np.uint8), row)]

    fs = build(tmp_path / "set", range(6), convert, card={}, factors=["digit"], workers=0)
    batch = next(iter(Batches(fs, range(6), fs.codes("digit"), batch_size=6).epoch(0)))
    wanted = torch.arange(6).reshape(6, 1, 1, 1).expand(6, 3, 4, 4) * 50 / 255
    assert batch.x.dtype == torch.float32 and torch.allclose(batch.x, wanted)


def test_the_reading_thread_ends_with_its_iterator(fs, monkeypatch):
    monkeypatch.setattr(loaders, "RESIDENT_BYTES", 0)
    batches = make(fs, batch_size=1)
    iterator = batches.epoch(0)
    next(iterator)
    assert len(readers()) == 1
    del iterator
    gc.collect()
    assert readers() == []
    list(batches.epoch(1))
    assert readers() == []


def test_the_thread_reads_a_few_batches_ahead_only(fs, monkeypatch):
    monkeypatch.setattr(loaders, "RESIDENT_BYTES", 0)
    batches, read = make(fs, batch_size=1), fs.read
    count = []
    monkeypatch.setattr(fs, "read", lambda rows: (count.append(len(rows)), read(rows))[1])
    iterator = batches.epoch(0)
    next(iterator)
    deadline = time.monotonic() + 5
    while len(count) < loaders.AHEAD + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(count) == loaders.AHEAD + 2  # one handed out, AHEAD waiting, one in hand
    iterator.close()


def test_errors_of_the_reading_thread_reach_the_reader(fs, monkeypatch):
    monkeypatch.setattr(loaders, "RESIDENT_BYTES", 0)
    batches, read = make(fs), fs.read

    def gone(rows: np.ndarray) -> np.ndarray:
        if 20 in rows:
            raise OSError("the disk went away")
        return read(rows)

    monkeypatch.setattr(fs, "read", gone)
    iterator = batches.epoch(0)
    next(iterator)
    with pytest.raises(OSError, match="the disk went away"):
        next(iterator)
    assert readers() == []


def test_identity_tells_data_and_rows_apart(fs, tmp_path):
    codes = fs.codes("word")
    first = make(fs).identity
    assert make(fs, shuffle=True, seed=3, batch_size=4).identity == first
    assert Batches(fs, ROWS[:-1], codes).identity != first
    other = toy(tmp_path / "set", words=3, speakers=3, repetitions=5, samples=600, seed=1)
    assert make(other).identity != first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.zeros(45, bool)}, "no clips in this part of the split"),
        ({"rows": np.ones(44, bool)}, r"each of the 45 clips, got shape \(44,\)"),
        ({"rows": []}, "no clips in this part of the split"),
        ({"rows": [0, 45]}, r"rows must lie in 0..44, found 0..45"),
        ({"rows": [-1]}, r"rows must lie in 0..44, found -1..-1"),
        ({"codes": np.zeros(44, int)}, r"class number for every clip of the data set \(45\), found 44"),
        (
            {"codes": np.r_[np.zeros(40, int), -np.ones(5, int)]},
            r"clips in rows \[40, 42\] have a class that the network does not know",
        ),
        ({"batch_size": 0}, "a batch holds at least 1 clip, found batch_size=0"),
    ],
)
def test_unusable_arguments_are_named(fs, change, message):
    arguments = {"rows": [0, 40, 42], "codes": fs.codes("word")} | change
    with pytest.raises(AtlabError, match=message):
        Batches(fs, **arguments)


def test_in_memory_batches(fs):
    x, y = torch.rand(7, 1, 4, 4), torch.arange(7) % 3
    batches = InMemory(x, y, batch_size=3, shuffle=True, seed=2, rows=torch.arange(7) + 10)
    epoch = list(batches.epoch(0))
    assert (len(batches), batches.clips, [len(b.x) for b in epoch]) == (3, 7, [3, 3, 1])
    for batch in epoch:
        assert torch.equal(batch.x, x[batch.index - 10]) and torch.equal(batch.y, y[batch.index - 10])
    rest = list(batches.epoch(0, start=2))
    assert len(rest) == 1 and torch.equal(rest[0].x, epoch[2].x)
    assert InMemory(x, y).identity != InMemory(x + 1, y).identity
    assert InMemory(x, y, rows=torch.arange(7) + 1).identity != InMemory(x, y).identity


@pytest.mark.parametrize(
    ("n_y", "rows", "message"), [(6, None, "7 and 6"), (7, torch.arange(3), "7 and 7, with 3 rows")]
)
def test_in_memory_lengths_agree(n_y, rows, message):
    with pytest.raises(AtlabError, match=f"x and y must be of the same clips, found {message}"):
        InMemory(torch.zeros(7, 2), torch.zeros(n_y), rows=rows)
    with pytest.raises(AtlabError, match="found 0 and 0"):
        InMemory(torch.zeros(0, 2), torch.zeros(0))


@pytest.mark.gpu
def test_batches_on_a_cuda_device_equal_those_on_the_cpu(fs, way):
    there, here = make(fs, shuffle=True, device="cuda"), make(fs, shuffle=True)
    for one, other in zip(there.epoch(1), here.epoch(1), strict=True):
        assert one.x.is_cuda and one.y.is_cuda and not one.index.is_cuda
        assert torch.allclose(one.x.cpu(), other.x, atol=1e-6)
        assert torch.equal(one.y.cpu(), other.y) and torch.equal(one.index, other.index)
