"""Splits leak nothing, keep their shares, say no to what cannot be split, and come back from disk."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from atlab.data import Clip, FactorSet, build, splits
from atlab.data.parts import PARTS, Split
from atlab.data.splits import SplitSpec
from atlab.data.synthetic.toy import toy
from atlab.errors import AtlabError


@pytest.fixture(scope="module")
def fs(tmp_path_factory) -> FactorSet:
    """5 words x 10 speakers x 12 takes, every clip a source of its own."""
    return toy(tmp_path_factory.mktemp("toy") / "set", words=5, speakers=10, repetitions=12, samples=8)


def cut(item: int) -> list[Clip]:
    """Three clips of one source, which share the speaker; the words differ."""
    row = {"source": f"{item}.wav", "duration": 1.0, "speaker": f"s{item % 6}", "session": item % 6 // 2}
    return [
        Clip(np.zeros(4, np.int16), {"id": f"{item}.{part}", **row, "word": f"w{(item // 6 + part) % 3}"})
        for part in range(3)
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> FactorSet:
    """120 sources of 3 clips, 6 speakers in 3 sessions, 3 words."""
    out = tmp_path_factory.mktemp("shared") / "set"
    return build(out, range(120), cut, card={"name": "shared"}, factors=["speaker", "word", "session"], workers=0)


def parts_of(split: Split) -> list[np.ndarray]:
    return [getattr(split, part) for part in PARTS]


def assert_apart(fs: FactorSet, split: Split, column: str) -> None:
    values = fs.factors[column].to_numpy()
    for one, other in combinations(parts_of(split), 2):
        assert not set(values[one]) & set(values[other])


SPLITS = {
    "random": lambda fs, seed: splits.random(fs, seed=seed),
    "disjoint": lambda fs, seed: splits.disjoint(fs, "speaker", seed=seed),
    "held out": lambda fs, seed: splits.disjoint(fs, "speaker", test=[fs.classes("speaker")[1]], seed=seed),
    "confounded": lambda fs, seed: splits.confounded(fs, "word", "speaker", p=0.7, seed=seed),
}


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("data", ["fs", "shared"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_source_is_on_two_sides_and_rows_are_sorted(request, name, data, seed):
    data = request.getfixturevalue(data)
    split = SPLITS[name](data, seed)
    assert_apart(data, split, "source")
    assert_apart(data, split, "id")
    for rows in parts_of(split):
        assert (
            len(rows) and rows.dtype == np.int64 and (np.diff(rows) > 0).all() and 0 <= rows[0] <= rows[-1] < len(data)
        )
    split.check(data, "word")


@pytest.mark.parametrize("name", SPLITS)
def test_seeds_decide(fs, name):
    first, again, other = (SPLITS[name](fs, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(parts_of(first), parts_of(again), strict=True))
    assert not np.array_equal(first.train, other.train)


def test_random_shares_are_those_asked_for(fs, shared):
    split = splits.random(fs)
    assert [len(rows) for rows in parts_of(split)] == [420, 120, 60]
    split = splits.random(shared, fractions=(0.5, 0.25, 0.25))
    assert [len(rows) for rows in parts_of(split)] == [180, 90, 90]
    assert sorted(np.concatenate(parts_of(split))) == list(range(360))


def test_random_of_some_rows_uses_only_these(fs):
    rows = np.arange(100, 300)
    split = splits.random(fs, rows=rows)
    assert sorted(np.concatenate(parts_of(split))) == list(rows)


def test_rows_may_be_a_mask_and_count_once(fs):
    rows = np.arange(100, 300)
    wanted = splits.random(fs, rows=rows)
    for same in (np.isin(np.arange(600), rows), np.r_[rows, rows[::-1]]):
        for one, other in zip(parts_of(wanted), parts_of(splits.random(fs, rows=same)), strict=True):
            np.testing.assert_array_equal(one, other)
    held = splits.disjoint(fs, "speaker", rows=fs.labels("word") == "word1", test=["speaker3"])
    assert {*fs.labels("word", np.concatenate(parts_of(held)))} == {"word1"} and len(held.test) == 12
    for make in (splits.random, lambda fs, rows: splits.disjoint(fs, "speaker", rows=rows, test=["speaker0"])):
        with pytest.raises(AtlabError, match=r"rows must lie in 0..599, found 0..600"):
            make(fs, rows=[0, 600])


def test_random_without_a_validation_or_test_part(fs):
    split = splits.random(fs, fractions=(0.9, 0.0, 0.1))
    assert [len(rows) for rows in parts_of(split)] == [540, 0, 60]
    split = splits.random(fs, fractions=(0.8, 0.2, 0.0))
    assert [len(rows) for rows in parts_of(split)] == [480, 120, 0]


@pytest.mark.parametrize("by", ["speaker", "session"])
def test_disjoint_shares_no_value(shared, by):
    for seed in range(5):
        split = splits.disjoint(shared, by, seed=seed)
        assert_apart(shared, split, by)
        assert all(len(rows) for rows in parts_of(split))


def test_disjoint_by_a_column_that_is_no_task(fs):
    split = splits.disjoint(fs, "source")
    assert_apart(fs, split, "source")


def test_disjoint_holds_named_values_out(fs):
    split = splits.disjoint(fs, "speaker", test=["speaker3", "speaker7"])
    assert set(fs.labels("speaker", split.test)) == {"speaker3", "speaker7"} and len(split.test) == 120
    assert_apart(fs, split, "speaker")
    one = splits.disjoint(fs, "speaker", test="speaker3")
    assert set(fs.labels("speaker", one.test)) == {"speaker3"}


def test_disjoint_holds_numbers_out_by_their_text(shared):
    split = splits.disjoint(shared, "session", test=["1"])
    assert set(shared.labels("session", split.test)) == {1}


def test_with_few_values_left_training_and_validation_share_them(tmp_path):
    fs = toy(tmp_path / "set", words=3, speakers=3, repetitions=10, samples=8)
    split = splits.disjoint(fs, "speaker", test=["speaker0"])
    assert set(fs.labels("speaker", split.test)) == {"speaker0"}
    assert (
        set(fs.labels("speaker", split.train))
        == set(fs.labels("speaker", split.validation))
        == {"speaker1", "speaker2"}
    )
    assert_apart(fs, split, "source")


def aligned_share(fs: FactorSet, split: Split, rows: np.ndarray) -> pd.Series:
    """Share of clips, by class, whose speaker is paired with the class."""
    table = fs.factors.iloc[rows]
    hit = [row.speaker in split.how["pairs"][row.word] for row in table.itertuples()]
    return pd.Series(hit).groupby(table["word"].to_numpy()).mean()


@pytest.mark.parametrize("p", [0.0, 0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("seed", [0, 5])
def test_confounded_parts_have_the_stated_share_and_the_test_is_independent(fs, p, seed):
    split = splits.confounded(fs, "word", "speaker", p=p, seed=seed)
    for rows in (split.train, split.validation):
        counts = pd.Series(fs.labels("word", rows)).value_counts()
        assert counts.nunique() == 1 and len(counts) == 5
        assert (abs(aligned_share(fs, split, rows) - p) <= 0.5 / counts.iloc[0] + 1e-12).all()
    pairs = split.how["pairs"]
    assert sorted(speaker for own in pairs.values() for speaker in own) == fs.classes("speaker")
    assert {len(own) for own in pairs.values()} == {2}
    crossing = pd.crosstab(fs.labels("word", split.test), fs.labels("speaker", split.test))
    assert crossing.shape == (5, 10) and crossing.to_numpy().min() == crossing.to_numpy().max() == 1
    assert scipy.stats.contingency.association(crossing) == pytest.approx(0)
    assert split.how["empty pairs"] == 0


def test_confounded_takes_as_many_clips_as_there_are(fs):
    """The test leaves 11 clips a cell; 2 of 10 speakers are paired with a class: 22 clips at p = 1."""
    split = splits.confounded(fs, "word", "speaker", p=1.0)
    assert len(split.train) + len(split.validation) == 5 * 22
    assert len(split.validation) == 5 * round(22 * 2 / 9)
    none = splits.confounded(fs, "word", "speaker", p=0.0)
    assert len(none.train) + len(none.validation) == 5 * 88


def test_confounded_without_a_test_part(fs):
    split = splits.confounded(fs, "word", "speaker", p=1.0, fractions=(0.8, 0.2, 0.0))
    assert len(split.test) == 0 and len(split.train) + len(split.validation) == 5 * 24


def crossed(out, seed: int) -> FactorSet:
    """A data set of random size: 2 to 5 words, 2 to 8 speakers, sources of 1 to 4 clips of one pair or of any."""
    rng = np.random.default_rng(seed)
    words, speakers, most, mixed = rng.integers(2, 6), rng.integers(2, 9), rng.integers(1, 5), rng.random() < 0.5
    pairs = [(w, s) for w in range(words) for s in range(speakers) for _ in range(rng.integers(8, 20))]

    def convert(source: int) -> list[Clip]:
        drawn = np.random.default_rng([seed, source])
        clips = []
        for part in range(drawn.integers(1, most + 1)):
            word, speaker = pairs[drawn.integers(len(pairs))] if mixed and part else pairs[source]
            row = {"id": f"{source}.{part}", "source": f"{source}.wav", "duration": 1.0}
            clips.append(Clip(np.zeros(1, np.int16), row | {"word": f"w{word}", "speaker": int(speaker)}))
        return clips

    return build(out, range(len(pairs)), convert, card={"seed": seed}, factors=["word", "speaker"], workers=0)


@pytest.mark.parametrize("seed", range(12))
def test_no_source_leaks_whatever_the_data(tmp_path, seed):
    """Sources counted one by one, over data sets of random sizes; the share of pairs and balance with them."""
    data, rng = crossed(tmp_path / "set", seed), np.random.default_rng([seed, 1])
    word, speaker = (data.factors[name].tolist() for name in ("word", "speaker"))
    for p in (0.0, float(rng.random()), 1.0):
        made = splits.confounded(data, "word", "speaker", p=p, seed=int(rng.integers(1000)))
        for split in (made, splits.for_teacher(data, made, seed=seed)):
            assert_apart(data, split, "source")
        for rows in (made.train, made.validation):
            for name in data.classes("word"):
                own = [str(speaker[row]) in made.how["pairs"][name] for row in rows if word[row] == name]
                assert len(own) == len(rows) / len(data.classes("word"))
                assert abs(sum(own) - p * len(own)) <= 0.5 + 1e-9
        cells = pd.Series([(word[row], speaker[row]) for row in made.test]).value_counts()
        assert cells.nunique() == 1
        assert len(cells) + made.how["empty pairs"] == len(set(word)) * len(set(speaker))


def test_pairs_without_clips_are_counted(tmp_path):
    def convert(number: int) -> list[Clip]:
        row = {"id": str(number), "source": str(number), "duration": 1.0}
        return [Clip(np.zeros(1, np.int16), row | {"word": number % 3, "speaker": number // 3 % 4})]

    items = [n for n in range(240) if (n % 3, n // 3 % 4) not in {(0, 0), (2, 3)}]
    fs = build(tmp_path / "set", items, convert, card={}, factors=["word", "speaker"], workers=0)
    split = splits.confounded(fs, "word", "speaker", p=0.6)
    assert split.how["empty pairs"] == 2
    assert len(set(zip(fs.labels("word", split.test), fs.labels("speaker", split.test), strict=True))) == 10


def test_confounded_with_fewer_orthogonal_values_than_classes(tmp_path):
    fs = toy(tmp_path / "set", words=4, speakers=2, repetitions=20, samples=8)
    split = splits.confounded(fs, "word", "speaker", p=0.9)
    assert (abs(aligned_share(fs, split, split.train) - 0.9) < 0.05).all()
    own = list(split.how["pairs"].values())
    assert own[0] == own[2] != own[1] == own[3] and {len(speakers) for speakers in own} == {1}


def test_confounded_by_source_keeps_its_share(shared):
    for seed in range(4):
        split = splits.confounded(shared, "word", "speaker", p=0.75, seed=seed)
        assert_apart(shared, split, "source")
        assert (abs(aligned_share(shared, split, split.train) - 0.75) <= 0.5 * 3 / len(split.train) + 1e-12).all()


def test_confounded_of_a_number_of_clips(fs):
    split = splits.confounded(fs, "word", "speaker", p=0.8, clips=50)
    assert (len(split.train), len(split.validation)) == (40, 10)
    with pytest.raises(AtlabError, match=r"\d+ clips per class cannot be confounded with p = 0.95: .*which allows 1\d"):
        splits.confounded(fs, "word", "speaker", p=0.95, clips=600)


def test_what_cannot_be_confounded_is_named(fs, tmp_path):
    with pytest.raises(AtlabError, match="target and orthogonal factor are both 'word'"):
        splits.confounded(fs, "word", "word")
    with pytest.raises(AtlabError, match="unknown factor 'emotion'"):
        splits.confounded(fs, "word", "emotion")
    alone = toy(tmp_path / "set", words=3, speakers=1, repetitions=10, samples=8)
    with pytest.raises(
        AtlabError, match="no clips per class cannot be confounded with p = 0.5: .* and 0 unpaired clips"
    ):
        splits.confounded(alone, "word", "speaker", p=0.5)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_p_is_a_share(fs, p):
    with pytest.raises(AtlabError, match="p must be a share between 0 and 1, got"):
        splits.confounded(fs, "word", "speaker", p=p)


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("data", ["fs", "shared"])
def test_a_teacher_never_sees_the_test_sources_of_the_target(request, name, data):
    data = request.getfixturevalue(data)
    split = SPLITS[name](data, 0)
    teacher = splits.for_teacher(data, split, seed=1)
    source = data.factors["source"].to_numpy()
    seen = set(source[np.concatenate(parts_of(teacher))])
    assert not seen & set(source[split.test])
    assert seen == set(source) - set(source[split.test])  # and every other source is used
    assert_apart(data, teacher, "source")


def test_a_teacher_of_a_number_of_clips(fs):
    split = splits.random(fs)
    teacher = splits.for_teacher(fs, split, seed=1, clips=100)
    rows = np.concatenate(parts_of(teacher))
    assert [len(part) for part in parts_of(teacher)] == [70, 20, 10] and not set(rows) & set(split.test)
    assert len(np.concatenate(parts_of(splits.for_teacher(fs, split, clips=10_000)))) == 540


@pytest.mark.parametrize("fractions", [(0.7, 0.2), (0.7, 0.2, 0.2), (1.1, -0.2, 0.1), (0.0, 0.5, 0.5)])
@pytest.mark.parametrize(
    "make",
    [
        splits.random,
        lambda fs, fractions: splits.confounded(fs, "word", "speaker", fractions=fractions),
        lambda fs, fractions: splits.disjoint(fs, "speaker", fractions, test=["speaker1"]),
    ],
)
def test_fractions_are_shares(fs, make, fractions):
    with pytest.raises(AtlabError, match="expected three fractions that sum to 1"):
        make(fs, fractions=fractions)


def test_impossible_splits_are_named(fs, tmp_path):
    with pytest.raises(AtlabError, match="unknown factor 'speakr'; nearest: 'speaker'"):
        splits.disjoint(fs, "speakr")
    with pytest.raises(AtlabError, match="unknown value of speaker 'speaker11'; nearest: 'speaker1'"):
        splits.disjoint(fs, "speaker", test=["speaker11"])
    with pytest.raises(AtlabError, match="all values of 'word' are held out"):
        splits.disjoint(fs, "word", test=fs.classes("word"))
    with pytest.raises(AtlabError, match="no value of 'word' is held out"):
        splits.disjoint(fs, "word", test=[])
    two = toy(tmp_path / "two", words=2, speakers=2, repetitions=2, samples=8)
    with pytest.raises(
        AtlabError, match=r"2 values of 'speaker' cannot be dealt to 3 parts: \['speaker0', 'speaker1'\]"
    ):
        splits.disjoint(two, "speaker")


def test_check_says_what_is_wrong(fs, shared):
    rows, word = np.arange(len(fs)), fs.labels("word")
    none = np.array([], dtype=np.int64)
    Split(rows[::3], rows[1::3], rows[2::3]).check(fs, "word")
    with pytest.raises(AtlabError, match="the validation part of the split is empty"):
        Split(rows[::2], none, rows[1::2]).check(fs, "word")
    of_one = rows[word == "word1"]
    with pytest.raises(AtlabError, match="the training part has a single class of 'word': 'word1'"):
        Split(of_one[:10], of_one[10:20], of_one[20:]).check(fs, "word")
    seen = rows[word != "word4"]
    with pytest.raises(AtlabError, match=r"the test part has classes of 'word' that training never saw: \['word4'\]"):
        Split(seen[::2], seen[1::2], rows[word == "word4"]).check(fs, "word")
    with pytest.raises(AtlabError, match="the validation part has classes of 'speaker' that training never saw"):
        splits.disjoint(fs, "speaker").check(fs, "speaker")
    with pytest.raises(
        AtlabError, match=r"1 sources have clips in the train and in the test part: \['0.wav'\]; scores"
    ):
        Split(np.array([0, 3]), np.array([6]), np.array([1])).check(shared, "word")


def test_random_parts_have_no_clip_of_a_class_that_training_never_saw(tmp_path):
    """Speakers with one clip each, as crowd-sourced corpora have them by the hundred."""

    def convert(n):
        row = {"id": f"{n}", "source": f"{n}", "duration": 1.0}
        return [Clip(np.zeros(4, np.int16), row | {"word": f"w{n % 3}", "speaker": f"s{n if n % 2 else n % 8}"})]

    fs = build(tmp_path / "crowd", range(200), convert, card={"name": "crowd"}, factors=["word", "speaker"], workers=0)
    split = splits.random(fs, seed=1)
    with pytest.raises(AtlabError, match="the validation part has classes of 'speaker' that training never saw"):
        split.check(fs, "speaker")
    known = splits.known(split, fs, "speaker")
    known.check(fs, "speaker")
    seen = {*fs.labels("speaker", split.train)}
    for part in ("validation", "test"):
        rows = getattr(split, part).tolist()
        assert getattr(known, part).tolist() == [row for row in rows if fs.labels("speaker")[row] in seen]
    assert known.train is split.train and 0 < len(known.test) < len(split.test)
    assert known.how["of unseen classes"] == sum(len(s.validation) + len(s.test) for s in (split,)) - len(
        known.validation
    ) - len(known.test)
    assert splits.known(split, fs, "word") is split
    by_speaker = splits.disjoint(fs, "speaker")
    assert splits.known(by_speaker, fs, "speaker") is by_speaker  # nothing would be left: `check` says why


SPECS = {
    "random": (SplitSpec("random", seed=3), lambda fs: splits.random(fs, seed=3)),
    "disjoint": (SplitSpec("disjoint", "speaker", seed=3), lambda fs: splits.disjoint(fs, "speaker", seed=3)),
    "held out": (
        SplitSpec("disjoint", "speaker", held_out=("speaker1", "speaker2")),
        lambda fs: splits.disjoint(fs, "speaker", test=["speaker1", "speaker2"]),
    ),
    "confounded": (
        SplitSpec("confounded", "speaker", pairing=0.7, seed=3),
        lambda fs: splits.confounded(fs, "word", "speaker", p=0.7, seed=3),
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_makes_the_split_that_it_names(fs, name):
    spec, made = SPECS[name]
    spec.check()
    split, wanted = spec.make(fs, "word"), made(fs)
    assert all(np.array_equal(a, b) for a, b in zip(parts_of(split), parts_of(wanted), strict=True))
    assert split.how == wanted.how


def test_an_official_split_keeps_the_test_clips_and_draws_a_tenth_to_validate(fs):
    with pytest.raises(AtlabError, match="toy has no official split .* choose another split: random, disjoint"):
        SplitSpec("official").make(fs, "word")
    marks = np.where(np.arange(len(fs)) % 4 == 0, "test", "train")
    marked = FactorSet(fs.path, fs.card, fs.factors.assign(official=marks), fs.inputs)
    split = SplitSpec("official", seed=1).make(marked, "word")
    assert np.array_equal(split.test, np.flatnonzero(marks == "test"))
    assert len(split.validation) == round(0.1 * (marks == "train").sum())
    assert sorted([*split.train, *split.validation]) == np.flatnonzero(marks == "train").tolist()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SplitSpec("even"), "unknown split 'even'; allowed: random, disjoint, confounded, official"),
        (SplitSpec("random", held_out=("a",)), r"held_out is \['a'\], but only a disjoint split holds values out"),
        (SplitSpec("official", pairing=0.5), "pairing is 0.5, but only a confounded split pairs factors"),
    ],
)
def test_a_spec_that_would_be_ignored_is_refused(spec, message):
    with pytest.raises(AtlabError, match=message):
        spec.check()


def test_a_cut_split_remembers_the_test_clips_that_it_left_out(fs, tmp_path):
    whole = splits.random(fs)
    small = splits.cut(whole, 20)
    assert len(small.test) == 20 < len(whole.test)
    back = Split.load(small.save(tmp_path / "split.json", fs), fs)
    assert np.array_equal(back.whole_test, whole.test) and np.array_equal(back.test, small.test)
    assert np.array_equal(splits.cut(back, 10).whole_test, whole.test)


def test_splits_come_back_by_clip_id(fs, tmp_path):
    split = splits.confounded(fs, "word", "speaker", p=0.8)
    path = split.save(tmp_path / "split.json", fs)
    stored = json.loads(path.read_text())
    assert stored["train"] == fs.factors["id"].iloc[split.train].tolist()
    back = Split.load(path, fs)
    assert all(np.array_equal(a, b) for a, b in zip(parts_of(split), parts_of(back), strict=True))
    assert back.how == split.how and back.how["p"] == 0.8


def test_a_stored_split_of_other_data_or_no_split_is_refused(fs, shared, tmp_path):
    path = splits.random(fs).save(tmp_path / "split.json", fs)
    with pytest.raises(AtlabError, match="split.json splits another data set"):
        Split.load(path, shared)
    with pytest.raises(AtlabError, match="nothing.json is not a stored split"):
        Split.load(tmp_path / "nothing.json", fs)
    path.write_text('{"data": "x", "how": {}}')
    with pytest.raises(AtlabError, match=r"is not a stored split: it lacks \['train', 'validation', 'test', 'spare'\]"):
        Split.load(path, fs)
    for content in ("5", "[]"):
        path.write_text(content)
        with pytest.raises(AtlabError, match=r"not a stored split: it lacks \['data', 'how', 'train', 'validation'"):
            Split.load(path, fs)
    parts = {"train": ["word0-speaker0-0"], "validation": ["gone"], "test": [], "spare": []}
    path.write_text(json.dumps({"data": fs.content_hash, "how": {}} | parts))
    with pytest.raises(AtlabError, match=r"split.json names clips that the data set does not have: \['gone'\]"):
        Split.load(path, fs)
    path.write_text(json.dumps({"data": fs.content_hash, "how": {}} | parts | {"validation": 5}))
    with pytest.raises(AtlabError, match=r"it lacks \['validation'\]"):
        Split.load(path, fs)
    path.write_text("{half")
    with pytest.raises(AtlabError, match="is not a stored split"):
        Split.load(path, fs)
