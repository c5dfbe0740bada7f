"""Use: does the prediction change when only a factor changes? Counterfactual consistency on matched pairs of clips.

A clip and another that agrees in all kept factors (the same word and emotion) but not in the varied one (another
speaker) should get the same prediction (Kusner et al. 2017, "Counterfactual fairness"; Garg et al. 2019). Two recordings
differ even if no factor does, so the same is measured between repetitions of one speaker: what is above that is use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from atlab.errors import AtlabError, unknown
from atlab.stats.resampling import percentiles, resamples

MEASURES = ("changed", "change", "divergence")
KINDS = ("counterfactual", "repetition")
SMALLEST = 1e-12  # probabilities below it count as it: no single clip decides a mean of logarithms


def pairs(
    factors: pd.DataFrame,
    vary: str,
    keep: Sequence[str],
    features: np.ndarray | None = None,
    *,
    partners: int | None = None,
    caliper: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Pairs of clips that agree in `keep` and differ in `vary`, and pairs that agree in both.

    Clips with equal values of all kept factors are a matched set. In a set, every two values of the varied factor are
    paired: the r-th clip of one with the r-th clip of the other, as far as both go, so every two values count the same in
    sets with as many clips of each. A value's repetitions are paired in a circle, each with the next. The result depends on
    nothing but the order of the rows (and the seed, with `partners`).

    Args:
        factors: one row per clip [N].
        vary: column whose values are exchanged.
        keep: columns that must be equal; the target among them.
        features: numbers that say how alike two clips are [N, D] (duration, loudness, pitch), for data that were not
            recorded by design. Instead of the r-th, those clips are paired that make the sum of distances least
            (one to one). Distance: root mean square over features of the difference in standard deviations.
        partners: with very many values, pair each with only this many following ones, in a circle drawn by `seed`.
        caliper: leave out pairs with a greater distance.

    Returns columns: a, b (row numbers), set (number of the matched set), kind ("counterfactual" or "repetition"), values (of
        a and b), and distance if features were given.

    Raises:
        AtlabError: unknown columns, nothing kept, a factor that is kept and varied, features of other clips, no pair.

    >>> clips = pd.DataFrame({"word": list("yyyynnnn"), "speaker": list("aabbaabb")})
    >>> pairs(clips, "speaker", ["word"])[["a", "b", "set", "kind"]].values[:4].tolist()
    [[0, 2, 0, 'counterfactual'], [1, 3, 0, 'counterfactual'], [0, 1, 0, 'repetition'], [2, 3, 0, 'repetition']]
    """
    keep = [keep] if isinstance(keep, str) else list(keep)
    _check(factors, vary, keep, features, caliper)
    scaled = None if features is None else _scaled(np.asarray(features, float))
    values = pd.factorize(factors[vary])[0]
    circle = np.random.default_rng(seed).permutation(values.max() + 1) if partners else np.arange(values.max() + 1)
    sets = factors.groupby(keep, sort=False, observed=True).ngroup().to_numpy()
    found = []
    for number, rows in enumerate(_rows_of(sets)):
        by_value = [rows[values[rows] == v] for v in circle]
        by_value = [r for r in by_value if len(r)]
        for kind, one, other in _matches(by_value, partners):
            a, b = _match(one, other, scaled, kind)
            found.append((a, b, np.full(len(a), number), np.full(len(a), kind, dtype=object)))
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)] or [[]] * 4
    found = pd.DataFrame(dict(zip(("a", "b", "set", "kind"), columns, strict=True)))
    if scaled is not None and len(found):
        found["distance"] = np.sqrt(np.square(scaled[found["a"]] - scaled[found["b"]]).mean(1))
        found = found[found["distance"] <= caliper] if caliper is not None else found
    if not (found["kind"] == "counterfactual").any():
        raise AtlabError(f"no two clips agree in {', '.join(keep)} and differ in {vary}: there is no pair to compare")
    return found.sort_values(["set", "kind"], kind="stable").reset_index(drop=True)


def changes(probabilities: np.ndarray, codes: Sequence[int], pairs: pd.DataFrame) -> pd.DataFrame:
    """The change of the prediction in every pair: `pairs` with three more columns.

    changed: is another class predicted; change: absolute change of the log-probability of the true class (nats);
    divergence: mean of the two Kullback-Leibler divergences between the predictions (nats; half of Jeffreys' 1946).

    Args:
        probabilities: predicted [N, K], rows that sum to 1.
        codes: true class numbers [N].
        pairs: from `pairs`; AtlabError if the clips of a pair are not of one class.

    >>> p = np.array([[0.8, 0.2], [0.4, 0.6]])
    >>> changes(p, [0, 0], pd.DataFrame({"a": [0], "b": [1]}))[["changed", "change"]].round(3).values.tolist()
    [[True, 0.693]]
    """
    p, codes = np.asarray(probabilities, float), np.asarray(codes)
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    if p.ndim != 2 or len(p) != len(codes) or not np.allclose(p.sum(1), 1, atol=1e-3) or (p < 0).any():
        raise AtlabError(
            f"expected probabilities [N, K] that sum to 1 and N class numbers, got {p.shape} and {codes.shape}"
        )
    if max(a.max(), b.max()) >= len(p):
        raise AtlabError(f"the pairs are of {max(a.max(), b.max()) + 1} clips or more, the probabilities of {len(p)}")
    if (codes[a] != codes[b]).any():
        raise AtlabError("the clips of a pair must be of one class: the target belongs to the factors that are kept")
    logs, best = np.log(np.maximum(p, SMALLEST)), p.argmax(1)
    return pairs.assign(
        changed=best[a] != best[b],
        change=np.abs(logs[a, codes[a]] - logs[b, codes[b]]),
        divergence=((p[a] - p[b]) * (logs[a] - logs[b])).sum(1) / 2,
    )


def consistency(
    probabilities: np.ndarray, codes: Sequence[int], pairs: pd.DataFrame, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """How much predictions depend on the varied factor, next to how much they vary anyway: a row per measure and kind.

    Direction: more is more use. Range: 0 to 1 (changed), 0 upwards (change, divergence; nats). "excess" is the counterfactual
    mean minus the mean between repetitions, over the sets that have both: 0 if the prediction does not depend on the varied
    factor, given the kept ones. Intervals: bootstrap over matched sets, whose number is `sets`; they say how the measure
    would vary with other sets (words, sentences) of these speakers, and assume that sets are independent.

    Args: as for `changes`.

    Returns columns: measure, kind ("counterfactual", and if there are repetitions "repetition" and "excess"), value, low,
        high, sets, pairs. One set only: low and high are nan.

    >>> clips = pd.DataFrame({"word": list("yyyynnnn"), "speaker": list("aabbaabb")})
    >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]] * 2)
    >>> table = consistency(p, [0] * 4 + [1] * 4, pairs(clips, "speaker", ["word"]))
    >>> table[table.measure == "changed"][["kind", "value", "sets", "pairs"]].values.tolist()
    [['counterfactual', 1.0, 2, 4], ['repetition', 0.0, 2, 4], ['excess', 1.0, 2, 8]]
    """
    table = changes(probabilities, codes, pairs)
    number = pd.factorize(table["set"])[0]
    totals = [_totals(table, number, kind) for kind in KINDS]
    both = totals[1][:, -1].astype(bool) & totals[0][:, -1].astype(bool)
    if both.all():
        kinds = {"counterfactual": [totals[0]], "repetition": [totals[1]], "excess": totals}
        rows = _summary(kinds, level, seed)
    else:
        rows = _summary({"counterfactual": [totals[0][totals[0][:, -1] > 0]]}, level, seed)
        if both.any():
            rows += _summary({"repetition": [totals[1][totals[1][:, -1] > 0]]}, level, seed)
            rows += _summary({"excess": [total[both] for total in totals]}, level, seed)
    order = {measure: i for i, measure in enumerate(MEASURES)}
    return pd.DataFrame(sorted(rows, key=lambda row: order[row["measure"]]))


def _totals(table: pd.DataFrame, number: np.ndarray, kind: str) -> np.ndarray:
    """Sums of the measures and number of pairs, by set [sets, measures + 1]."""
    of_kind, sets = (table["kind"] == kind).to_numpy(), number.max() + 1
    columns = [*(table[measure].to_numpy(float) for measure in MEASURES), np.ones(len(table))]
    return np.stack([np.bincount(number[of_kind], column[of_kind], sets) for column in columns], 1)


def _summary(kinds: dict[str, list[np.ndarray]], level: float, seed: int) -> list[dict]:
    """Means over pairs (of the first totals minus those of the second, if there are two) and their intervals.

    All totals are of the same sets, resampled together.
    """

    def values(weights: np.ndarray) -> np.ndarray:
        means = {id(t): (weights @ t) for totals in kinds.values() for t in totals}
        means = {key: sums[..., :-1] / sums[..., -1:] for key, sums in means.items()}
        return np.stack([means[id(t[0])] - (means[id(t[1])] if t[1:] else 0) for t in kinds.values()], -2)

    sets = len(next(iter(kinds.values()))[0])
    value = values(np.ones(sets))
    low = high = np.full_like(value, np.nan)
    if sets > 1:
        low, high = percentiles(np.concatenate([values(w) for w in resamples(sets, seed)]), sets, level)
    return [
        {
            "measure": measure,
            "kind": kind,
            "value": value[k, m],
            "low": low[k, m],
            "high": high[k, m],
            "sets": sets,
            "pairs": int(sum(total[:, -1].sum() for total in totals)),
        }
        for k, (kind, totals) in enumerate(kinds.items())
        for m, measure in enumerate(MEASURES)
    ]


def _matches(by_value: list[np.ndarray], partners: int | None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    count = len(by_value)
    for i, one in enumerate(by_value):
        for step in range(1, min(partners or count, count // 2) + 1):
            j = (i + step) % count
            if 2 * step < count or i < j:  # of two that face each other in the circle, once
                yield "counterfactual", one, by_value[j]
    for one in by_value:
        if len(one) > 1:
            yield "repetition", one, one


def _match(one: np.ndarray, other: np.ndarray, scaled: np.ndarray | None, kind: str) -> tuple[np.ndarray, np.ndarray]:
    if scaled is None and kind == "repetition":
        return (one, np.roll(one, -1)) if len(one) > 2 else (one[:1], one[1:])
    if scaled is None:
        count = min(len(one), len(other))
        return one[:count], other[:count]
    distance = np.square(scaled[one][:, None] - scaled[other]).mean(-1)
    if kind == "repetition":
        np.fill_diagonal(distance, distance.max() * len(one) + 1)
    i, j = linear_sum_assignment(distance)
    if kind == "repetition":  # two clips that have each other are one pair
        i, j = np.unique(np.sort(np.stack([i, j], 1), 1), axis=0).T
    return one[i], other[j]


def _rows_of(sets: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(sets, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(sets[order])) + 1)


def _scaled(features: np.ndarray) -> np.ndarray:
    spread = features.std(0)
    return features / np.where(spread > 0, spread, 1)


def _check(factors: pd.DataFrame, vary: str, keep: list[str], features, caliper) -> None:
    for name in (vary, *keep):
        if name not in factors.columns:
            raise unknown("factor", name, list(factors.columns))
        if factors[name].isna().any():
            raise AtlabError(f"{int(factors[name].isna().sum())} clips have no value of {name!r}; leave them out first")
    if not keep or vary in keep:
        raise AtlabError(f"expected at least one factor to keep and another to vary, found keep={keep}, vary={vary!r}")
    if features is None and caliper is not None:
        raise AtlabError("a caliper is a distance between features; give features with it")
    if features is not None and (
        np.ndim(features) != 2 or len(features) != len(factors) or not np.isfinite(features).all()
    ):
        raise AtlabError(
            f"expected finite features [{len(factors)}, D] of the same clips, found shape {np.shape(features)}"
        )
