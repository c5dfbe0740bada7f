"""What is in a data set, in numbers: counts, two factors crossed, durations, drops, the parts of a split."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from atlab.errors import AtlabError, unknown

if TYPE_CHECKING:
    from atlab.data.parts import Split

MOST = 500  # values of a factor in a crossing table


class Association(NamedTuple):
    """Cramer's V of two factors, 0 (independent) to 1, plain and bias-corrected; nan where undefined."""

    plain: float
    corrected: float

    def __str__(self) -> str:
        if np.isnan(self.plain):
            return "undefined (a factor with a single class)"
        return f"{self.corrected:.2f} (plain {self.plain:.2f})"


@dataclass(frozen=True)
class Summary:
    """What `summary` found.

    Attributes:
        clips, sources: numbers of clips and of the recordings they were cut from.
        counts: per factor, clips of every value, most frequent first.
        cross: clips of every pair of values of two factors (`crossing`); None if there is one factor only.
        association: Cramer's V of these two factors.
        associations: bias-corrected Cramer's V of all pairs of factors.
        durations: shortest, 5 %, median, 95 %, longest and total duration in s; None for images.
        dropped: clips left out when the set was prepared, by reason.
        published: counts found and published, by what is counted; no rows if nothing was published.
    """

    clips: int
    sources: int
    counts: dict[str, pd.Series]
    cross: pd.DataFrame | None
    association: Association | None
    associations: pd.DataFrame
    durations: dict[str, float] | None
    dropped: dict[str, int]
    published: pd.DataFrame

    @property
    def factors(self) -> pd.DataFrame:
        """Per factor: number of classes, clips of the smallest and of the largest."""
        rows = {name: (len(c), int(c.iloc[-1]), int(c.iloc[0]), str(c.index[0])) for name, c in self.counts.items()}
        columns = ["classes", "clips of the smallest", "clips of the largest", "largest"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("factor")


def summary(fs, cross: Sequence[str] | None = None) -> Summary:
    """Counts, crossing and durations of a data set or a view of one.

    `cross` names two factors; the first two if None. Raises AtlabError for an unknown factor and for a
    `cross` that is not two different ones.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy", words=2, speakers=3, repetitions=4)
    >>> found = summary(fs, cross=("word", "speaker"))
    >>> found.clips, found.durations["median"], found.association.corrected
    (24, 0.25, 0.0)
    >>> found.cross.loc["word1"].to_dict()
    {'speaker0': 4, 'speaker1': 4, 'speaker2': 4}
    """
    names = fs.factor_names
    pair = _pair(names, cross)
    table = crossing(fs, *pair) if pair else None
    strengths = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    for one, other in itertools.combinations(names, 2):
        strength = cramers_v(fs.labels(one), fs.labels(other)).corrected
        strengths.loc[one, other] = strengths.loc[other, one] = strength
    return Summary(
        len(fs),
        fs.factors["source"].nunique(),
        {name: _counts(fs, name) for name in names},
        table,
        cramers_v(fs.labels(pair[0]), fs.labels(pair[1])) if pair else None,
        strengths,
        _durations(fs.factors["duration"].to_numpy()) if fs.kind == "audio" else None,
        dict(fs.card.get("dropped") or {}),
        _published(fs.card.get("published_clips") or {}),
    )


def crossing(fs, one: str, other: str) -> pd.DataFrame:
    """Number of clips with each pair of values of two factors.

    The values are sorted; of each factor there are the 500 most frequent. AtlabError for an unknown factor.

    >>> import atlab, tempfile
    >>> crossing(atlab.data.toy(tempfile.mkdtemp() + "/toy", words=2, repetitions=3), "word", "speaker").shape
    (2, 4)
    """
    rows, columns = (sorted(_counts(fs, factor).index[:MOST]) for factor in (one, other))
    row, column = fs.codes(one, rows), fs.codes(other, columns)
    cell = (row * len(columns) + column)[(row >= 0) & (column >= 0)]
    counts = np.bincount(cell, minlength=len(rows) * len(columns)).reshape(len(rows), len(columns))
    return pd.DataFrame(counts, pd.Index(rows, name=one), pd.Index(columns, name=other))


def cramers_v(one: Sequence | np.ndarray, other: Sequence | np.ndarray) -> Association:
    """Cramer's V of two labels of the same clips, [N] and [N]: how well one predicts the other.

    Plain (Cramer 1946, Mathematical Methods of Statistics, p. 282) it is above 0 for independent factors too,
    by chance, the more so the fewer clips a pair of values has. The square of the bias-corrected one (Bergsma
    2013, J. Korean Statistical Society 42, 323-328) is 0 there on average, before negative values are set
    to 0.

    >>> words = ["no", "no", "yes", "yes"] * 5
    >>> print(cramers_v(words, [0, 0, 1, 1] * 5))
    1.00 (plain 1.00)
    >>> print(cramers_v(words, [0, 1, 0, 1] * 5))
    0.00 (plain 0.00)
    """
    rows, columns = (pd.factorize(np.asarray(labels))[0] for labels in (one, other))
    in_row, in_column = np.bincount(rows), np.bincount(columns)
    n, r, k = len(rows), len(in_row), len(in_column)
    if min(r, k) < 2:
        return Association(float("nan"), float("nan"))
    # Only pairs that occur are counted: a table of 50,000 x 50,000 values would not fit into memory.
    pairs, count = np.unique(rows.astype(np.int64) * k + columns, return_counts=True)
    phi2 = max(0.0, float((count**2 / (in_row[pairs // k] * in_column[pairs % k])).sum()) - 1)
    corrected = max(0.0, phi2 - (r - 1) * (k - 1) / (n - 1))
    smallest = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    # With a class for every clip nothing is left to correct.
    bounded = min(1.0, (corrected / smallest) ** 0.5) if smallest > 1e-9 else float("nan")
    return Association((phi2 / (min(r, k) - 1)) ** 0.5, bounded)


def split_table(fs, split: Split, factors: Sequence[str] = ()) -> pd.DataFrame:
    """Clips, sources and values of factors in every part of a split, and how many of these training has too.

    "source also in training" must be 0 outside training, and so is "speaker also in training" on a split
    that is disjoint by speaker. Raises AtlabError for an unknown factor.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy")
    >>> split_table(fs, atlab.data.splits.disjoint(fs, "speaker"), ["speaker"]).iloc[2].to_dict()
    {'clips': 20, 'source': 20, 'source also in training': 0, 'speaker': 1, 'speaker also in training': 0}
    """
    columns = {"source": fs.factors["source"].to_numpy(), **{name: fs.labels(name) for name in factors}}
    parts = {part: getattr(split, part) for part in ("train", "validation", "test")}
    table = pd.DataFrame({"clips": {part: len(rows) for part, rows in parts.items()}}).rename_axis("part")
    for name, values in columns.items():
        found = {part: set(values[rows].tolist()) for part, rows in parts.items()}
        table[name] = [len(found[part]) for part in parts]
        table[f"{name} also in training"] = [len(found[part] & found["train"]) for part in parts]
    return table


def _pair(names: list[str], cross: Sequence[str] | None) -> tuple[str, str] | None:
    if cross is None:
        return (names[0], names[1]) if len(names) > 1 else None
    for name in cross:
        if name not in names:
            raise unknown("factor", name, names)
    if len(cross) != 2 or cross[0] == cross[1]:
        raise AtlabError(f"two different factors are crossed, found {list(cross)}; allowed: {', '.join(names)}")
    return cross[0], cross[1]


def _counts(fs, factor: str) -> pd.Series:
    """Clips of every value, most frequent first, equally frequent ones in the order of their values."""
    return fs.factors[factor].value_counts().sort_index().sort_values(ascending=False, kind="stable")


def _durations(seconds: np.ndarray) -> dict[str, float]:
    names = ("shortest", "5 %", "median", "95 %", "longest")
    found = np.quantile(seconds, [0, 0.05, 0.5, 0.95, 1])
    return dict(zip(names, found.tolist(), strict=True)) | {"total": float(seconds.sum())}


def _published(counts: dict) -> pd.DataFrame:
    """The card's comparison with the corpus's published counts as a table."""
    found, published = counts.get("found", {}), counts.get("published", {})
    rows = {name: (int(found.get(name, 0)), int(number)) for name, number in published.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["found", "published"])
    return table.assign(difference=table["found"] - table["published"]).astype(int)
