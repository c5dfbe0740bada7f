"""Summaries of data sets: each number against an independent count, Cramer's V against SciPy's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats.contingency import association, crosstab

import atlab
from atlab.data import Clip, Split, build, splits
from atlab.data.summary import MOST, cramers_v, crossing, split_table, summary
from atlab.errors import AtlabError

CARD = {
    "name": "odd",
    "sample_rate": 8000,
    "licence": "CC0",
    "citation": "Nobody",
    "recipe": "odd",
    "recipe_version": 1,
    "seed": 0,
}


def labels(seed: int, clips: int = 200, classes: tuple[int, int] = (5, 3), strength: float = 0.0):
    """Two labels; the second follows the first with probability `strength`."""
    rng = np.random.default_rng(seed)
    one, other = rng.integers(classes[0], size=clips), rng.integers(classes[1], size=clips)
    return one, np.where(rng.random(clips) < strength, one % classes[1], other)


def corrected_by_hand(one, other) -> float:
    """Bergsma's correction by loops over the table."""
    n = len(one)
    rows, columns, cells = (
        Counter(one.tolist()),
        Counter(other.tolist()),
        Counter(zip(one.tolist(), other.tolist(), strict=True)),
    )
    chi2 = 0.0
    for a, in_a in rows.items():
        for b, in_b in columns.items():
            expected = in_a * in_b / n
            chi2 += (cells[a, b] - expected) ** 2 / expected
    r, k = len(rows), len(columns)
    phi2 = max(0.0, chi2 / n - (r - 1) * (k - 1) / (n - 1))
    r_tilde, k_tilde = r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)
    return (phi2 / (min(r_tilde, k_tilde) - 1)) ** 0.5


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("classes", [(5, 3), (2, 2), (4, 9)])
def test_cramers_v_is_scipys(strength, classes):
    one, other = labels(1, classes=classes, strength=strength)
    found = cramers_v(one, other)
    assert found.plain == pytest.approx(association(crosstab(one, other).count, method="cramer"), abs=1e-12)
    assert found.corrected == pytest.approx(corrected_by_hand(one, other), abs=1e-12)


def test_the_corrected_v_does_not_see_chance_and_sees_design():
    pairs = [labels(seed, clips=60, classes=(6, 6)) for seed in range(200)]
    found = np.array([cramers_v(*pair) for pair in pairs])
    assert found[:, 0].mean() > 0.25 > 0.1 > found[:, 1].mean()
    assert cramers_v(["a", "b"] * 9, [3, 7] * 9) == (1.0, 1.0)


def test_v_is_undefined_for_one_class_and_for_a_class_a_clip():
    assert np.isnan(cramers_v(["a"] * 4, [1, 2, 1, 2])).all()
    assert "single class" in str(cramers_v(["a"] * 4, [1, 2, 1, 2]))
    each = cramers_v(list("abcd"), [1, 2, 1, 2])
    assert each.plain == pytest.approx(1) and np.isnan(each.corrected)


def _convert(item):
    number, word, speaker = item
    row = {
        "id": f"c{number}",
        "source": f"s{number // 2}",
        "duration": 0.1 * (number + 1),
        "word": word,
        "speaker": speaker,
    }
    return [Clip(np.full(800, number, np.int16), row | {"room": number % 7})], {"silent": 2} if number == 3 else {}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Thirty clips, two a source; 'no' is said by ann only; the corpus should have been larger."""
    said = ["no", "yes", "go"]
    items = [(n, said[n % 3], "ann" if n % 3 == 0 else ("bob", "cid")[n % 2]) for n in range(30)]
    counts = {"found": {"files": 31, "words": 3}, "published": {"files": 40, "words": 3}}
    card = CARD | {"dropped": {"no label": 1}, "published_clips": counts}
    folder = tmp_path_factory.mktemp("odd")
    return build(folder / "odd", items, _convert, card=card, factors=["word", "speaker", "room"], workers=0)


def test_everything_is_counted(odd):
    found = summary(odd, ("speaker", "word"))
    assert (found.clips, found.sources) == (30, 15)
    assert found.dropped == {"no label": 1, "silent": 2}
    assert found.counts["word"].to_dict() == {"go": 10, "no": 10, "yes": 10}
    assert found.counts["room"].tolist() == [5, 5, 4, 4, 4, 4, 4] and found.counts["room"].index.tolist()[:2] == [0, 1]
    assert found.factors.loc["room"].tolist() == [7, 4, 5, "0"]
    for speaker in ("ann", "bob", "cid"):
        for word in ("no", "yes", "go"):
            want = sum(
                s == speaker and w == word for s, w in zip(odd.labels("speaker"), odd.labels("word"), strict=True)
            )
            assert found.cross.loc[speaker, word] == want
    assert found.association == cramers_v(odd.labels("speaker"), odd.labels("word"))
    assert found.associations.loc["room", "word"] == cramers_v(odd.labels("word"), odd.labels("room")).corrected
    assert found.published.loc["files"].tolist() == [31, 40, -9] and found.published.loc["words"].tolist() == [3, 3, 0]


def test_durations_are_numpys(odd):
    found, seconds = summary(odd).durations, 0.1 * np.arange(1, 31)
    assert found["shortest"] == pytest.approx(0.1) and found["longest"] == pytest.approx(3.0)
    assert found["median"] == pytest.approx(np.median(seconds)) and found["95 %"] == pytest.approx(
        np.quantile(seconds, 0.95)
    )
    assert found["total"] == pytest.approx(seconds.sum())


@pytest.mark.parametrize(
    ("cross", "message"),
    [
        (("word", "speker"), "unknown factor 'speker'; nearest: 'speaker'"),
        (
            ("word", "word"),
            r"two different factors are crossed, found \['word', 'word'\]; allowed: word, speaker, room",
        ),
        (("word",), r"two different factors are crossed, found \['word'\]"),
    ],
)
def test_a_wrong_crossing_is_refused(odd, cross, message):
    with pytest.raises(AtlabError, match=message):
        summary(odd, cross)


def test_a_set_of_one_factor_has_no_crossing(tmp_path):
    def one(n):
        return [Clip(np.zeros((1, 4, 4), np.uint8), {"id": str(n), "source": str(n), "duration": 0.0, "class": n % 2})]

    found = summary(
        build(tmp_path / "one", range(4), one, card=CARD | {"sample_rate": None}, factors=["class"], workers=0)
    )
    assert found.cross is None and found.association is None and found.durations is None and not len(found.published)


def test_a_factor_with_a_value_a_clip_keeps_its_table_small(tmp_path):
    def many(n):
        rows = (
            {"id": f"{n}-{k}", "source": f"{n}-{k}", "duration": 0.1, "take": f"{n}-{k}", "half": k % 2}
            for k in range(300)
        )
        return [Clip(np.zeros(2, np.int16), row) for row in rows]

    fs = build(tmp_path / "many", range(4), many, card=CARD, factors=["take", "half"], workers=0)
    table = crossing(fs, "take", "half")
    assert table.shape == (MOST, 2) and table.to_numpy().sum() == MOST
    assert summary(fs).association.plain == pytest.approx(1)


def test_leaks_show_in_the_table_of_a_split(odd):
    apart = split_table(odd, splits.random(odd), ["speaker"])
    assert apart["clips"].sum() == 30 and apart["source also in training"].tolist() == [apart["source"].iloc[0], 0, 0]
    by_clip = Split(np.arange(0, 30, 2), np.arange(1, 30, 4), np.arange(3, 30, 4))
    leaking = split_table(odd, by_clip, ["speaker"])
    assert leaking["source also in training"].tolist() == [15, 8, 7]
    speakers = [set(odd.labels("speaker", rows)) for rows in (by_clip.train, by_clip.validation, by_clip.test)]
    assert leaking["speaker"].tolist() == [len(found) for found in speakers]
    assert leaking["speaker also in training"].tolist() == [len(found & speakers[0]) for found in speakers]
    with pytest.raises(AtlabError, match="unknown factor 'speker'"):
        split_table(odd, by_clip, ["speker"])


def test_views_are_summed_up_too(tmp_path):
    noisy = atlab.data.Noisy(atlab.data.toy(tmp_path / "toy"), snr_db=(0, 10))
    assert sum(summary(noisy).counts["noise"]) == 80 and "noise" in summary(noisy, ("word", "noise")).cross.columns.name
