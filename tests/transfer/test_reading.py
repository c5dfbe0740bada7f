"""What a study says, against numbers that were put into it and naive loops over it."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from atlab import plots
from atlab.errors import AtlabError
from atlab.transfer import reading

LAYERS = (1, 4, 7)
# Points lost (-) or won against the base by treatment and n, which the made study must give back.
EFFECTS = {
    "BnB": {1: 0, 4: -6, 7: -1},
    "AnB": {1: 0, 4: -8, 7: -9},
    "BnB+": dict.fromkeys(LAYERS, 0.5),
    "AnB+": {1: 1.0, 4: 2.0, 7: 3.0},
    "random": {1: -5, 4: -20, 7: -40},
}


def study(seeds: int = 3, noise: float = 0.004) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for seed, half in itertools.product(range(seeds), "AB"):
        base = {"random": 0.70 + 0.02 * seed, "made": 0.65}

        def add(halves, treatment, n, points, seed=seed, half=half, base=base):
            accuracy = base[halves] + points / 100 + noise * rng.standard_normal() + (0.05 if half == "B" else 0)
            rows.append(
                {
                    "seed": seed,
                    "half": half,
                    "halves": halves,
                    "treatment": treatment,
                    "n": n,
                    "test_accuracy": accuracy,
                }
            )

        for halves in base:
            add(halves, "base", 0, 0)
        for treatment, n in itertools.product(EFFECTS, LAYERS):
            add("random", treatment, n, EFFECTS[treatment][n])
        for n in LAYERS:
            add("made", "BnB", n, -1)
            add("made", "AnB", n, -4 * n)
            accuracy = base["made"] + (EFFECTS["random"][n] - 2 + 0.1 * seed) / 100  # in every direction the same
            row = {
                "seed": seed,
                "half": half,
                "halves": "made",
                "treatment": "random",
                "n": n,
                "test_accuracy": accuracy,
            }
            rows.append(row)
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


@pytest.fixture(scope="module")
def table():
    return study()


def scores(table, halves, treatment, n) -> np.ndarray:
    """Mean of both directions by seed, by loops."""
    part = table[(table["halves"] == halves) & (table["treatment"] == treatment) & (table["n"] == n)]
    return np.array([part.loc[part["seed"] == seed, "test_accuracy"].mean() for seed in sorted(part["seed"].unique())])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    half = scipy_stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean(), values.mean() - half, values.mean() + half


def test_accuracy_by_layer_is_over_seeds_paired_with_the_base(table):
    found = reading.by_layer(table)
    assert len(found) == 2 + 5 * 3 + 3 * 3 and (found["units"] == 3).all()
    for _, row in found.iterrows():
        own = scores(table, row["halves"], row["treatment"], row["n"])
        assert (row["test"], row["low"], row["high"]) == pytest.approx(interval(own))
        if row["treatment"] != "base":
            apart = interval(own - scores(table, row["halves"], "base", 0))
            assert (row["difference"], row["d_low"], row["d_high"]) == pytest.approx(apart)


def test_the_drop_is_separated_into_its_causes(table):
    found = reading.drops(table).set_index(["halves", "n", "cause"])
    for (halves, n), (above, below, cause) in itertools.product(
        itertools.product(("random", "made"), LAYERS),
        [("base", "BnB", "co-adaptation"), ("BnB", "AnB", "specificity"), ("base", "AnB", "both")],
    ):
        a = scores(table, halves, above, 0 if above == "base" else n)
        row = found.loc[(halves, n, cause)]
        assert (row["drop"], row["low"], row["high"]) == pytest.approx(interval(a - scores(table, halves, below, n)))
    parts = found["drop"].unstack()
    assert np.allclose(parts["co-adaptation"] + parts["specificity"], parts["both"])
    assert found.loc[("random", 4, "co-adaptation"), "drop"] == pytest.approx(0.06, abs=0.01)
    assert found.loc[("random", 7, "specificity"), "drop"] == pytest.approx(0.08, abs=0.01)
    assert (found["p_holm"] >= found["p"]).all()


def test_table_1_stands_beside_the_papers(table):
    found = reading.boosts(table).set_index("layers")
    for layers, ns in (("1-7", (1, 4, 7)), ("3-7", (4, 7)), ("5-7", (7,))):
        mean = {t: np.mean([scores(table, "random", t, n).mean() for n in ns]) for t in ("AnB+", "BnB+")}
        assert found.loc[layers, "over_base_points"] == pytest.approx(
            100 * (mean["AnB+"] - scores(table, "random", "base", 0).mean())
        )
        assert found.loc[layers, "over_selffer_points"] == pytest.approx(100 * (mean["AnB+"] - mean["BnB+"]))
    assert found["paper_over_base"].tolist() == [1.6, 1.8, 2.1] and found["paper_over_selffer"].tolist() == [
        1.4,
        1.4,
        1.7,
    ]


def test_claims_are_decided_by_what_was_put_in(table):
    lines = reading.claims(table)
    words = [line.split(": **")[1].split("**")[0] for line in lines]
    assert len(lines) == 10 and words[0] == words[2] == words[3] == words[4] == words[7] == words[9] == "holds here"
    assert "here 28." in lines[9] or "here 27." in lines[9]
    above = np.mean([scores(table, "made", "AnB", n) - scores(table, "made", "random", n) for n in LAYERS], axis=0)
    mean, low, high = (100 * value for value in interval(above))
    assert "between dissimilar halves (made) is above random frozen layers" in lines[8] and words[8] == "holds here"
    assert f"({mean:+.1f} [{low:+.1f}, {high:+.1f}], 3 seeds)" in lines[8]
    without = table[(table["halves"] == "random") | (table["treatment"] != "random")]
    assert len(reading.claims(without)) == 9
    none = table.assign(test_accuracy=np.random.default_rng(5).normal(0.7, 0.02, len(table)))
    assert sum("not decided here" in line for line in reading.claims(none)) >= 6


def test_the_summary_names_layers(table):
    text = reading.summary(table)
    assert "Base networks: 74." in text and "62.5 %" in text
    assert "Random halves, specificity: a loss whose interval excludes zero at" in text and "n = 7 (8." in text
    assert (
        "specificity is the larger part at n = 7 of 1, 4, 7" in text
        or "specificity is the larger part at n = 1, 7 of 1, 4, 7" in text
    )


def test_the_summary_says_where_the_selffer_gains(table):
    better = table.copy()
    chosen = (better["treatment"] == "BnB") & (better["n"] == 4) & (better["halves"] == "random")
    better.loc[chosen, "test_accuracy"] += 0.2
    assert "Random halves, co-adaptation" in reading.summary(better) and "; a gain at n = 4." in reading.summary(better)
    assert "a gain" not in reading.summary(table)


def test_the_result_is_json_without_holes(table):
    import json

    stored = json.loads(json.dumps(reading.result(table), allow_nan=False))
    assert stored["by_layer"][0]["halves"] and len(stored["claims"]) == 10
    shown = reading.percent(reading.drops(table))
    assert shown["drop"].abs().max() > 1 and shown["p"].max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["treatment"] != "base"], "no run with treatment 'base'"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "1 runs differ in none of"),
        (lambda t: t.sort_values(["halves", "treatment", "n"]).iloc[1:], "AnB with n = 1 \\(made halves\\) lacks runs"),
    ],
)
def test_an_unfinished_study_is_refused(table, change, message):
    with pytest.raises(AtlabError, match=message):
        reading.by_unit(change(table))


def test_without_both_frozen_treatments_there_are_no_causes(table):
    with pytest.raises(AtlabError, match="where BnB and AnB were both run"):
        reading.drops(table[table["treatment"] != "BnB"])


def test_figure_2_shows_every_network_and_the_means(table):
    figure = plots.transfer_by_layer(table, reading.by_layer(table))
    points = {t.name: t for t in figure.data if t.yaxis == "y"}
    lines = {t.name: t for t in figure.data if t.yaxis == "y2"}
    assert len(points["transfer AnB"].y) == 3 * 2 * 3 and len(points["base"].y) == 6
    expected = [100 * scores(table, "random", "AnB+", n).mean() for n in LAYERS]
    assert list(lines["transfer AnB+, fine-tuned"].y) == pytest.approx(expected)
    assert "3 seeds" in figure.layout.annotations[1].text and "random layers" not in lines


def test_figure_3_is_less_the_base_level(table):
    figure = plots.degradation_by_layer(reading.by_layer(table), reading.by_target(table))
    lines = {t.name: t for t in figure.data}
    for name, halves in (("AnB, similar halves", "random"), ("AnB, dissimilar halves (made)", "made")):
        expected = [100 * (scores(table, halves, "AnB", n) - scores(table, halves, "base", 0)).mean() for n in LAYERS]
        assert list(lines[name].y) == pytest.approx(expected)
    assert list(lines["random layers, dissimilar halves (made)"].y) == pytest.approx(
        [100 * (scores(table, "made", "random", n) - scores(table, "made", "base", 0)).mean() for n in LAYERS]
    )
    part = table[(table["halves"] == "made") & (table["half"] == "B")]
    assert lines["target half B"].y[0] == pytest.approx(
        100 * part.loc[part["treatment"] == "base", "test_accuracy"].mean()
    )
    assert list(lines["target half B"].x) == [0, *LAYERS]


def test_drops_are_drawn_in_points(table):
    drops = reading.drops(table)
    figure = plots.drops_by_layer(drops)
    assert len(figure.data) == 4
    assert [a.text for a in figure.layout.annotations] == ["random halves", "dissimilar halves (made)"]
    bar = next(t for t in figure.data if t.name == "specificity" and t.xaxis == "x2")
    part = drops[(drops["halves"] == "made") & (drops["cause"] == "specificity")]
    assert list(bar.y) == pytest.approx(list(100 * part.sort_values("n")["drop"]))
