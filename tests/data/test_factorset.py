"""A FactorSet gives back what was stored, opens fast, and refuses what is not whole."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from atlab.data import Clip, FactorSet, build
from atlab.data.display import as_text
from atlab.data.synthetic.toy import toy
from atlab.errors import AtlabError


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> FactorSet:
    return toy(tmp_path_factory.mktemp("toy") / "set", words=3, speakers=2, repetitions=2, samples=100)


@pytest.fixture
def fs(tmp_path) -> FactorSet:
    """A copy to spoil."""
    return toy(tmp_path / "set", words=3, speakers=2, repetitions=2, samples=100)


def test_reads_copies_of_rows_in_the_order_asked_for(stored):
    plain = np.load(stored.path / "inputs.npy")
    got = stored.read([7, 0, 7])
    np.testing.assert_array_equal(got, plain[[7, 0, 7]])
    assert got.dtype == np.int16 and isinstance(stored.inputs, np.memmap) and not isinstance(got, np.memmap)
    got[:] = 0
    np.testing.assert_array_equal(stored.read([0])[0], plain[0])
    assert stored.read([]).shape == (0, 100)


@pytest.mark.parametrize("rows", [[12], [-1], [0, 99]])
def test_rows_that_are_not_there_are_refused(stored, rows):
    message = rf"rows must lie in 0..11, found {min(rows)}..{max(rows)}"
    with pytest.raises(AtlabError, match=message):
        stored.read(rows)
    with pytest.raises(AtlabError, match=message):
        stored.labels("word", rows)


def test_a_mask_means_the_clips_it_marks(stored):
    mask = stored.labels("word") == "word1"
    np.testing.assert_array_equal(stored.read(mask), np.load(stored.path / "inputs.npy")[4:8])
    assert stored.labels("speaker", list(mask)).tolist() == ["speaker0"] * 2 + ["speaker1"] * 2
    with pytest.raises(AtlabError, match=r"each of the 12 clips, got shape \(11,\)"):
        stored.read(mask[1:])


def test_labels_classes_and_codes(stored):
    word = [f"word{n // 4}" for n in range(12)]
    assert stored.labels("word").tolist() == word
    assert stored.labels("word", [11, 0]).tolist() == ["word2", "word0"]
    assert stored.classes("word") == ["word0", "word1", "word2"]
    assert stored.codes("word").tolist() == [n // 4 for n in range(12)] and stored.codes("word").dtype == np.int64
    assert stored.codes("word", ["word2", "word0"]).tolist() == [1] * 4 + [-1] * 4 + [0] * 4
    assert stored.factor_names == ["word", "speaker"]
    assert (stored.kind, stored.sample_rate, len(stored)) == ("audio", 16000, 12)
    assert isinstance(stored.factors.index, pd.RangeIndex) and list(stored.factors)[:3] == ["id", "source", "duration"]


def test_numeric_factors_keep_their_type(tmp_path):
    def convert(number: int) -> list[Clip]:
        row = {"id": str(number), "source": str(number), "duration": 1.0, "pitch": 60 + number % 3}
        return [Clip(np.zeros((1, 2, 2), np.uint8), row)]

    fs = build(tmp_path / "set", range(7), convert, card={"name": "pitches"}, factors=["pitch"], workers=0)
    assert fs.classes("pitch") == [60, 61, 62] and fs.codes("pitch").tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert fs.kind == "image" and fs.sample_rate is None and fs.read([3]).shape == (1, 1, 2, 2)


def test_unknown_factor_and_foreign_classes(stored):
    with pytest.raises(AtlabError, match="unknown factor 'speeker'; nearest: 'speaker'; allowed: word, speaker"):
        stored.labels("speeker")
    with pytest.raises(AtlabError, match="unknown factor 'duration'"):
        stored.codes("duration")
    with pytest.raises(AtlabError, match=r"factor 'word' has none of the classes \['yes', 'no'\]; it has \['word0'"):
        stored.codes("word", ["yes", "no"])


def test_content_hash_sees_inputs_and_factors(tmp_path):
    def made(name: str, sample: int = 1, word: str = "yes", samples: int = 8, licence: str = "") -> str:
        def convert(number: int) -> list[Clip]:
            wave = np.full(samples, sample, np.int16)
            return [Clip(wave, {"id": str(number), "source": "a", "duration": 1.0, "word": word})]

        return build(
            tmp_path / name, [0, 1], convert, card={"licence": licence}, factors=["word"], workers=0
        ).content_hash

    first = made("a")
    assert made("b", licence="other") == first  # the card may say more without the data being other data
    assert len({first, made("c", sample=2), made("d", word="no"), made("e", samples=16)}) == 4


def test_a_hundred_thousand_clips_open_in_less_than_a_second(tmp_path):
    def convert(start: int) -> list[Clip]:
        rows = (
            {"id": f"clip{n:06d}", "source": f"folder/{n:06d}.wav", "duration": 1.0}
            | {"word": f"word{n % 35}", "speaker": f"speaker{n % 2618}"}
            for n in range(start, start + 10_000)
        )
        return [Clip(np.zeros(4, np.int16), row) for row in rows]

    build(
        tmp_path / "set", range(0, 100_000, 10_000), convert, card={}, factors=["word", "speaker"], workers=0, chunk=1
    )
    started = time.perf_counter()
    fs = FactorSet.open(tmp_path / "set")
    assert time.perf_counter() - started < 1 and len(fs) == 100_000


@pytest.mark.parametrize("name", ["inputs.npy", "factors.parquet", "card.json"])
def test_an_incomplete_folder_is_refused(fs, name):
    (fs.path / name).unlink()
    with pytest.raises(AtlabError, match=f"is not a complete data set: {name} missing"):
        FactorSet.open(fs.path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        AtlabError, match="nowhere is not a complete data set: inputs.npy, factors.parquet, card.json missing"
    ):
        FactorSet.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["inputs.npy", "factors.parquet", "card.json"])
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_truncated_files_are_refused(fs, name, keep):
    content = (fs.path / name).read_bytes()
    (fs.path / name).write_bytes(content[: int(keep * len(content))])
    message = "card.json is not JSON" if name == "card.json" else "cannot be read, it is truncated or of another kind"
    with pytest.raises(AtlabError, match=message):
        FactorSet.open(fs.path)


def test_pickled_inputs_are_refused(fs):
    np.save(fs.path / "inputs.npy", np.array([{"a": 1}] * 12, dtype=object), allow_pickle=True)
    with pytest.raises(AtlabError, match="cannot be read"):
        FactorSet.open(fs.path)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"format": "other-2"}, "has format 'other-2', this version reads 'atlab-factorset-1'"),
        ({}, "has format None, this version reads 'atlab-factorset-1'"),
        ([1], "expected a JSON object, got a list"),
    ],
)
def test_another_format_is_refused(fs, card, message):
    (fs.path / "card.json").write_text(json.dumps(card))
    with pytest.raises(AtlabError, match=f"card.json {message}|card.json is not what it should be: {message}"):
        FactorSet.open(fs.path)


@pytest.mark.parametrize(
    ("key", "odd"),
    [
        ("clips", "12"), ("clips", True), ("clips", 12.0), ("factors", ["word"]), ("kind", "video"), ("kind", 1), ("name", None),
        ("sample_rate", 16e3), ("sample_rate", 0), ("content_hash", 5), ("sample_hash", None), ("shape", [12, 99]),
        ("dropped", {"a": "b"}), ("dropped", [1]), ("published_clips", {"found": 3}), ("published_clips", {"published": {"a": 0.5}}),
    ],
)  # fmt: skip
def test_entries_of_another_type_are_refused(fs, key, odd):
    card = json.loads((fs.path / "card.json").read_text())
    (fs.path / "card.json").write_text(json.dumps(card | {key: odd}))
    with pytest.raises(AtlabError, match=f"{key}|its card says|found|published|kind"):
        FactorSet.open(fs.path)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((12, 100), np.uint8), r"uint8 \(12, 100\); expected int16 of 2 dimensions"),
        (np.zeros((12, 100), np.int64), "int64"),
        (np.full((12, 100), np.nan, np.float32), "float32"),
        (np.zeros((12, 1, 10, 10), np.int16), "of 2 dimensions"),
        (np.zeros((12, 0), np.int16), r"\(12, 0\)"),
        (np.asfortranarray(np.ones((12, 100), np.int16)), "in C order"),
    ],
)
def test_inputs_of_another_type_are_refused(fs, inputs, message):
    np.save(fs.path / "inputs.npy", inputs)
    with pytest.raises(AtlabError, match=message):
        FactorSet.open(fs.path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("word", [None] * 12, "expected a value in every row of the column 'word', got 12 empty ones"),
        ("word", [["a"]] * 12, "column 'word'"),
        ("speaker", ["a", None] * 6, "in every row of the column 'speaker', got 6 empty ones"),
        ("speaker", [1.0, np.nan] * 6, "column 'speaker', got 6 empty ones"),
        ("id", list(range(12)), "expected string values in the column 'id', got integer"),
        ("duration", ["long"] * 12, "expected integer or floating values in the column 'duration'"),
        ("duration", [np.inf] * 12, "the column 'duration' holds infinite values"),
    ],
)
def test_columns_of_another_type_are_refused(fs, column, values, message):
    fs.factors.assign(**{column: values}).to_parquet(fs.path / "factors.parquet", index=False)
    with pytest.raises(AtlabError, match=message):
        FactorSet.open(fs.path)


def test_counts_that_disagree_are_refused(fs):
    fs.factors.iloc[:-1].to_parquet(fs.path / "factors.parquet", index=False)
    message = "has 11 rows and 5 columns; expected 12 rows, one per clip of the card"
    with pytest.raises(AtlabError, match=message):
        FactorSet.open(fs.path)


def test_inputs_that_are_no_clips_are_refused(fs):
    np.save(fs.path / "inputs.npy", np.array(5))
    with pytest.raises(AtlabError, match=r"has the shape \(\), its card says 12 clips"):
        FactorSet.open(fs.path)


def test_a_data_set_is_what_its_card_says(fs):
    FactorSet.open(fs.path).verify()
    toy(fs.path.parent / "numbers", words=2, speakers=2, repetitions=3, samples=33).verify()
    card = json.loads((fs.path / "card.json").read_text())
    (fs.path / "card.json").write_text(json.dumps(card | {"content_hash": "0" * 64}))
    with pytest.raises(AtlabError, match="is not what its card says"):
        FactorSet.open(fs.path).verify()


def test_changed_inputs_are_seen_at_opening_or_by_reading_all(tmp_path):
    fs = toy(tmp_path / "set", words=10, speakers=10, repetitions=10, samples=4000)  # 8 MB, of which 1 MB is looked at
    path = fs.path / "inputs.npy"
    content = bytearray(path.read_bytes())
    for place, opens in ((len(content) // 2 + 200_000, True), (len(content) - 5, False)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        if opens:
            with pytest.raises(AtlabError, match="is not what its card says: the content hash is"):
                FactorSet.open(fs.path).verify()
        else:
            with pytest.raises(AtlabError, match="has changed since it was written"):
                FactorSet.open(fs.path)
    path.write_bytes(content)
    FactorSet.open(fs.path).verify()


def test_changed_factors_are_seen(fs):
    fs.factors.assign(word=fs.factors["word"].iloc[::-1].to_numpy()).to_parquet(
        fs.path / "factors.parquet", index=False
    )
    with pytest.raises(AtlabError, match="has changed since it was written"):
        FactorSet.open(fs.path)
    card = json.loads((fs.path / "card.json").read_text())
    (fs.path / "card.json").write_text(json.dumps({k: v for k, v in card.items() if k != "sample_hash"}))
    older = FactorSet.open(fs.path)  # written before there were samples
    with pytest.raises(AtlabError, match="is not what its card says"):
        older.verify()


def test_ids_that_are_there_twice_are_refused(fs):
    fs.factors.assign(id="same").to_parquet(fs.path / "factors.parquet", index=False)
    with pytest.raises(AtlabError, match=r"has repeated ids: \['same', 'same'"):
        FactorSet.open(fs.path)


def test_what_card_and_table_lack_is_named(fs):
    card = json.loads((fs.path / "card.json").read_text())
    (fs.path / "card.json").write_text(json.dumps({key: card[key] for key in card if key not in ("clips", "kind")}))
    with pytest.raises(AtlabError, match=r"card.json lacks \['kind', 'clips'\]"):
        FactorSet.open(fs.path)
    (fs.path / "card.json").write_text(json.dumps(card))
    fs.factors.drop(columns=["word", "source"]).to_parquet(fs.path / "factors.parquet")
    with pytest.raises(AtlabError, match=r"factors.parquet lacks the columns \['source', 'word'\]; it has \['id'"):
        FactorSet.open(fs.path)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["audio", "image", 10**400]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, database=None)
@given(data=st.data(), value=ODD)
def test_a_card_of_any_content_is_read_or_refused(stored, data, value):
    """What is read can be shown: entries that nobody checks are text at most."""
    card = json.loads((stored.path / "card.json").read_text())
    key = data.draw(st.sampled_from([*card, "published_clips", "noise"]))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("inputs.npy", "factors.parquet"):
            os.symlink(stored.path / name, f"{folder}/{name}")
        with open(f"{folder}/card.json", "w") as file:
            json.dump(card | {key: value}, file)
        with contextlib.suppress(AtlabError):
            terminal = Console(file=io.StringIO(), width=200)
            terminal.print(as_text(FactorSet.open(folder)))
            assert "clips" in terminal.file.getvalue()
