"""Phones of the embedded speech: exact boundaries, checked against the clips; folding as in the table."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import atlab
from atlab.data import FactorSet, synthetic_speech
from atlab.data.alphabet import FOLDING, PHONES
from atlab.errors import AtlabError
from atlab.system.hashing import sha256_file
from atlab.transfer.phones import transcripts as room
from atlab.transfer.phones.transcripts import fold, phones, segments


@pytest.fixture(scope="module")
def fs(tmp_path_factory) -> FactorSet:
    out = tmp_path_factory.mktemp("speech") / "set"
    return synthetic_speech(out, words="six,three,four", speakers=2, emotions=2, repetitions=2, workers=1)


def test_phones_lie_beside_the_data_and_change_no_file_of_it(fs):
    before = {name.name: sha256_file(name) for name in fs.path.iterdir()}
    texts = phones(fs, workers=1)
    after = {name.name: sha256_file(name) for name in fs.path.iterdir()}
    assert after.keys() - before.keys() == {room.table_path(fs).name}
    assert {name: after[name] for name in before} == before
    assert FactorSet.open(fs.path).content_hash == fs.content_hash
    assert phones(fs) == texts and pd.read_parquet(room.table_path(fs))["id"].tolist() == fs.factors["id"].tolist()


def test_segments_cover_the_clip_and_silence_is_where_it_is_silent(fs):
    spoken = {"six": "s ih k s", "three": "th r iy", "four": "f ao"}
    clips = fs.read(range(len(fs)))
    for clip, word, duration, text in zip(clips, fs.labels("word"), fs.factors["duration"], phones(fs), strict=True):
        parts = segments(text)
        assert [phone for _, _, phone in parts] == ["h#", *spoken[word].split(), "h#"]
        assert parts[0][0] == 0 and parts[-1][1] == 16_000
        assert all(left[1] == right[0] for left, right in itertools.pairwise(parts))
        silence = np.concatenate([clip[: parts[0][1]], clip[parts[-1][0] :]]).astype(float)
        spoken_part = clip[parts[0][1] : parts[-1][0]].astype(float)
        assert np.abs(silence).max() < 0.1 * np.abs(spoken_part).max()
        assert parts[-1][0] - parts[0][1] <= duration * 16_000 + 1


def test_boundaries_are_where_the_sound_changes(fs):
    """Zero crossings of the first s of "six" against its vowel: three quarters of each segment tell them apart in every clip."""
    for row in np.flatnonzero(fs.labels("word") == "six"):
        clip = fs.read([row])[0].astype(float)
        rates = {}
        for first, end, phone in segments(phones(fs)[row])[1:3]:
            part = clip[first + (end - first) // 8 : end - (end - first) // 8]
            rates[phone] = np.mean(np.diff(np.sign(part)) != 0)
        assert rates["s"] > 2 * rates["ih"]


def test_clips_of_another_rendering_are_refused(fs, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(fs.path, other)
    room.table_path(FactorSet.open(other)).unlink(missing_ok=True)
    copy = FactorSet.open(other)
    inputs = np.array(copy.inputs)
    inputs[3, 8000] += 1
    with pytest.raises(AtlabError, match=f"the clip {fs.factors['id'][3]} .* is not what this engine says now"):
        phones(FactorSet(copy.path, copy.card, copy.factors, inputs), workers=1)


def test_a_data_set_without_phones_is_named(tmp_path):
    with pytest.raises(AtlabError, match="the data set 'toy' says nothing about phones"):
        phones(atlab.data.toy(tmp_path / "toy"))


def test_a_data_set_with_a_column_of_phones_is_taken_at_its_word(tmp_path):
    toy = atlab.data.toy(tmp_path / "toy")
    toy.factors["phones"] = "0 10 h#"
    assert phones(toy) == ["0 10 h#"] * len(toy)


def test_folding_is_that_of_lee_and_hon():
    assert [len(PHONES[size]) for size in (61, 48, 39)] == [61, 48, 39]
    assert fold(["h#", "pcl", "p", "epi", "q", "ux", "hv", "nx", "zh"], 39) == [
        "sil",
        "sil",
        "p",
        "sil",
        "uw",
        "hh",
        "n",
        "sh",
    ]
    for name in PHONES[48]:
        through = {FOLDING[39][full] for full, short in FOLDING[48].items() if short == name}
        assert through == set(fold([name], 39)), "48 phones fold to what their 61 phones fold to"
    with pytest.raises(AtlabError, match="unknown phone 'xx'"):
        fold(["xx"], 39)
    with pytest.raises(AtlabError, match="unknown number of phones '40'"):
        fold(["aa"], 40)
    with pytest.raises(AtlabError, match="unknown phoneme of eSpeak NG 'QQ'"):
        room._timit("'QQ")
