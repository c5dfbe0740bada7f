"""Splits: which clips train, validate and test; disjoint by construction, seeded, stored by clip id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from atlab.errors import AtlabError, unknown
from atlab.files import write_atomic

FRACTIONS = (0.7, 0.2, 0.1)
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Sorted row numbers of the three parts, int64, and how they were made."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    how: dict = field(default_factory=dict)

    def save(self, path: str | Path, fs) -> Path:
        """Write the parts by clip id, with the data set's content hash."""
        ids = fs.factors["id"].to_numpy()
        parts = {part: ids[getattr(self, part)].tolist() for part in PARTS}
        return write_atomic(path, json.dumps({"data": fs.content_hash, "how": self.how, **parts}) + "\n")

    @classmethod
    def load(cls, path: str | Path, fs) -> Split:
        """Read a stored split; AtlabError if it was made for other data."""
        stored = json.loads(Path(path).read_text())
        if stored["data"] != fs.content_hash:
            raise AtlabError(f"{path} splits another data set (content hash {stored['data'][:12]}, this one has {fs.content_hash[:12]})")
        row = {clip: number for number, clip in enumerate(fs.factors["id"])}
        return cls(*(np.array([row[clip] for clip in stored[part]], dtype=np.int64) for part in PARTS), stored["how"])

    def check(self, fs, target: str) -> None:
        """AtlabError for an empty part, a training part of one class, or a class that training never saw."""
        for part in PARTS:
            if not len(getattr(self, part)):
                raise AtlabError(f"the {part} part of the split is empty ({len(fs)} clips, {self.how})")
        seen = set(fs.labels(target, self.train).tolist())
        if len(seen) < 2:
            raise AtlabError(f"the training part has a single class of {target!r}: {next(iter(seen))!r}; a classifier needs two")
        for part in PARTS[1:]:
            strange = sorted(set(fs.labels(target, getattr(self, part)).tolist()) - seen, key=str)
            if strange:
                raise AtlabError(
                    f"the {part} part has classes of {target!r} that training never saw: {strange[:8]}; "
                    "a split that is disjoint in a factor cannot have that factor as its target"
                )


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
    fs, by: str, fractions: Sequence[float] = FRACTIONS, seed: int = 0, rows: np.ndarray | None = None, test: Sequence | None = None
) -> Split:
    """No value of the factor `by` (speaker, session, instrument) on two sides.

    Args:
        test: values that make up the test part; drawn by `fractions` if None. With too few other values to give
            validation some of its own, training and validation share them (by source file), the test does not.

    Raises:
        AtlabError: unknown factor; unknown value in `test`; fewer than two values.
    """
    values = sorted(set(fs.labels(by, rows).tolist()))
    how = {"split": "disjoint", "by": by, "test": list(test) if test else None}
    if test is None:
        return _by_group(fs, by, fractions, seed, rows, how)
    held = _match(test, values, by)
    chosen = np.isin(fs.labels(by), held)
    rows = np.arange(len(fs)) if rows is None else np.asarray(rows)
    rest, total = rows[~chosen[rows]], fractions[0] + fractions[1]
    inner = (fractions[0] / total, fractions[1] / total, 0.0)
    group = by if len(values) - len(held) >= 4 else "source"
    parts = _by_group(fs, group, inner, seed, rest, how)
    return Split(parts.train, parts.validation, np.sort(rows[chosen[rows]]), parts.how)


def confounded(
    fs, target: str, orthogonal: str, p: float = 0.95, seed: int = 0, fractions: Sequence[float] = FRACTIONS, clips: int | None = None
) -> Split:
    """Target class and orthogonal value coincide with probability p in training, and are independent in the test.

    Each target class is paired with orthogonal values of its own (or, if there are fewer of these, with one that
    it shares). The test part is drawn evenly from all pairs of values. Of the other clips, training and
    validation take as many as a share p of paired ones allows, equally many a class.

    Args:
        p: share of paired clips in training and validation, 0 to 1.
        clips: training and validation clips in total; as many as there are if None.

    Raises:
        AtlabError: p outside 0..1, unknown factors, fewer clips than asked for.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy", words=3, speakers=6, repetitions=10)
    >>> split = confounded(fs, "word", "speaker", p=0.9)
    >>> paired = fs.factors.iloc[split.train].groupby("word")["speaker"].agg(lambda s: s.value_counts(normalize=True).iloc[:2].sum())
    >>> paired.round(1).tolist()
    [0.9, 0.9, 0.9]
    """
    if not 0 <= p <= 1:
        raise AtlabError(f"p is a share between 0 and 1, found {p}")
    rng = np.random.default_rng([seed, 2])
    target_values, orthogonal_values = fs.labels(target), fs.labels(orthogonal)
    classes, others = fs.classes(target), fs.classes(orthogonal)
    pairing = _pair(classes, others, rng)
    test = _even_sample(fs, [target_values, orthogonal_values], fractions[2], rng)
    sources = _column(fs, "source")
    left = np.flatnonzero(~np.isin(sources, sources[test]))
    is_paired = np.array([o in pairing[t] for t, o in zip(target_values[left], orthogonal_values[left], strict=True)])
    pools = {c: (rng.permutation(left[is_paired & (target_values[left] == c)]),
                 rng.permutation(left[~is_paired & (target_values[left] == c)])) for c in classes}  # fmt: skip
    room = [min(len(pools[c][kind]) for c in classes) for kind in (0, 1)]
    validation_share = fractions[1] / (fractions[0] + fractions[1])

    def counts(a_class: int) -> list[list[int]]:
        """[paired, unpaired] clips of a class for training and for validation."""
        to_validate = round(validation_share * a_class)
        return [[round(p * n), n - round(p * n)] for n in (a_class - to_validate, to_validate)]

    def fits(a_class: int) -> bool:
        return all(sum(kind) <= most for kind, most in zip(zip(*counts(a_class), strict=True), room, strict=True))

    most = max((n for n in range(sum(room) + 1) if fits(n)), default=0)
    a_class = most if clips is None else clips // len(classes)
    if a_class > most or a_class < 1:
        raise AtlabError(f"{most * len(classes)} clips can be confounded with p = {p}, asked for {clips or 'any'}")
    parts = []
    for number, (paired, unpaired) in enumerate(counts(a_class)):
        skip = counts(a_class)[0] if number else [0, 0]
        parts.append([pool[s : s + n] for c in classes for pool, s, n in zip(pools[c], skip, (paired, unpaired), strict=True)])
    train, validation = parts
    how = {"split": "confounded", "target": target, "orthogonal": orthogonal, "p": p, "seed": seed, "clips": clips}
    return _apart(fs, Split(*(np.sort(np.concatenate(part)) for part in (train, validation)), np.sort(test), how))


def for_teacher(fs, split: Split, seed: int = 0, fractions: Sequence[float] = FRACTIONS) -> Split:
    """A random split for an orthogonal network, of all clips whose source is not in the target's test part."""
    sources = _column(fs, "source")
    allowed = np.flatnonzero(~np.isin(sources, sources[split.test]))
    made = random(fs, fractions, seed, allowed)
    return Split(made.train, made.validation, made.test, made.how | {"without the test clips of": split.how})


def _by_group(fs, by: str, fractions: Sequence[float], seed: int, rows: np.ndarray | None, how: dict) -> Split:
    """Deal whole groups to the parts, so that each part's share of the groups is its fraction."""
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise AtlabError(f"fractions are three shares that sum to 1 (train, validation, test), found {tuple(fractions)}")
    rows = np.arange(len(fs)) if rows is None else np.asarray(rows, dtype=np.int64)
    values = _column(fs, by)[rows]
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
    part_of = np.empty(len(groups), dtype=int)
    for number, part in enumerate(np.split(order, ends[:2])):
        part_of[part] = number
    return Split(*(np.sort(rows[part_of[inverse] == number]) for number in range(3)), {**how, "seed": seed, "fractions": list(fractions)})


def _match(wanted: Sequence, values: list, factor: str) -> list:
    known = {str(value): value for value in values}
    for value in wanted:
        if str(value) not in known:
            raise unknown(f"value of {factor}", value, values)
    if len(set(map(str, wanted))) >= len(values):
        raise AtlabError(f"all values of {factor!r} are held out for the test, none is left to train: {values}")
    return [known[str(value)] for value in wanted]


def _pair(classes: list, others: list, rng: np.random.Generator) -> dict:
    """Each class's own orthogonal values: dealt in turn, or one shared between classes if there are too few."""
    others = [others[i] for i in rng.permutation(len(others))]
    if len(others) < len(classes):
        return {c: {others[i % len(others)]} for i, c in enumerate(classes)}
    return {c: set(others[i :: len(classes)]) for i, c in enumerate(classes)}


def _even_sample(fs, factors: list[np.ndarray], fraction: float, rng: np.random.Generator) -> np.ndarray:
    """The same number of rows from every cell of the crossing: `fraction` of the smallest that is not empty, at least 1."""
    names = np.array([" x ".join(map(str, cell)) for cell in zip(*factors, strict=True)])
    cells = [rng.permutation(np.flatnonzero(names == cell)) for cell in np.unique(names)]
    count = max(1, round(fraction * min(map(len, cells))))
    return np.concatenate([cell[:count] for cell in cells])


def _apart(fs, split: Split) -> Split:
    """Sources of several clips could have been dealt to two sides: training gives way to validation."""
    sources = _column(fs, "source")
    keep = ~np.isin(sources[split.train], sources[split.validation])
    return Split(split.train[keep], split.validation, split.test, split.how)


def _column(fs, name: str) -> np.ndarray:
    return fs.factors["source"].to_numpy() if name == "source" else fs.labels(name)
