"""The speech engine, always in a process of its own: what it says, its state, its voices, its errors."""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import correlate

from atlab.data.synthetic import espeak
from atlab.data.synthetic.espeak import Engine, Voice
from atlab.errors import AtlabError
from atlab.system.processes import pool

PLAIN = Voice("plain", "en-us", (100, 120), ((100, 100, 100),) * 9, 100, 100, 100, roughness=0, breath=0)
HIGH = replace(PLAIN, name="high", pitch=(200, 240))
SHORT = replace(PLAIN, name="short", formants=((125, 100, 100),) * 9)  # a shorter vocal tract
ROUGH = replace(PLAIN, name="rough", roughness=4, breath=6)
SCOTTISH = replace(ROUGH, name="scottish", accent="en-gb-scotland")
VOICES = [PLAIN, HIGH, SHORT, ROUGH, SCOTTISH]


@pytest.fixture(scope="module")
def process():
    with pool(1) as processes:
        yield processes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return espeak.data_folder(tmp_path_factory.mktemp("espeak"), VOICES)


def _say(data, jobs: list[tuple[str, Voice, dict]]) -> tuple[list[np.ndarray], int]:
    with Engine(data) as engine:
        return [engine.say(word, voice, **prosody) for word, voice, prosody in jobs], engine.sample_rate


def _alone(data, jobs):
    return [_say(data, [job])[0][0].tobytes() for job in jobs]


def _is_loaded() -> bool:
    with open("/proc/self/maps") as maps:
        return "libespeak" in maps.read()


def _loaded_before_during_after(data) -> list[bool]:
    before = _is_loaded()
    with Engine(data):
        during = _is_loaded()
    return [before, during, _is_loaded()]


def _message(data, word, voice) -> str:
    try:
        _say(data, [(word, voice, {})])
    except AtlabError as error:
        return str(error)
    return "no error"


def _pitch(wave: np.ndarray, rate: int) -> float:
    """Fundamental frequency by the highest peak of the autocorrelation."""
    wave = wave - wave.mean()
    lags = correlate(wave, wave, method="fft")[len(wave) - 1 :]
    low, high = int(rate / 400), int(rate / 70)
    return rate / (low + np.argmax(lags[low:high]))


def _centroid(wave: np.ndarray, rate: int) -> float:
    power = np.abs(np.fft.rfft(wave)) ** 2
    return float((power * np.fft.rfftfreq(len(wave), 1 / rate)).sum() / power.sum())


def test_pitch_vocal_tract_rate_and_volume_do_what_they_say(process, data):
    flat = {"pitch_range": 0}
    jobs = [("moon", PLAIN, flat), ("moon", HIGH, flat), ("moon", SHORT, flat)]
    jobs += [("moon", PLAIN, flat | {"rate": 100}), ("moon", PLAIN, flat | {"volume": 20})]
    jobs += [("moon", PLAIN, flat | {"pitch": 90})]
    (plain, high, short, slow, quiet, raised), rate = process.submit(_say, data, jobs).result()
    assert rate == 22_050 and plain.dtype == np.int16 and 0.15 * rate < len(plain) < rate
    assert 70 < _pitch(plain, rate) < 140
    assert _pitch(high, rate) > 1.6 * _pitch(plain, rate) and _pitch(raised, rate) > 1.1 * _pitch(plain, rate)
    assert _centroid(short, rate) > 1.05 * _centroid(plain, rate)
    assert len(slow) > 1.3 * len(plain)
    assert 2 * np.abs(quiet.astype(int)).max() < np.abs(plain.astype(int)).max()


def test_values_beyond_the_scales_are_set_to_their_ends(process, data):
    jobs = [("moon", PLAIN, {"rate": 10, "pitch": -7, "volume": 999})]
    jobs += [("moon", PLAIN, {"rate": 80, "pitch": 0, "volume": 200})]
    beyond, ends = process.submit(_alone, data, jobs).result()
    assert beyond == ends


def test_a_fresh_engine_says_the_same_whatever_was_said_before(process, data):
    """Rough and breathy voices, trills and flutter keep state: only unloading the engine clears it."""
    jobs = [(word, voice, {}) for word in ("three", "zero", "six") for voice in VOICES]
    first = process.submit(_alone, data, jobs).result()
    again = process.submit(_alone, data, jobs[::-1]).result()[::-1]
    assert first == again
    with pool(1) as another:
        assert another.submit(_alone, data, jobs[5:]).result() == first[5:]


def test_the_engine_is_unloaded_and_never_here(process, data):
    assert process.submit(_loaded_before_during_after, data).result() == [False, True, False]
    assert not _is_loaded()


def test_the_data_folder_is_private(data):
    assert {path.name for path in (data / "voices" / "!v").iterdir()} == {voice.name for voice in VOICES}
    assert "roughness 4\n" in (data / "voices" / "!v" / "rough").read_text()
    assert (data / "voices" / "!v" / "rough").read_text().count("formant") == 9
    assert sum(path.lstat().st_size for path in data.rglob("*") if path.is_file()) < 10_000  # links, no copies
    assert os.path.isfile(data / "phondata")


def test_errors(process, data, tmp_path, monkeypatch):
    for unknown in (replace(PLAIN, accent="en-gb"), replace(PLAIN, accent="atlantean")):
        message = process.submit(_message, data, "one", unknown).result()
        assert message == f"eSpeak NG does not know the voice '{unknown.accent}+plain'"
    message = process.submit(_message, tmp_path, "one", PLAIN).result()
    assert message.startswith(f"eSpeak NG did not start with the data in {tmp_path}")
    assert process.submit(_message, data, "one", PLAIN).result() == "no error"  # the process lives on

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    assert espeak.installed_version()[0].isdigit()
    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(AtlabError, match="needs eSpeak NG: pip install espeakng-loader"):
        espeak.installed_version()
    with pytest.raises(AtlabError, match="pip install espeakng-loader"):
        Engine(data)
