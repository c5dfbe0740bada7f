"""Embedded speech: the design is fully crossed, factors can be heard, and the bytes never change."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate

import data_recipes
from atlab.data import FactorSet, splits, synthetic_speech
from atlab.data.synthetic import speech
from atlab.errors import AtlabError
from atlab.system.hashing import sha256_file
from atlab.system.processes import pool

WORDS = ["one", "seven", "no"]
DESIGN = {"words": WORDS, "speakers": 6, "emotions": 4, "repetitions": 4, "seed": 3}


@pytest.fixture(scope="module")
def fs(tmp_path_factory) -> FactorSet:
    return synthetic_speech(tmp_path_factory.mktemp("speech") / "set", **DESIGN, workers=1)


def hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / name) for name in sorted(os.listdir(folder))}


def pitch(clip: np.ndarray) -> float:
    """Fundamental frequency (Hz) by autocorrelation."""
    wave = clip.astype(float)
    lags = correlate(wave, wave, method="fft")[len(wave) - 1 :]
    return 16_000 / (35 + np.argmax(lags[35:230]))


def test_the_design_is_fully_crossed(fs):
    table = fs.factors
    names = [f"spk{n:02d}" for n in range(6)]
    wanted = set(product(WORDS, names, ("neutral", "angry", "happy", "sad"), range(4)))
    found = list(zip(table.word, table.speaker, table.emotion, table.repetition, strict=True))
    assert len(found) == len(wanted) == len(fs) == 288 and set(found) == wanted
    assert fs.factor_names == ["word", "speaker", "emotion", "voice"]
    assert fs.card["factors"] == {"word": 3, "speaker": 6, "emotion": 4, "voice": 2}
    assert table.id.is_unique and (table.source == table.id).all()
    assert (table.groupby("speaker").voice.nunique() == 1).all()
    assert (fs.kind, fs.sample_rate, fs.inputs.dtype, fs.inputs.shape[1]) == ("audio", 16_000, np.int16, 16_000)
    assert fs.card["parameters"]["engine"] == f"espeakng-loader {importlib.metadata.version('espeakng-loader')}"
    assert fs.card["licence"] and fs.card["citation"] and fs.card["dropped"] == {}


def test_words_lie_whole_at_random_places(fs):
    clips = fs.read(range(len(fs))).astype(int)
    loud = np.abs(clips) > 100
    first, last = loud.argmax(axis=1), 16_000 - loud[:, ::-1].argmax(axis=1)
    assert loud.any(axis=1).all()
    assert (last - first <= 16_000 * fs.factors.duration + 1).all()
    assert (16_000 * fs.factors.duration - (last - first) < 16_000 * 0.03).all()  # the rest is the margin
    free = 1 - fs.factors.duration
    place = (first / 16_000 / free)[free > 0.3]
    assert 0.4 < place.mean() < 0.6 and place.std() > 0.2
    assert len({clip.tobytes() for clip in clips}) == len(fs)
    assert (np.abs(clips).max(axis=1) > 2000).all() and (np.abs(clips) >= 32_767).mean() < 1e-3


def test_emotions_are_prosody(fs):
    seconds = fs.factors.groupby("emotion").duration.mean()
    assert seconds["sad"] > 1.2 * seconds["neutral"] > 1.2 * 1.1 * seconds["happy"]
    assert seconds["happy"] > seconds["angry"]
    level = fs.factors.assign(rms=np.sqrt(np.mean(fs.read(range(len(fs))).astype(float) ** 2, axis=1)))
    level = level.rms / np.sqrt(fs.factors.duration)
    level = level.groupby(fs.factors.emotion).median()
    assert level["angry"] > 1.2 * level["neutral"] > 1.2 * 1.1 * level["sad"]


def test_voices_are_high_or_low_and_distinct(fs):
    rows = np.flatnonzero((fs.labels("emotion") == "neutral") & (fs.labels("word") == "no"))
    table = fs.factors.iloc[rows].assign(hertz=[pitch(clip) for clip in fs.read(rows)])
    hertz = table.groupby("voice").hertz.median()
    assert hertz["high"] > 1.3 * hertz["low"]
    voices = speech.draw_voices(24, seed=0)
    assert len({voice.name for voice in voices}) == 24 and {v.accent for v in voices} == set(speech.ACCENTS)
    sounds = np.array([[*voice.pitch, *np.ravel(voice.formants)] for voice in voices], float)
    distance = np.abs(sounds[:, None] - sounds[None]).sum(axis=2) + 1e9 * np.eye(24)
    assert distance.min() > 100  # twenty-nine numbers, in Hz and percent
    lows, highs = ([v.pitch[0] for v in voices[start::2]] for start in (0, 1))
    assert max(lows) < min(highs)
    assert speech.draw_voices(24, seed=0) == voices != speech.draw_voices(24, seed=1)
    assert len(speech.draw_voices(1, seed=0)) == 1


def test_other_processes_and_another_time_give_the_same_bytes(fs, tmp_path):
    synthetic_speech(tmp_path / "set", **DESIGN, workers=2)
    assert hashes(tmp_path / "set") == hashes(fs.path)
    before = (tmp_path / "set" / "inputs.npy").stat().st_mtime_ns
    synthetic_speech(tmp_path / "set", **DESIGN)  # there already: opened
    assert (tmp_path / "set" / "inputs.npy").stat().st_mtime_ns == before


def _rendered(items: list[tuple[int, str]]) -> list[list[bytes]]:
    return [[clip.array.tobytes() for clip in speech._render(item, WORDS, 2, 0)] for item in items]


def test_the_order_of_items_does_not_show():
    """Rough, breathy and trilling voices among them: the engine is loaded afresh for each item."""
    items = list(product(range(8), ("neutral", "angry")))
    voices = speech.draw_voices(8, seed=0)
    assert any(v.roughness for v in voices) and any(v.breath for v in voices)
    assert any(v.accent == "en-gb-scotland" for v in voices)  # trilled r
    with pool(1, speech.start_worker, (voices,)) as process:
        forward = process.submit(_rendered, items).result()
        backward = process.submit(_rendered, items[::-1]).result()[::-1]
        single = process.submit(_rendered, items[5:6]).result()
    assert forward == backward and single == forward[5:6]


SCRIPT = """
from pathlib import Path
from atlab.data import synthetic_speech
if __name__ == "__main__":
    synthetic_speech(Path(r"{out}"), **{design!r}, workers=1)
"""


def test_a_killed_rendering_resumes_to_the_same_bytes(fs, tmp_path):
    out, script = tmp_path / "set", tmp_path / "render.py"
    script.write_text(SCRIPT.format(out=out, design=DESIGN))
    root = Path(speech.__file__).parents[3]
    env = os.environ | {"PYTHONPATH": str(root), "TMPDIR": str(tmp_path)}  # killed workers leave their voices
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL, env=env)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".set.building/*/4-*.clips")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name for path in tmp_path.glob(".set.building/*/4-*.clips")}
    assert not out.exists() and 1 <= len(done) < 6
    synthetic_speech(out, **DESIGN, workers=1)
    assert hashes(out) == hashes(fs.path)
    assert not list(tmp_path.glob(".set.building"))


def test_splits_hold_speakers_out_and_confound_them(fs):
    split = splits.disjoint(fs, "speaker", seed=0)
    speaker = fs.labels("speaker")
    assert not set(speaker[split.test]) & set(speaker[split.train])
    split.check(fs, "word")
    confounded = splits.confounded(fs, "emotion", "speaker", p=0.9, seed=0)
    confounded.check(fs, "emotion")


LONG = "antidisestablishmentarianism"
SMALL = {"words": f"yes, {LONG}", "speakers": 2, "emotions": 1, "repetitions": 1}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> FactorSet:
    out = tmp_path_factory.mktemp("small") / "set"
    return data_recipes.get("synthetic_speech").prepare(None, out, **SMALL, workers=1)


def test_the_recipe(small, tmp_path):
    recipe = data_recipes.get("synthetic_speech")
    assert set(small.factor_names) == set(recipe.FACTORS) and len(small) == 4
    assert small.classes("word") == [LONG, "yes"] and small.classes("emotion") == ["neutral"]
    assert small.card["recipe"] == recipe.NAME and small.card["licence"].startswith("public domain")
    with pytest.raises(AtlabError, match="synthetic_speech is rendered here and takes no raw folder, got somewhere"):
        recipe.prepare("somewhere", tmp_path / "other")


def test_a_long_word_is_cut_and_its_duration_says_so(small):
    assert (small.factors.duration > 1.1).tolist() == [False, True] * 2
    assert small.inputs.shape == (4, 16_000) and small.read([1])[0, -100:].any()


def test_another_seed_and_neither_engine_nor_folder_stay_behind(small, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    other = synthetic_speech(tmp_path / "set", **SMALL, seed=1, workers=0)
    assert other.content_hash != small.content_hash
    with open("/proc/self/maps") as maps:
        assert "espeak" not in maps.read()
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(AtlabError, match="built from something else"):
        synthetic_speech(other.path, **SMALL, seed=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": []}, r"words are one or more different texts, found \[\]"),
        ({"words": ["one", "one"]}, "different texts"),
        ({"words": "one,,two"}, "different texts"),
        ({"words": [1, 2]}, "different texts"),
        ({"speakers": 0}, "speakers is 0; allowed: whole numbers from 1 to 999"),
        ({"speakers": 2.5}, "speakers is 2.5"),
        ({"emotions": 5}, "emotions is 5; allowed: whole numbers from 1 to 4"),
        ({"repetitions": "six"}, "repetitions is 'six'"),
        ({"seed": -1}, "seed is -1; allowed: whole numbers from 0"),
    ],
)
def test_arguments_out_of_range(tmp_path, options, message):
    with pytest.raises(AtlabError, match=message):
        synthetic_speech(tmp_path / "set", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_word_without_a_sound(tmp_path):
    with pytest.raises(AtlabError, match=r"no sound for the word '\.\.\.' in the voice spk00"):
        synthetic_speech(tmp_path / "set", words=["..."], speakers=1, emotions=1, repetitions=1, workers=1)
    assert not (tmp_path / "set").exists()


def test_a_missing_engine_says_what_to_install(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(AtlabError, match="pip install espeakng-loader"):
        synthetic_speech(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
