"""A FactorSet gives back what was stored, opens fast, and refuses what is not whole."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest

from atlab.data import Clip, FactorSet, build
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
    with pytest.raises(AtlabError, match=r"each of the 12 clips whether it is meant, found \(11,\)"):
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
    with pytest.raises(AtlabError, match="cannot be read, it is truncated or of another kind"):
        FactorSet.open(fs.path)


def test_pickled_inputs_are_refused(fs):
    np.save(fs.path / "inputs.npy", np.array([{"a": 1}] * 12, dtype=object), allow_pickle=True)
    with pytest.raises(AtlabError, match="cannot be read"):
        FactorSet.open(fs.path)


@pytest.mark.parametrize(("card", "found"), [({"format": "other-2"}, "'other-2'"), ({}, "None"), ([1], "'list'")])
def test_another_format_is_refused(fs, card, found):
    (fs.path / "card.json").write_text(json.dumps(card))
    with pytest.raises(AtlabError, match=f"card.json has format {found}, this version reads 'atlab-factorset-1'"):
        FactorSet.open(fs.path)


def test_counts_that_disagree_are_refused(fs):
    fs.factors.iloc[:-1].to_parquet(fs.path / "factors.parquet", index=False)
    message = r"inputs of shape \(12, 100\), 11 rows of factors, 12 clips in the card; they must agree"
    with pytest.raises(AtlabError, match=message):
        FactorSet.open(fs.path)


def test_inputs_that_are_no_clips_are_refused(fs):
    np.save(fs.path / "inputs.npy", np.array(5))
    with pytest.raises(AtlabError, match=r"inputs of shape \(\), 12 rows of factors"):
        FactorSet.open(fs.path)


def test_a_data_set_is_what_its_card_says(fs):
    FactorSet.open(fs.path).verify()
    toy(fs.path.parent / "numbers", words=2, speakers=2, repetitions=3, samples=33).verify()


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
    with pytest.raises(AtlabError, match=r"has ids twice: \['same', 'same'"):
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
