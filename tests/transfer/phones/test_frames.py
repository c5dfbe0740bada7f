"""Frames: log mel energies by a plain loop, padding left out, phones at their centres, neighbours within the clip."""

from __future__ import annotations

import numpy as np
import pytest

import atlab
from atlab.errors import AtlabError
from atlab.transfer.phones import transcripts
from atlab.transfer.phones.frames import FrameBatches, features, phone_codes


def mel_energies(frame: np.ndarray) -> np.ndarray:
    """40 triangles, evenly spaced on HTK's mel scale from 0 to 8 kHz, over the power spectrum of a Hamming-windowed frame."""
    power = np.abs(np.fft.rfft(frame * np.hamming(400), 512)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    frequency = np.arange(257) * 16_000 / 512
    return np.array(
        [
            sum(
                p * max(0, min((f - low) / (mid - low), (high - f) / (high - mid)))
                for f, p in zip(frequency, power, strict=True)
            )
            for low, mid, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
    )


def test_features_are_log_mel_energies_of_the_right_samples(spoken):
    frames = features(spoken, [3, 7])
    assert frames.x.shape == (frames.offsets[-1], 40) and frames.rows.tolist() == [3, 7]
    centres = frames.centres()
    for number in (frames.lengths[0] // 2, frames.lengths[0] + 9):
        wave = spoken.read([[3, 7][frames.clip[number]]])[0] / 32768
        part = wave[centres[number] - 200 : centres[number] + 200]
        expected = np.log(np.maximum(mel_energies(part), 1e-10))
        assert frames.x[number].numpy() == pytest.approx(expected, abs=2e-3)


def test_padding_is_left_out_but_for_a_margin(spoken):
    frames = features(spoken, margin=0.05)
    for clip, wave in enumerate(spoken.read(range(len(spoken)))):
        heard = np.flatnonzero(wave)
        own = frames.centres()[frames.offsets[clip] : frames.offsets[clip + 1]]
        assert (np.diff(own) == 160).all() and own[0] >= 200 and own[-1] <= 16_000 - 200
        assert own[0] - 200 <= max(heard[0] - 800, 0) < own[0] - 200 + 160
        assert own[-1] + 200 <= heard[-1] + 800 + 160


def test_phones_are_those_at_the_centres(spoken):
    texts, frames = transcripts.phones(spoken), features(spoken)
    codes, centres = phone_codes(frames, texts), frames.centres()
    for number in range(0, len(codes), 37):
        inside = [
            phone
            for first, end, phone in transcripts.segments(texts[frames.clip[number]])
            if first <= centres[number] < end
        ]
        assert transcripts.PHONES[48][codes[number]] == transcripts.fold(inside, 48)[0]
    assert phone_codes(features(spoken, [0]), ["0 8000 q;8000 16000 h#"]).min() == -1, "the glottal stop has no class"
    with pytest.raises(AtlabError, match="one transcription per clip, got 1 for 200"):
        phone_codes(frames, texts[:1])


def test_batches_hold_a_frame_in_the_middle_of_its_neighbours(spoken):
    frames = features(spoken, range(5))
    codes = np.arange(len(frames.x))
    codes[:4] = -1
    batches = FrameBatches(frames, codes, context=5, batch_size=16, shuffle=True, seed=2)
    seen = []
    for x, y, index in batches.epoch(1):
        assert x.shape[1:] == (1, 40, 5) and (y == index).all()
        for window, number in zip(x, index.tolist(), strict=True):
            clip = frames.clip[number]
            low, high = frames.offsets[clip], frames.offsets[clip + 1] - 1
            for k in range(5):
                assert (window[0, :, k] == frames.x[min(max(number + k - 2, low), high)]).all()
        seen += index.tolist()
    assert sorted(seen) == list(range(4, len(codes)))[: batches.clips] and seen != sorted(seen)
    assert [b.index.tolist() for b in batches.epoch(1)] == [b.index.tolist() for b in batches.epoch(1)]
    third = FrameBatches(frames, codes, every=3, batch_size=16)
    assert third.rows[:3].tolist() == [4, 7, 10] and third.identity != batches.identity


def test_a_last_batch_of_one_is_left_out_of_training(spoken):
    """Batch norm cannot learn from it."""
    frames = features(spoken, [0])
    n = len(frames.x)
    sizes = {
        shuffle: [len(b.y) for b in FrameBatches(frames, np.zeros(n), batch_size=n - 1, shuffle=shuffle).epoch(0)]
        for shuffle in (True, False)
    }
    assert sizes == {True: [n - 1], False: [n - 1, 1]}


def test_normalisation_makes_coefficients_standard(spoken):
    frames = features(spoken, range(10))
    mean, std = frames.normalisation()
    assert mean.shape == std.shape == (40, 1)
    assert mean[:, 0].numpy() == pytest.approx(frames.x.numpy().mean(0), abs=1e-4)
    assert std[:, 0].numpy() == pytest.approx(frames.x.numpy().std(0), rel=1e-4)


def test_what_cannot_be_framed_is_refused(spoken, tmp_path):
    toy = atlab.data.toy(tmp_path / "toy")
    toy.card["sample_rate"] = 8000
    with pytest.raises(AtlabError, match="frames are cut at 16 kHz"):
        features(toy)
    frames = features(spoken, [0])
    for options, message in (
        ({"context": 4}, "context is 4; allowed: an odd number"),
        ({"codes": [0]}, f"one class number per frame, got 1 for {len(frames.x)}"),
        ({"codes": np.full(len(frames.x), -1)}, "no frame has a class"),
    ):
        with pytest.raises(AtlabError, match=message):
            FrameBatches(frames, **{"codes": np.zeros(len(frames.x)), **options})


def test_a_silent_clip_is_named(spoken, monkeypatch):
    monkeypatch.setattr(type(spoken), "read", lambda self, rows: np.zeros((len(rows), 16_000), np.int16))
    with pytest.raises(AtlabError, match="the clip in row 4 is silent"):
        features(spoken, [4, 5])
