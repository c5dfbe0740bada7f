"""Splits: how clips are dealt to the parts; disjoint by construction, seeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atlab.data.confounding import confound, deal_sources, even_sample, pair, shares
from atlab.data.factorset import row_numbers
from atlab.data.parts import PARTS, Split, column
from atlab.errors import AtlabError, unknown

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

FRACTIONS = (0.7, 0.2, 0.1)
SPLITS = ("random", "disjoint", "confounded", "official")
OFFICIAL_VALIDATION = 0.1  # of the official training clips, where the card does not say otherwise


@dataclass(frozen=True)
class SplitSpec:
    """How a data set is to be split; `make` gives the parts.

    Attributes:
        kind: "random" by source file, "disjoint" in the factor `by`, "confounded" with it, or "official": the data set's own
            test clips, and a tenth of the others to validate.
        by: the factor of a disjoint or confounded split.
        pairing: share of training clips whose value of `by` is the one paired with their class (confounded).
        held_out: values of `by` kept for the test (disjoint); drawn if there are none.
        seed: of every draw.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy")
    >>> spec = SplitSpec("disjoint", by="speaker", held_out=("speaker1",))
    >>> set(fs.labels("speaker", spec.make(fs, "word").test))
    {'speaker1'}
    """

    kind: str = "random"
    by: str = ""
    pairing: float = 0.9
    held_out: tuple[str, ...] = ()
    seed: int = 0

    def check(self) -> None:
        """AtlabError for an unknown kind, and for a value that this kind would ignore."""
        if self.kind not in SPLITS:
            raise unknown("split", self.kind, SPLITS)
        if self.held_out and self.kind != "disjoint":
            raise AtlabError(
                f"held_out is {list(self.held_out)}, but only a disjoint split holds values out; split is {self.kind!r}"
            )
        if self.kind != "confounded" and self.pairing != SplitSpec.pairing:
            raise AtlabError(
                f"pairing is {self.pairing}, but only a confounded split pairs factors; split is {self.kind!r}"
            )

    def make(self, fs, target: str) -> Split:
        """The parts; `target` matters to a confounded split only. Use `Split.check` for what training would refuse."""
        if self.kind not in SPLITS:
            raise unknown("split", self.kind, SPLITS)
        if self.kind == "random":
            return random(fs, seed=self.seed)
        if self.kind == "disjoint":
            return disjoint(fs, self.by, seed=self.seed, test=self.held_out or None)
        if self.kind == "confounded":
            return confounded(fs, target, self.by, p=self.pairing, seed=self.seed)
        return official(fs, seed=self.seed)


def random(fs, fractions: Sequence[float] = FRACTIONS, seed: int = 0, rows: np.ndarray | None = None) -> Split:
    """Random by source file: clips cut from one recording stay on one side.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy")
    >>> split = random(fs, seed=1)
    >>> len(split.train), len(split.validation), len(split.test)
    (56, 16, 8)
    """
    return _by_group(fs, "source", fractions, seed, rows, {"split": "random"})


def disjoint(
    fs,
    by: str,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    rows: np.ndarray | None = None,
    test: Sequence | None = None,
) -> Split:
    """No value of the factor `by` (speaker, session, instrument) on two sides.

    Args:
        test: values that make up the test part; drawn by `fractions` if None. With too few other values to
            give validation some of its own, training and validation share them (by source file), the test
            does not.

    Raises:
        AtlabError: unknown factor; unknown value in `test`; fewer than two values.
    """
    _check_fractions(fractions)
    test = [test] if isinstance(test, str) else test
    all_values = column(fs, by)
    rows = _rows(fs, rows)
    values = sorted(set(all_values[rows].tolist()))
    how = {"split": "disjoint", "by": by, "test": list(test) if test is not None else None}
    if test is None:
        return _by_group(fs, by, fractions, seed, rows, how)
    held = _match(test, values, by)
    chosen = np.isin(all_values, held)
    rest, total = rows[~chosen[rows]], fractions[0] + fractions[1]
    inner = (fractions[0] / total, fractions[1] / total, 0.0)
    group = by if len(values) - len(held) >= 4 else "source"
    parts = _by_group(fs, group, inner, seed, rest, how)
    return Split(parts.train, parts.validation, np.sort(rows[chosen[rows]]), parts.how)


def confounded(
    fs,
    target: str,
    orthogonal: str,
    p: float = 0.95,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    clips: int | None = None,
) -> Split:
    """Target class and orthogonal value coincide with probability p in training, not in the test.

    Each target class is paired with orthogonal values of its own (or, if there are fewer of these, with one
    that it shares). The test part is drawn evenly from all pairs of values that have clips (`how["empty pairs"]`
    counts the others: with any, target and orthogonal factor are not quite independent in the test). Of the
    other clips, training and validation take as many as a share p of paired ones allows, equally many per class.

    Args:
        p: share of paired clips in training and validation, 0 to 1; `how["pairs"]` tells who is paired with
            whom.
        clips: training and validation clips in total; as many as there are if None.

    Raises:
        AtlabError: p outside 0..1, unknown factors, fewer clips than asked for.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy", words=3, speakers=6, repetitions=10)
    >>> split = confounded(fs, "word", "speaker", p=0.9)
    >>> split.how["pairs"]
    {'word0': ['speaker1', 'speaker5'], 'word1': ['speaker2', 'speaker4'], 'word2': ['speaker0', 'speaker3']}
    >>> for word, speaker in split.how["pairs"].items():
    ...     spoken_by = fs.factors.iloc[split.train].query("word == @word").speaker
    ...     print(word, f"{spoken_by.isin(speaker).mean():.2f}")
    word0 0.88
    word1 0.88
    word2 0.88
    """
    if not 0 <= p <= 1:
        raise AtlabError(f"p must be a share between 0 and 1, got {p}")
    _check_fractions(fractions)
    if target == orthogonal:
        raise AtlabError(f"target and orthogonal factor are both {target!r}; they must differ")
    rng = np.random.default_rng([seed, 2])
    target_values, orthogonal_values = fs.labels(target), fs.labels(orthogonal)
    classes = fs.classes(target)
    pairing = pair(classes, fs.classes(orthogonal), rng)
    test = even_sample([target_values, orthogonal_values], fractions[2], rng)
    sources = column(fs, "source")
    left = np.flatnonzero(~np.isin(sources, sources[test]))
    is_paired = np.array([o in pairing[t] for t, o in zip(target_values, orthogonal_values, strict=True)], dtype=bool)
    cells = [[left[(target_values[left] == c) & (is_paired[left] == kind)] for kind in (True, False)] for c in classes]
    share = fractions[1] / (fractions[0] + fractions[1])
    to_validate = deal_sources([rows for cell in cells for rows in cell], sources, share, rng)
    wanted = (None, None) if clips is None else shares(clips // len(classes), share)
    parts = []
    for validating, a_class in zip((False, True), wanted, strict=True):
        pools = [[rng.permutation(rows[to_validate[rows] == validating]) for rows in cell] for cell in cells]
        parts.append(confound(pools, p, a_class))
    how = {
        **{"split": "confounded", "target": target, "orthogonal": orthogonal, "p": p, "seed": seed},
        **{"fractions": list(fractions), "clips": clips},
        "pairs": {str(c): sorted(map(str, pairing[c])) for c in classes},
        "empty pairs": len(classes) * len(fs.classes(orthogonal))
        - len(set(zip(target_values.tolist(), orthogonal_values.tolist(), strict=True))),
    }
    return Split(parts[0], parts[1], np.sort(test), how)


def for_teacher(
    fs, split: Split, seed: int = 0, fractions: Sequence[float] = FRACTIONS, clips: int | None = None
) -> Split:
    """A random split for an orthogonal network, of clips whose source is not in the target's test part.

    All of them, or `clips` drawn at random.
    """
    sources = column(fs, "source")
    allowed = np.flatnonzero(~np.isin(sources, sources[split.test]))
    if clips is not None and clips < len(allowed):
        allowed = np.sort(np.random.default_rng([seed, 3]).choice(allowed, clips, replace=False))
    made = random(fs, fractions, seed, allowed)
    return Split(made.train, made.validation, made.test, made.how | {"without the test clips of": split.how})


def cut(split: Split, clips: int, seed: int = 0) -> Split:
    """At most `clips` training clips, drawn at random; validation in the same proportion, at most `clips` for the test.

    >>> whole = Split(np.arange(70), np.arange(70, 90), np.arange(90, 100))
    >>> small = cut(whole, 35)
    >>> len(small.train), len(small.validation), len(small.test)
    (35, 10, 10)
    """
    if clips < 1:
        raise AtlabError(f"expected at least 1 training clip to cut a split to, got {clips}")
    share = min(1.0, clips / max(1, len(split.train)))
    sizes = round(share * len(split.train)), max(1, round(share * len(split.validation))), min(clips, len(split.test))
    rng = np.random.default_rng([seed, 7])
    parts = [np.sort(rng.permutation(getattr(split, part))[:size]) for part, size in zip(PARTS, sizes, strict=True)]
    return Split(*parts, split.how | {"cut to clips": clips}, np.setdiff1d(split.whole_test, parts[2]))


def known(split: Split, fs, target: str) -> Split:
    """The split without validation and test clips of classes that training never saw, such as a speaker with one clip.

    For random splits, where chance alone decides which part gets a rare class; `how["of unseen classes"]` counts the clips
    that were left out. Where that would be all clips of a part, the split stays as it is.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy", words=2, speakers=2, repetitions=2)
    >>> fs.labels("speaker").tolist()
    ['speaker0', 'speaker0', 'speaker1', 'speaker1', 'speaker0', 'speaker0', 'speaker1', 'speaker1']
    >>> known(Split(np.array([0, 1]), np.array([2, 4]), np.array([5])), fs, "speaker").validation
    array([4])
    """
    labels = fs.labels(target)
    parts = [rows[np.isin(labels[rows], labels[split.train])] for rows in (split.validation, split.test)]
    left_out = len(split.validation) + len(split.test) - sum(map(len, parts))
    if not left_out or not all(map(len, parts)):
        return split
    return Split(split.train, *parts, split.how | {"of unseen classes": left_out}, split.spare)


def _by_group(fs, by: str, fractions: Sequence[float], seed: int, rows: np.ndarray | None, how: dict) -> Split:
    """Deal whole groups to the parts, so that each part's share of the groups is its fraction."""
    _check_fractions(fractions)
    rows = _rows(fs, rows)
    values = column(fs, by)[rows]
    groups, inverse = np.unique(values.astype(str), return_inverse=True)
    wanted = [part for part, share in zip(PARTS, fractions, strict=True) if share > 0]
    if len(groups) < len(wanted):
        raise AtlabError(f"{len(groups)} values of {by!r} cannot be dealt to {len(wanted)} parts: {groups.tolist()}")
    order = np.random.default_rng([seed, 1]).permutation(len(groups))
    ends = np.round(np.cumsum(fractions) * len(groups)).astype(int)
    # Every part that was asked for has at least one group, however few there are.
    ends[0] = min(max(ends[0], 1), len(groups) - len(wanted) + 1)
    if len(wanted) == 3:
        ends[1] = min(max(ends[1], ends[0] + 1), len(groups) - 1)
    elif fractions[1] == 0:
        ends[1] = ends[0]
    part_of = np.empty(len(groups), dtype=int)
    for number, part in enumerate(np.split(order, ends[:2])):
        part_of[part] = number
    return Split(
        *(np.sort(rows[part_of[inverse] == number]) for number in range(3)),
        {**how, "seed": seed, "fractions": list(fractions)},
    )


def _check_fractions(fractions: Sequence[float]) -> None:
    if len(fractions) != 3 or min(fractions) < 0 or fractions[0] == 0 or abs(sum(fractions) - 1) > 1e-6:
        raise AtlabError(
            f"expected three fractions that sum to 1 (train, validation, test; train above 0), got {tuple(fractions)}"
        )


def check_values(fs, by: str, held_out: Sequence) -> None:
    """AtlabError unless these values of a factor can be held out for the test, and leave others to train on."""
    _match(held_out, sorted(set(column(fs, by).tolist())), by)


def _match(wanted: Sequence, values: list, factor: str) -> list:
    known = {str(value): value for value in values}
    for value in wanted:
        if str(value) not in known:
            raise unknown(f"value of {factor}", value, values)
    if not len(wanted):
        raise AtlabError(f"no value of {factor!r} is held out for the test; name at least one, or leave `test` out")
    if len(set(map(str, wanted))) >= len(values):
        raise AtlabError(f"all values of {factor!r} are held out for the test, none is left to train: {values}")
    return [known[str(value)] for value in wanted]


def _rows(fs, rows: np.ndarray | None) -> np.ndarray:
    """Sorted numbers of the rows that are split, each once: all of them if None."""
    return np.arange(len(fs)) if rows is None else np.unique(row_numbers(rows, len(fs)))


def official(fs: FactorSet, seed: int = 0) -> Split:
    """The data set's own split (column "official").

    Where it has no validation clips, or no test clips but validation clips, a share of the others is drawn to validate
    (`hold_out`): the card's `official_validation`, or a tenth. AtlabError for a data set without a split of its own.
    """
    if "official" not in fs.factors.columns:
        raise AtlabError(
            f"{fs.card['name']} has no official split (no column 'official'); choose another split: {', '.join(SPLITS[:3])}"
        )
    parts = fs.factors["official"].to_numpy()
    if {"validation", "test"} <= set(parts.tolist()):
        return Split(*(np.flatnonzero(parts == part) for part in PARTS), how={"split": "official"})
    training = int((~np.isin(parts, PARTS[1:])).sum())
    share = fs.card.get("official_validation", OFFICIAL_VALIDATION)
    return hold_out(fs, max(1, round(share * training)), seed)


def hold_out(fs: FactorSet, validation: int, seed: int = 0) -> Split:
    """The official test images to test; of the others `validation` drawn at random, the rest to train.

    Where a set has no test images (ImageNet), its official validation images are the test part.
    Raises AtlabError if that leaves no training image.
    """
    official = fs.factors["official"].to_numpy()
    tested = "test" if (official == "test").any() else "validation"
    pool = np.flatnonzero(official != tested)
    if not 0 < validation < len(pool):
        raise AtlabError(f"{validation:,} validation images cannot be held out of {len(pool):,} training images")
    drawn = np.random.default_rng(seed).permutation(len(pool))
    return Split(
        train=np.sort(pool[drawn[validation:]]),
        validation=np.sort(pool[drawn[:validation]]),
        test=np.flatnonzero(official == tested),
        how={"split": "hold_out", "validation": validation, "seed": seed},
    )
