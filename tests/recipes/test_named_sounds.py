"""Corpora with labels in their file names: every recording of the official layouts gets its labels, nothing else."""

from __future__ import annotations

import inspect
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import data_recipes
from atlab.data import splits
from atlab.errors import AtlabError
from data_recipes import arabic_speech_commands, audiomnist, crema_d, emodb, esc50, ravdess, tess
from data_recipes.audio import read_audio, to_int16
from tests.recipes import corpora, corpora_named

CORPORA = {  # test corpus -> recipe, seconds of a clip, what is left out
    "arabic_speech_commands": (arabic_speech_commands, 1.0, {"name of another form": 1}),
    "audiomnist": (audiomnist, 1.0, {}),
    "ravdess": (ravdess, 4.0, {"not audio-only speech": 2}),
    "crema_d": (
        crema_d,
        3.0,
        {"all emotions in one recording": 1, "name of another form": 1, "recording without sound": 1},
    ),
    "emodb": (emodb, 4.0, {"name of another form": 1}),
    "tess": (tess, 2.5, {"second copy of a recording": 14}),
    "esc50": (esc50, 5.0, {}),
    "esc10": (esc50, 5.0, {}),
}


@pytest.mark.parametrize("name", CORPORA)
def test_every_recording_has_the_labels_of_its_name(name, tmp_path):
    recipe, seconds, dropped = CORPORA[name]
    expected = getattr(corpora_named, name)(tmp_path / "raw")
    before = corpora.snapshot(tmp_path / "raw")
    fs = recipe.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    assert corpora.snapshot(tmp_path / "raw") == before
    found = fs.factors.set_index("id")
    assert set(found.index) == set(expected)
    for clip, labels in expected.items():
        for column, value in labels.items():
            assert found.loc[clip, column] == value, (clip, column)
    assert fs.factor_names == list(recipe.FACTORS) and fs.card["dropped"] == dropped
    assert fs.inputs.shape == (len(expected), round(16_000 * seconds)) and fs.sample_rate == 16_000
    crossing = pd.crosstab(*[fs.factors[factor] for factor in getattr(recipe, "CROSSED", fs.factor_names)[:2]])
    assert bool((crossing > 0).all(axis=None)) == hasattr(recipe, "CROSSED")


def test_a_clip_is_the_recording_resampled_and_padded(tmp_path):
    corpora_named.tess(tmp_path / "raw")
    fs = tess.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    row = int(np.flatnonzero(fs.factors["id"] == "OA-bite-neutral")[0])
    path = tmp_path / "raw/OAF_neutral/OA_bite_neutral.wav"
    wave, rate = soundfile.read(path)
    assert rate == 24_414 and abs(fs.factors.duration[row] - len(wave) / rate) < 1e-4
    clip = fs.read([row])[0]
    spectrum = np.abs(np.fft.rfft(wave, 24_414))[:7000]  # bins of 1 Hz at either rate
    assert np.allclose(np.abs(np.fft.rfft(clip / 32768, 16_000))[:7000] / 16_000, spectrum / 24_414, atol=2e-4)
    assert not clip[round(0.51 * 16_000) :].any()


def test_longer_recordings_are_cut_or_segmented(tmp_path):
    """Two loud stretches of a second around a quiet one: the pieces by hand."""
    loud = corpora.sound(1.0, seed=1, peak=0.02)
    wave = np.concatenate([np.zeros(16_000), loud, 0.05 * loud, loud, 0.5 * loud[:9000], np.zeros(7000), loud[:5000]])
    name = "03-01-05-02-01-01-03"
    corpora.write(tmp_path / "raw/Actor_03" / f"{name}.wav", wave, subtype="PCM_24")
    corpora.write(tmp_path / "raw/Actor_03/03-01-05-02-02-01-03.wav", loud[:4000])
    cut = ravdess.prepare(tmp_path / "raw", tmp_path / "cut", seconds=2.0, workers=0)
    assert cut.factors["id"].tolist() == [name, "03-01-05-02-02-01-03"]
    assert cut.card["dropped"] == {"end beyond 2 s (clip kept)": 1}
    assert np.array_equal(cut.read([0])[0], to_int16(read_audio(tmp_path / "raw/Actor_03" / f"{name}.wav")[:32_000]))
    pieces = ravdess.prepare(tmp_path / "raw", tmp_path / "pieces", seconds=1.0, segments=True, workers=0)
    assert pieces.factors["id"].tolist() == [f"{name}-1", f"{name}-3", f"{name}-4", "03-01-05-02-02-01-03-0"]
    assert pieces.factors.source.tolist() == [name] * 3 + ["03-01-05-02-02-01-03"]
    assert pieces.factors.duration.tolist() == [1.0, 1.0, 1.0, 0.25]
    assert pieces.card["dropped"] == {"clip without sound": 2, "remainder under half a clip": 1}
    assert np.abs(pieces.read([1])[0] - 32768 * loud).max() < 1  # rounded to 24 bits, then to 16
    assert not pieces.read([3])[0, 4000:].any()


def test_one_sound_under_two_names_is_one_source(tmp_path):
    corpora_named.ravdess(tmp_path / "raw")
    fs = ravdess.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    shared = fs.factors[fs.factors.source.duplicated(keep=False)]
    assert set(shared["id"]) == {"03-01-03-01-02-01-07", "03-01-03-01-02-02-07"}
    for seed in range(20):
        splits.random(fs, seed=seed).check(fs, "emotion")


def test_the_official_split_goes_by_speaker(tmp_path):
    raw = tmp_path / "raw"
    corpora_named.arabic_speech_commands(raw)
    (raw / "test.csv").unlink()
    with pytest.raises(AtlabError, match=r"list of the official split not found: expected .*test\.csv"):
        arabic_speech_commands.prepare(raw, tmp_path / "out", workers=0)
    (raw / "test.csv").write_text("file,class\n")
    with pytest.raises(AtlabError, match=r"speaker 00000006 .* is in none of train\.csv, val\.csv, test\.csv"):
        arabic_speech_commands.prepare(raw, tmp_path / "out", workers=0)
    (raw / "test.csv").write_text("one/00000005_NO_01.wav\n")
    with pytest.raises(AtlabError, match=r"speaker 00000005 is in val\.csv and in test\.csv; expected in one"):
        arabic_speech_commands.prepare(raw, tmp_path / "out", workers=0)
    for name in ("train", "val", "test"):
        (raw / f"{name}.csv").unlink()
    fs = arabic_speech_commands.prepare(raw, tmp_path / "out", workers=0)
    assert len(fs) == 24 and "official" not in fs.factors


def test_the_folds_keep_recordings_together(tmp_path):
    corpora_named.esc50(tmp_path / "raw")
    fs = esc50.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    assert (fs.factors.groupby("source").fold.nunique() == 1).all() and fs.factors.source.nunique() == 55
    split = splits.disjoint(fs, by="fold", test=[5])
    assert set(fs.labels("fold", split.test)) == {5} and len(split.test) == 22
    split.check(fs, "noise")
    assert fs.card["published_clips"]["published"]["recordings"] == 2000
    corpora_named.esc10(tmp_path / "raw10")
    assert esc50.prepare(tmp_path / "raw10", tmp_path / "out10", workers=0).card["published_clips"] == {
        "found": {"recordings": 20, "noise": 2, **{f"fold {n}": 4 for n in range(1, 6)}},
        "published": {"recordings": 400, "noise": 10, **{f"fold {n}": 80 for n in range(1, 6)}},
    }


def test_the_list_of_classes_names_every_file(tmp_path):
    raw = tmp_path / "raw"
    corpora_named.esc50(raw)
    rows = (raw / "meta/esc50.csv").read_text()
    (raw / "meta/esc50.csv").write_text(rows.replace("2-2003-A-3.wav", "other.wav"))
    with pytest.raises(AtlabError, match=r"2-2003-A-3\.wav is not listed in .*esc50\.csv"):
        esc50.prepare(raw, tmp_path / "out")
    (raw / "meta/esc50.csv").write_text("a,b\n")
    with pytest.raises(AtlabError, match="expected filename and category"):
        esc50.prepare(raw, tmp_path / "out")
    (raw / "meta/esc50.csv").unlink()
    with pytest.raises(AtlabError, match=r"list of classes not found: expected .*esc50\.csv"):
        esc50.prepare(raw, tmp_path / "out")


def test_the_list_of_speakers_is_read_strictly(tmp_path):
    raw = tmp_path / "raw"
    corpora_named.audiomnist(raw)
    meta = raw / "data/audioMNIST_meta.txt"
    text = meta.read_text()
    for spoiled in ("{", "[1]", '{"01": 3}', '{"01": {"gender": "male"}}'):
        meta.write_text(spoiled)
        with pytest.raises(AtlabError, match="is not the list of speakers: expected a JSON object such as"):
            audiomnist.prepare(raw, tmp_path / "out")
    meta.write_text(text.replace('"02"', '"04"'))
    with pytest.raises(AtlabError, match="speaker 02 .* is not in audioMNIST_meta.txt; it has 01, 03, 04"):
        audiomnist.prepare(raw, tmp_path / "out")
    meta.unlink()
    with pytest.raises(AtlabError, match="list of speakers not found: expected .*audioMNIST_meta.txt"):
        audiomnist.prepare(raw, tmp_path / "out")


def test_an_archive_or_the_inner_folder_will_do(tmp_path):
    expected = corpora_named.emodb(tmp_path / "raw")
    inner = emodb.prepare(tmp_path / "raw/wav", tmp_path / "inner", workers=0)
    shutil.make_archive(str(tmp_path / "emodb"), "zip", tmp_path / "raw")
    assert len(zipfile.ZipFile(tmp_path / "emodb.zip").namelist()) > len(expected)
    packed = emodb.prepare(tmp_path / "emodb.zip", tmp_path / "packed", workers=0)
    assert packed.factors.equals(inner.factors) and np.array_equal(packed.inputs, inner.inputs)
    assert {path.name for path in tmp_path.iterdir()} >= {"raw", "inner", "packed", "emodb.zip"}
    assert not [path for path in tmp_path.iterdir() if "unpacked" in path.name]


@pytest.mark.parametrize(
    "name", sorted({recipe.NAME for recipe, _, _ in CORPORA.values()} - {"audiomnist"})
)  # looks for its list first
def test_a_folder_without_recordings_and_options_out_of_range(name, tmp_path):
    recipe = data_recipes.get(name)
    with pytest.raises(AtlabError, match="raw data not found"):
        recipe.prepare(tmp_path / "none", tmp_path / "out")
    (tmp_path / "raw").mkdir()
    corpora.write(tmp_path / "raw/speech.wav", corpora.sound(0.1))
    with pytest.raises(AtlabError, match=r"no recording such as \S+.* in .*raw \(1 sound files with other names\)"):
        recipe.prepare(tmp_path / "raw", tmp_path / "out")
    refused = {
        "seconds": (0, r"seconds is 0; allowed: 0\.1 to 60"),
        "segments": (1, "segments is 1; allowed: true, false"),
    }
    for option in refused.keys() & inspect.signature(recipe.prepare).parameters:
        wrong, message = refused[option]
        getattr(corpora_named, name)(tmp_path / option)
        with pytest.raises(AtlabError, match=message):
            recipe.prepare(tmp_path / option, tmp_path / "out", **{option: wrong})
    assert not (tmp_path / "out").exists()


def test_published_counts_add_up():
    assert sum(n for key, n in ravdess.PUBLISHED.items() if "emotion " in key) == ravdess.PUBLISHED["recordings"]
    assert ravdess.PUBLISHED["recordings"] == 24 * (7 * 8 + 4)
    for recipe in (crema_d, emodb, tess):
        emotions = sum(n for key, n in recipe.PUBLISHED.items() if "emotion " in key)
        assert emotions == recipe.PUBLISHED["recordings"]
    assert audiomnist.PUBLISHED["recordings"] == 60 * 10 * 50
    assert arabic_speech_commands.PUBLISHED["recordings"] == 30 * 40 * 10


@pytest.mark.real_data
def test_real_recordings(real_data: Path, tmp_path):
    for recipe, name, clips, cell in (
        (arabic_speech_commands, "arabic_speech_commands", 2880, 8),
        (ravdess, "ravdess", 960, 4),
        (esc50, "esc10", 240, 8),
    ):
        if not (real_data / name).is_dir():
            pytest.skip(f"no {name} in ATLAB_REAL_DATA")
        fs = recipe.prepare(real_data / name, tmp_path / name, workers=1)
        crossing = pd.crosstab(*[fs.factors[factor] for factor in recipe.CROSSED[:2]])
        assert len(fs) == clips and crossing.min(axis=None) == cell and not fs.card["dropped"].keys() & {"broken"}
