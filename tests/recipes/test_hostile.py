"""Raw files that contradict themselves, never end or hold what no file of their kind holds: each is one sentence."""

from __future__ import annotations

import json
import os
import sqlite3
import struct

import numpy as np
import pytest
import soundfile

from atlab.data import BrokenInput
from atlab.errors import AtlabError
from data_recipes import corpus, esc50, good_sounds, gsc, iemocap, librispeech_words, nsynth
from data_recipes.audio import read_audio
from data_recipes.corpus import files_below
from data_recipes.images import read_idx
from data_recipes.named_sounds import find_sounds
from tests.recipes.corpora import sound

ENDLESS = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id, 'akg' microphone, '' filename, 1 sound_id FROM n"
NOTE = {
    "note_str": "bass_electronic_000-021-025",
    "instrument_family_str": "bass",
    "instrument_str": "bass_electronic_000",
}
NOTE |= {"pitch": 21, "velocity": 25, "instrument_source_str": "electronic"}


def test_floats_beyond_full_scale_are_broken_and_not_clipped(tmp_path):
    wave = sound(0.5)
    soundfile.write(tmp_path / "full.wav", wave / np.abs(wave).max(), 16_000, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "full.wav")).max() == 1.0
    for subtype in ("FLOAT", "DOUBLE"):
        soundfile.write(tmp_path / "loud.wav", 1.5 * wave / np.abs(wave).max(), 16_000, subtype=subtype)
        with pytest.raises(BrokenInput, match="loud.wav: holds floats up to 1.5, beyond full scale"):
            read_audio(tmp_path / "loud.wav")


def test_a_noise_recording_that_lacks_a_byte_is_broken(tmp_path):
    soundfile.write(tmp_path / "noise.wav", sound(2.0), 16_000)
    assert len(corpus.noise_excerpt(tmp_path / "noise.wav", 8000, np.random.default_rng(0))) == 8000
    (tmp_path / "noise.wav").write_bytes((tmp_path / "noise.wav").read_bytes()[:-1])
    with pytest.raises(BrokenInput, match="noise.wav: truncated, 1 bytes are missing"):
        corpus.noise_excerpt(tmp_path / "noise.wav", 8000, np.random.default_rng(0))


def test_channels_that_cancel_each_other_out_are_broken(tmp_path):
    wave = sound(0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([wave, -0.999 * wave], axis=1), 16_000)
    with pytest.raises(BrokenInput, match="a.wav: has channels that cancel each other out"):
        read_audio(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.stack([wave, 0 * wave], axis=1), 16_000)
    np.testing.assert_allclose(read_audio(tmp_path / "b.wav"), wave / 2, atol=1e-4)
    soundfile.write(tmp_path / "c.wav", np.zeros((100, 2)), 16_000)
    assert not read_audio(tmp_path / "c.wav").any()


def test_a_named_pipe_in_place_of_a_list_is_refused(tmp_path):
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(AtlabError, match="list is neither a file nor a folder: .*list.txt"):
        corpus.expect(tmp_path / "list.txt", "list")
    with pytest.raises(AtlabError, match="list.txt is not a regular file"):
        librispeech_words._read_alignments(tmp_path / "list.txt")


def database(path, *statements: str):
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE packs (id, name); CREATE TABLE takes (id, microphone, filename, sound_id);"
        )
        connection.executescript(
            "CREATE TABLE sounds (id, instrument, player, klass, pack_filename, pack_id, semitone);"
        )
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


def test_a_view_in_place_of_a_table_is_not_computed(tmp_path):
    path = database(tmp_path / "d.sqlite", "DROP TABLE takes", f"CREATE VIEW takes AS {ENDLESS}")
    with pytest.raises(AtlabError, match="is no readable sqlite database: not authorized"):
        good_sounds._tables(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("1, 'flute', 'p', 5, 'f', 1, 60", r"5 is in the column klass of sounds; expected str \| None"),
        (
            "1, 'flute', 'p', 'good-sound', 'f', 1, 'C4'",
            r"'C4' is in the column semitone of sounds; expected int \| None",
        ),
        ("1, x'00ff', 'p', 'good-sound', 'f', 1, 60", "is in the column instrument of sounds; expected <class 'str'>"),
    ],
)
def test_values_of_another_type_in_a_database_are_named(tmp_path, values, message):
    with pytest.raises(AtlabError, match=message):
        good_sounds._tables(database(tmp_path / "d.sqlite", f"INSERT INTO sounds VALUES ({values})"))


def test_an_utterance_with_two_labels_is_refused(tmp_path):
    line = "[6.2901 - 8.2357]\tSes01F_impro01_F000\t{}\t[2.5, 2.5, 2.5]\n"
    (tmp_path / "a.txt").write_text(line.format("neu") * 2)
    assert iemocap._labels(tmp_path / "a.txt") == {"Ses01F_impro01_F000": "neu"}
    (tmp_path / "a.txt").write_text(line.format("neu") + line.format("ang"))
    with pytest.raises(AtlabError, match="labels Ses01F_impro01_F000 twice, neu and ang; expected one label"):
        iemocap._labels(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text('1-2-0000 "A" "1.0"\n1-2-0000 "B" "1.0"\n')
    with pytest.raises(AtlabError, match="b.txt, line 2: the utterance '1-2-0000' is repeated"):
        librispeech_words._read_alignments(tmp_path / "b.txt")
    for name in gsc._LISTS.values():
        (tmp_path / name).write_text("one/004ae714_nohash_0.wav\n")
    with pytest.raises(AtlabError, match="'one/004ae714_nohash_0.wav' is in two lists of the official split"):
        gsc._official_lists(tmp_path)
    for content, message in (("", "names no file"), ("404: not found", "has the line '404: not found'")):
        (tmp_path / "validation_list.txt").write_text(content)
        with pytest.raises(AtlabError, match=f"validation_list.txt {message}; expected"):
            gsc._official_lists(tmp_path)


@pytest.mark.parametrize(
    "content", [b'1-2-0000 "A" "nan"\n', b'1-2-0000 "A" "inf"\n', b'1-2-0000 "A" "-1"\n', b"\xff\xfe\n"]
)
def test_alignments_of_odd_numbers_and_letters_are_named(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(AtlabError, match="a.txt(, line 1: end times decrease, or are missing| is not text in UTF-8)"):
        librispeech_words._read_alignments(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "odd",
    [{"note_str": "../../secret"}, {"note_str": 5}, {"pitch": "21"}, {"velocity": None}, {"instrument_str": ["a"]}],
)
def test_notes_of_odd_types_are_refused(tmp_path, odd):
    (tmp_path / "examples.json").write_text(json.dumps({"a": NOTE}))
    assert len(nsynth._examples(tmp_path / "examples.json")) == 1
    (tmp_path / "examples.json").write_text(json.dumps({"a": NOTE | odd}))
    with pytest.raises(AtlabError, match="is no list of NSynth notes"):
        nsynth._examples(tmp_path / "examples.json")


def test_a_list_of_classes_that_is_no_csv_is_named(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/esc50.csv").write_text('filename,category\n"a" b,c\n')
    with pytest.raises(AtlabError, match="esc50.csv is no CSV"):
        esc50._classes(tmp_path)


@pytest.mark.parametrize("shape", [(), (2,) * 5, (2**32 - 1,) * 4, (2**32 - 1,) * 255])
def test_an_idx_file_of_odd_dimensions_is_refused(tmp_path, shape):
    (tmp_path / "a-ubyte").write_bytes(struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(32))
    with pytest.raises(AtlabError, match=r"a-ubyte is (no idx file|truncated or padded)"):
        read_idx(tmp_path / "a-ubyte")


def test_folders_that_are_links_are_looked_into_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "ann_go.wav").touch()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "above").symlink_to(tmp_path / "raw")
    assert [path.name for path in files_below(tmp_path / "raw")] == ["ann_go.wav"]
    found, _ = find_sounds(tmp_path / "raw", r"([a-z]+)_([a-z]+)", lambda match: {"word": match[2]}, "ann_go.wav")
    assert [one.id for one in found] == ["ann-go"]
