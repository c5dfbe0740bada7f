"""Good-Sounds: classes from tags, takes, microphones, both splits, against a database made here."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter

import numpy as np
import pytest
import soundfile

from atlab.data import splits
from atlab.errors import AtlabError
from data_recipes import good_sounds
from tests.recipes import corpora_music as corpora
from tests.recipes.corpora import snapshot

EXPECTED = {  # the class of each tag of corpora.TAGS by the protocol, written out by hand
    "good-sound": "good-sound",
    "bad-dynamics-stability-crescendo": "bad-dynamics",
    "bad-dynamic-stability": "bad-dynamics",
    "bad-pitch-stability-vibrato": "bad-pitch",
    "bad-timbre": "bad-timbre",
    "bad-richness-pato": "bad-timbre",
    "bad-attack": "bad-attack",
    "bad-attack bad-pitch-stability": "bad-pitch",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good_sounds")
    sounds = corpora.good_sounds(folder / "raw")
    before = snapshot(folder / "raw")
    fs = good_sounds.prepare(folder / "raw", folder / "out", balanced=False, workers=0)
    assert snapshot(folder / "raw") == before  # the database is opened read-only, no journal appears
    return folder / "raw", sounds, fs


def test_the_factor_set_in_full(corpus):
    _raw, sounds, fs = corpus
    usable = [s for s in sounds if s["tag"] in EXPECTED]
    # the first sounds of violin (no file), trumpet (silent) and oboe (no take) are not there
    lost = {(name, "good-sound") for name in ("violin", "trumpet", "oboe")}
    there = [s for s in usable if (s["instrument"], s["tag"]) not in lost]
    assert fs.inputs.shape == (12 * 8 - 3, 96_000) == (len(there), 96_000) and fs.inputs.dtype == np.int16
    assert fs.factor_names == ["goodness", "instrument", "player"] and fs.sample_rate == 16_000
    table = fs.factors
    assert table["source"].tolist() == [f"sound {s['id']}" for s in there]
    assert table["goodness"].tolist() == [EXPECTED[s["tag"]] for s in there]
    assert table["tag"].tolist() == [s["tag"] for s in there]
    assert table["instrument"].tolist() == [s["instrument"] for s in there]
    assert table["id"].tolist() == [f"sound_files/{s['pack']}/akg/{s['name']}" for s in there]
    assert table["player"].tolist() == [s["pack"].split("_")[-2] for s in there]
    assert set(table["microphone"]) == {"akg"} and table["pack"].tolist() == [s["pack"] for s in there]
    assert table["semitone"].tolist() == [-1 if s["tag"] == "good-sound" else 69 for s in there]
    assert table["duration"].tolist() == [
        7.0 if s["instrument"] == "flute" and s["tag"] == "good-sound" else 0.25 for s in there
    ]
    assert fs.card["dropped"] == {
        "scale": 24,
        "other or several tags": 36,
        "no sound file": 1,
        "silent": 1,
        "sound without take": 1,
    }
    assert fs.card["published_clips"]["found"] == {"instruments": 12}


def test_sounds_are_resampled_to_16_khz_and_padded_or_cut(corpus):
    _, _, fs = corpus
    row = fs.factors.index[(fs.factors["instrument"] == "clarinet") & (fs.factors["tag"] == "bad-attack")][0]
    clip = fs.read([row])[0] / 32768
    number = corpora.TAGS.index("bad-attack")
    expected = corpora.tone(0.25, 16_000, 220 + 10 * number)
    np.testing.assert_allclose(clip[400:3600], expected[400:3600], atol=2e-3)
    assert not clip[4000:].any()
    long = fs.read([0])[0]  # the flute's 7 s in 24-bit flac
    assert np.abs(long[-800:]).max() > 15_000


def test_every_tag_of_the_corpus_and_more():
    for tag in corpora.TAGS:
        assert good_sounds.goodness(tag) == EXPECTED.get(tag), tag
    for tag, goodness in {
        "bad-dynamic-stability-tremolo": "bad-dynamics",
        "bad-timbre-bad-attack": None,
        "": None,
        "bad": None,
        "good-attack-apoyo": None,
        "bad-pitch bad-timbre bad-attack": "bad-pitch",
        "bad-scale": None,
        "minor": None,
    }.items():
        assert good_sounds.goodness(tag) == goodness, tag


def test_balanced_classes_are_as_large_as_the_smallest(corpus, tmp_path):
    raw, _, _ = corpus
    fs = good_sounds.prepare(raw, tmp_path / "out", silence=0, workers=0)
    # 10 good-sound (violin has no file, oboe no take), 24 dynamics, pitch and timbre each, 12 attack
    assert Counter(fs.labels("goodness")) == dict.fromkeys(good_sounds.GOODNESS, 10)
    assert fs.card["dropped"]["left out for balance"] == 94 - 50 and fs.card["parameters"]["balanced"] is True
    other = good_sounds.prepare(raw, tmp_path / "other", silence=0, seed=1, workers=0)
    assert set(other.factors["id"]) != set(fs.factors["id"])


def test_microphones(corpus, tmp_path):
    raw, _, one = corpus
    neumann = good_sounds.prepare(raw, tmp_path / "n", balanced=False, microphone="neumann", workers=0)
    both = good_sounds.prepare(raw, tmp_path / "b", balanced=False, microphone="all", workers=0)
    assert set(neumann.factors["microphone"]) == {"neumann"} and len(neumann) == len(one)
    assert len(both) == 2 * len(one) and both.factors["source"].nunique() == len(one)
    split = splits.random(both, seed=3)
    sides = [set(both.factors["source"].iloc[part]) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, sides)) == len(set().union(*sides))  # no sound on two sides, whatever the microphone
    with pytest.raises(
        AtlabError, match="unknown microphone 'neuman'; nearest: 'neumann'; allowed: one, all, akg, neumann"
    ):
        good_sounds.prepare(raw, tmp_path / "out", microphone="neuman")


def test_the_split_by_instrument_is_8_2_2(corpus):
    _, _, fs = corpus
    split = splits.official(fs)
    parts = [set(fs.labels("instrument", part)) for part in (split.train, split.validation, split.test)]
    assert [len(part) for part in parts] == [8, 2, 2] and len(set().union(*parts)) == 12
    assert sum(map(len, (split.train, split.validation, split.test))) == len(fs)
    split.check(fs, "goodness")
    teacher = splits.for_teacher(fs, split)
    assert not (set(teacher.train) | set(teacher.validation) | set(teacher.test)) & set(split.test)


def test_fewer_instruments_and_missing_ones_are_said(tmp_path, capsys):
    corpora.good_sounds(tmp_path / "raw")
    with sqlite3.connect(tmp_path / "raw" / "good-sounds" / "database.sqlite") as connection:
        connection.execute("DELETE FROM sounds WHERE instrument IN ('oboe', 'bass')")
    connection.close()
    fs = good_sounds.prepare(tmp_path / "raw" / "good-sounds", tmp_path / "out", workers=0)
    assert "good_sounds: 130 sounds, 310 takes, 10 of 12 instruments; missing: oboe, bass\n" in capsys.readouterr().out
    with pytest.raises(AtlabError, match="good_sounds has no official split"):
        splits.official(fs)


def test_a_path_in_the_database_that_leaves_the_folder_is_not_followed(tmp_path):
    corpora.good_sounds(tmp_path / "raw")
    corpora.write(tmp_path / "raw" / "secret.wav", corpora.tone(0.25, 48_000), 48_000)
    with sqlite3.connect(tmp_path / "raw" / "good-sounds" / "database.sqlite") as connection:
        connection.execute("UPDATE takes SET filename = '../../secret.wav'")
        connection.execute("UPDATE sounds SET pack_filename = '../../../../secret.wav'")
    connection.close()
    with pytest.raises(AtlabError, match="no usable recording in .*'no sound file'"):
        good_sounds.prepare(tmp_path / "raw", tmp_path / "out", workers=0)


def test_missing_database_table_column_and_sounds(tmp_path):
    with pytest.raises(AtlabError, match="Good-Sounds folder not found"):
        good_sounds.prepare(tmp_path / "none", tmp_path / "out")
    corpora.good_sounds(tmp_path / "raw")
    folder = tmp_path / "raw" / "good-sounds"
    database, whole = folder / "database.sqlite", (folder / "database.sqlite").read_bytes()
    for statement, message in (
        ("DROP TABLE takes", "unknown table of .*database.sqlite 'takes'; .*allowed: packs, sounds, ratings"),
        (
            "ALTER TABLE sounds RENAME COLUMN klass TO class",
            "unknown column of the table sounds in .* 'klass'; nearest: 'class'",
        ),
    ):
        with sqlite3.connect(database) as connection:
            connection.execute(statement)
        connection.close()
        with pytest.raises(AtlabError, match=message):
            good_sounds.prepare(tmp_path / "raw", tmp_path / "out")
        database.write_bytes(whole)
    database.write_bytes(b"no database at all" * 100)
    with pytest.raises(AtlabError, match="is no readable sqlite database"):
        good_sounds.prepare(tmp_path / "raw", tmp_path / "out")
    database.unlink()
    with pytest.raises(AtlabError, match="database of Good-Sounds not found: expected .*database.sqlite"):
        good_sounds.prepare(tmp_path / "raw", tmp_path / "out")
    database.write_bytes(whole)
    shutil.rmtree(folder / "sound_files")
    with pytest.raises(AtlabError, match="sound files of Good-Sounds not found: expected .*sound_files"):
        good_sounds.prepare(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_flac_named_wav_in_the_database_is_found(corpus):
    raw, _, fs = corpus
    flute = fs.factors[fs.factors["instrument"] == "flute"]
    assert flute["id"].str.endswith(".flac").all()
    assert soundfile.info(raw / "good-sounds" / flute["id"].iloc[0]).subtype == "PCM_24"
