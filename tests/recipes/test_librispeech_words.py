from __future__ import annotations

import numpy as np
import pytest
import soundfile

from atlab.data import splits
from atlab.errors import AtlabError
from data_recipes import librispeech_words as recipe
from tests.recipes import corpora


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return corpora.librispeech(tmp_path_factory.mktemp("raw") / "LibriSpeech")


@pytest.fixture(scope="module")
def fs(raw, tmp_path_factory):
    before = corpora.snapshot(raw)
    result = recipe.prepare(raw, tmp_path_factory.mktemp("out") / "words", part="dev-clean", workers=0)
    assert corpora.snapshot(raw) == before
    return result


def test_every_word_is_accounted_for(fs):
    table = fs.factors
    assert table.word.value_counts().to_dict() == {"the": 6, "cat": 3, "dog": 2, "cat's": 1}
    assert fs.factor_names == ["word", "speaker", "chapter"]
    dropped = {k: v for k, v in fs.card["dropped"].items() if v}
    assert dropped == {"silent": 1, "word under 0.05 s": 1, "word over 4 s": 1, "utterance without alignment": 2}
    assert table.speaker.value_counts().to_dict() == {"84": 7, "174": 4, "251": 1}
    assert table.groupby("chapter").size().to_dict() == {"121123": 5, "121550": 2, "50561": 4, "118436": 1}
    assert fs.read([0]).shape == (1, 64_000)
    assert fs.card["published_clips"] == {
        "found": {"utterances": 7, "speakers": 3},
        "published": {"utterances": 2703, "speakers": 40},
    }


def test_words_are_cut_where_the_alignment_says(fs, raw):
    for (speaker, chapter, number), words in corpora.LIBRI_LINES.items():
        name = f"{speaker}-{chapter}-{number:04d}"
        wave, _ = soundfile.read(raw / "dev-clean" / speaker / chapter / f"{name}.flac", dtype="int16")
        rows = fs.factors[fs.factors.source.str.endswith(f"{name}.flac")]
        assert len(rows)
        for row in rows.index:
            place = int(fs.factors.id[row].split("-")[3])
            said = [k for k, (word, _) in enumerate(words) if word][place]
            start, end = words[said - 1][1] if said else 0.0, words[said][1]
            assert fs.factors.word[row] == words[said][0].lower()
            assert fs.factors.duration[row] == pytest.approx(end - start, abs=1e-4)
            expected = wave[round(start * 16_000) : round(end * 16_000)]
            clip = fs.read([row])[0]
            sounding = clip[clip != 0]
            assert np.abs(sounding.astype(int) - expected[expected != 0]).max() <= 1


def test_frequent_words_and_speakers_are_kept(raw, tmp_path):
    fs = recipe.prepare(raw, tmp_path / "out", part="dev-clean", words=2, speakers=2, workers=0, silence=0)
    assert fs.classes("word") == ["cat", "the"] and fs.classes("speaker") == ["174", "84"]
    assert fs.card["dropped"]["speaker not drawn"] == 1
    assert fs.card["dropped"]["rare word"] == 6  # sat, cat's, supercalifragilistic, and, dog, dog


def test_words_of_an_utterance_stay_on_one_side(raw, tmp_path):
    fs = recipe.prepare(raw, tmp_path / "out", part="dev-clean", workers=0)
    for by, split in (
        ("source", splits.random(fs, fractions=(0.5, 0.25, 0.25), seed=0)),
        ("speaker", splits.disjoint(fs, by="speaker", fractions=(0.4, 0.3, 0.3), seed=0)),
    ):
        values = fs.factors[by].to_numpy()
        parts = [set(values[rows]) for rows in (split.train, split.validation, split.test)]
        assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_alignments_in_a_folder_of_their_own(raw, fs, tmp_path):
    for path in (raw / "dev-clean").rglob("*.alignment.txt"):
        target = tmp_path / "aligned" / path.relative_to(raw)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    again = recipe.prepare(raw, tmp_path / "out", part="dev-clean", alignments=tmp_path / "aligned", workers=0)
    assert again.content_hash == fs.content_hash


def test_parse_alignment_matches_the_release():
    utterance, words = recipe.parse_alignment('19-198-0000 ",NORTHANGER,ABBEY," "0.530,1.270,1.780,1.965"')
    assert utterance == "19-198-0000" and words == [("northanger", 0.53, 1.27), ("abbey", 1.27, 1.78)]
    assert recipe.parse_alignment('a-b-0 "" "1.5"') == ("a-b-0", [])


def test_errors_name_what_is_missing(raw, tmp_path):
    with pytest.raises(AtlabError, match="LibriSpeech folder not found: expected .*nowhere"):
        recipe.prepare(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(AtlabError, match="LibriSpeech part 'train-clean-100' not found: expected .*train-clean-100"):
        recipe.prepare(raw, tmp_path / "out")
    with pytest.raises(AtlabError, match="folder of word alignments not found: expected .*other.*dev-clean"):
        recipe.prepare(raw, tmp_path / "out", part="dev-clean", alignments=tmp_path / "other")
    with pytest.raises(AtlabError, match="words is 0; allowed: a whole number of at least 1"):
        recipe.prepare(raw, tmp_path / "out", part="dev-clean", words=0)
    (tmp_path / "empty/dev-clean").mkdir(parents=True)
    with pytest.raises(AtlabError, match="no word alignment found: expected .*alignment.txt"):
        recipe.prepare(raw, tmp_path / "out", part="dev-clean", alignments=tmp_path / "empty")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('84-1-0 "A,B" "1.0"', "2 words but 1 end times"),
        ("84-1-0 A,B 1.0,2.0", "lists are not quoted"),
        ('84-1-0 "A,B" "2.0,1.0"', "end times decrease"),
        ('84-1-0 "A,B"', "not enough values"),
        ('84-1-0 "A" "one"', "could not convert"),
    ],
)
def test_a_malformed_alignment_is_named_with_its_line(tmp_path, line, message):
    raw = corpora.librispeech(tmp_path / "raw")
    path = raw / "dev-clean/251/118436/251-118436.alignment.txt"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(AtlabError, match=rf"251-118436.alignment.txt, line 2: .*{message}"):
        recipe.prepare(raw, tmp_path / "out", part="dev-clean", workers=0)


def test_a_recording_shorter_than_its_alignment_counts_as_broken(tmp_path):
    raw = corpora.librispeech(tmp_path / "raw")
    corpora.write(raw / "dev-clean/84/121123/84-121123-0000.flac", corpora.sound(1.0))
    with pytest.raises(AtlabError, match="84-121123-0000.flac ends before its word"):
        recipe.prepare(raw, tmp_path / "out", part="dev-clean", workers=0)  # one of five: above one per cent
