"""NSynth: labels, padding, official split and the balanced cap against the corpus written here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from atlab.data import splits
from atlab.errors import AtlabError
from data_recipes import nsynth
from tests.recipes import corpora_music as corpora
from tests.recipes.corpora import damage, snapshot

PARTS = {"nsynth-train": 36, "nsynth-valid": 14, "nsynth-test": 11}


@pytest.fixture
def raw(tmp_path):
    corpora.nsynth(tmp_path / "raw", PARTS)
    return tmp_path / "raw"


def test_the_factor_set_in_full(raw, tmp_path, capsys):
    before = snapshot(raw)
    fs = nsynth.prepare(raw, tmp_path / "out", per_family="all", workers=0)
    table = fs.factors
    assert fs.inputs.shape == (61, 96_000) and fs.inputs.dtype == np.int16 and fs.sample_rate == 16_000
    assert table["official"].value_counts().to_dict() == {"train": 36, "validation": 14, "test": 11}
    assert fs.factor_names == ["instrument_family", "instrument", "pitch", "velocity", "instrument_source"]
    assert fs.classes("instrument_family") == sorted(corpora.FAMILIES) and (table["duration"] == 4.0).all()
    notes = {
        name: note
        for folder in PARTS
        for name, note in json.loads((raw / folder / "examples.json").read_text()).items()
    }
    assert set(table["id"]) == set(notes) and table["id"].is_unique and table["source"].is_unique
    for row in table.to_dict("records"):
        note = notes[row["id"]]
        assert all(
            row[name] == note[f"{name}_str"] for name in ("instrument_family", "instrument", "instrument_source")
        )
        assert (row["pitch"], row["velocity"]) == (note["pitch"], note["velocity"])
        assert row["source"].endswith(f"audio/{row['id']}.wav") and (raw / row["source"]).is_file()
    sound, _ = soundfile.read(raw / table["source"][40], dtype="int16")
    np.testing.assert_array_equal(fs.read([40])[0], np.pad(sound, (0, 32_000)))
    assert fs.card["dropped"] == {} and snapshot(raw) == before
    assert (
        "nsynth: differs from the published corpus: train 36 instead of 289,205, validation 14 instead of "
        "12,678, test 11 instead of 4,096\n"
    ) in capsys.readouterr().out
    assert fs.card["published_clips"]["published"] == {"train": 289_205, "validation": 12_678, "test": 4_096}


def test_by_default_every_family_is_cut_to_the_smallest(raw, tmp_path):
    fs = nsynth.prepare(raw, tmp_path / "out", workers=0)
    # families 0..10 in turn: 36, 14 and 11 notes give at most 4 + 2 + 1 and at least 3 + 1 + 1 a family
    assert fs.factors["instrument_family"].value_counts().to_dict() == dict.fromkeys(corpora.FAMILIES, 5)
    assert fs.card["dropped"] == {"not drawn": 61 - 55} and len(fs) == 55
    again = nsynth.prepare(raw, tmp_path / "again", workers=0)
    other = nsynth.prepare(raw, tmp_path / "other", seed=1, workers=0)
    assert again.content_hash == fs.content_hash != other.content_hash
    two = nsynth.prepare(raw, tmp_path / "two", per_family=2, workers=0)
    assert set(two.factors["instrument_family"].value_counts()) == {2}


def test_the_official_split_shares_no_instrument_with_training(raw, tmp_path):
    fs = nsynth.prepare(raw, tmp_path / "out", per_family="all", workers=0)
    split = splits.official(fs)
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [36, 14, 11]
    instruments = [set(fs.labels("instrument", part)) for part in parts]
    assert not instruments[0] & (instruments[1] | instruments[2])
    drawn = splits.random(fs, seed=2)
    sources = [set(fs.factors["source"].iloc[part]) for part in (drawn.train, drawn.validation, drawn.test)]
    assert sum(map(len, sources)) == len(set().union(*sources)) == 61
    teacher = splits.for_teacher(fs, drawn)
    assert not set(teacher.train) & set(drawn.test) and not set(teacher.validation) & set(drawn.test)


def test_silent_notes_are_dropped_and_counted(tmp_path):
    names = corpora.nsynth(tmp_path / "a", {"nsynth-test": 22})
    corpora.nsynth(tmp_path / "b", {"nsynth-test": 22}, silent=tuple(names[:3]))
    fs = nsynth.prepare(tmp_path / "b", tmp_path / "out", per_family="all", workers=0)
    assert len(fs) == 19 and fs.card["dropped"]["silent"] == 3 and not set(names[:3]) & set(fs.factors["id"])
    kept = nsynth.prepare(tmp_path / "b", tmp_path / "kept", per_family="all", silence=0, workers=0)
    assert len(kept) == 22 and kept.card["parameters"]["silence"] == 0


def test_one_broken_note_in_a_hundred_is_skipped(tmp_path):
    names = corpora.nsynth(tmp_path / "raw", {"nsynth-test": 101})
    damage(tmp_path / "raw" / "nsynth-test" / "audio" / f"{names[7]}.wav", "truncated")
    fs = nsynth.prepare(tmp_path / "raw", tmp_path / "out", per_family="all", workers=0)
    assert len(fs) == 100 and fs.card["dropped"]["broken"] == 1 and names[7] not in set(fs.factors["id"])
    (tmp_path / "raw" / "nsynth-test" / "audio" / f"{names[8]}.wav").unlink()
    with pytest.raises(AtlabError, match="2 of 101 items are broken, more than 1 %"):
        nsynth.prepare(tmp_path / "raw", tmp_path / "out2", per_family="all", workers=0)


def test_missing_and_broken_lists_and_options(raw, tmp_path):
    with pytest.raises(AtlabError, match="NSynth folder not found: expected .*none"):
        nsynth.prepare(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AtlabError, match="no part of NSynth in .*: expected nsynth-train, nsynth-valid, nsynth-test"):
        nsynth.prepare(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(AtlabError, match="per_family is 'few'; allowed: a whole number of at least 1"):
        nsynth.prepare(raw, tmp_path / "out", per_family="few")
    path = raw / "nsynth-test" / "examples.json"
    text = path.read_text()
    for wrong, message in (
        (text[:-20], "examples.json is broken"),
        ("[1]", "is no list of NSynth notes"),
        (text.replace('"pitch"', '"pich"'), "has a note without 'pitch'"),
        (json.dumps({"a": {"b": 1}}), "is no list of NSynth notes"),
    ):
        path.write_text(wrong)
        with pytest.raises(AtlabError, match=message):
            nsynth.prepare(raw, tmp_path / "out")
    path.unlink()
    with pytest.raises(AtlabError, match="list of notes not found: expected .*examples.json"):
        nsynth.prepare(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()
