"""Tasks against tasks: the matrix, its asymmetry, the scatter against anti-transfer's gain, against loops and scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from atlab import plots
from atlab.errors import AtlabError
from atlab.runs import grid
from atlab.transfer import relatedness

TASKS = {"word": "emotion", "emotion": "word"}
SAME = {"data": "speech", "split": "disjoint", "width": 0.125}


def transfer_table() -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for seed in range(3):
        for target, base in TASKS.items():
            scratch = {**SAME, "seed": seed, "target": target, "base": base, "treatment": "base", "n": 0}
            rows.append(scratch | {"test_accuracy": 0.6 + 0.02 * rng.standard_normal()})
            for n in (1, 5):
                for treatment, lost in (("AnB", 0.02 * n if target == "word" else 0.01), ("BnB", -0.1)):
                    row = scratch | {"treatment": treatment, "n": n}
                    rows.append(row | {"test_accuracy": 0.6 - lost + 0.01 * rng.standard_normal()})
    return pd.DataFrame(rows)


def at_table(target: str, orthogonal: str, gain: dict[str, float]) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    form = {**SAME, **relatedness.FORM, "target": target, "orthogonal": orthogonal}
    rows = []
    for seed in range(4):
        base = 0.5 + 0.01 * rng.standard_normal()
        rows.append(form | {"strategy": "baseline", "layers": "conv5", "seed": seed, "test_accuracy": base})
        for layer, points in gain.items():
            rows.append(form | {"layers": layer, "seed": seed, "test_accuracy": base + points})
            rows.append(form | {"layers": layer, "seed": seed, "beta": 20.0, "test_accuracy": 0.0})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def pairs():
    return relatedness.matrix(transfer_table())


@pytest.fixture(scope="module")
def points(pairs):
    studies = {
        "words": at_table("word", "emotion", {"conv1": 0.01, "conv5": 0.05, "conv9": 0.3}),
        "emotions": at_table("emotion", "word", {"conv5": -0.02, "conv1": 0.0}),
    }
    return relatedness.joined(pairs, studies)


def test_the_matrix_is_paired_by_seed_with_training_from_scratch(pairs):
    table = transfer_table()
    assert len(pairs) == 2 * 2 * 2 and (pairs["units"] == 3).all()
    for _, row in pairs.iterrows():
        treatment = "BnB" if row["target"] == row["base"] else "AnB"
        d = []
        for seed in range(3):
            part = table[(table["seed"] == seed) & (table["target"] == row["target"])]
            frozen = part[(part["treatment"] == treatment) & (part["n"] == row["n"])]["test_accuracy"].item()
            d.append(frozen - part[part["treatment"] == "base"]["test_accuracy"].item())
        half = scipy_stats.t.ppf(0.975, 2) * np.std(d, ddof=1) / 3**0.5
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(
            (np.mean(d), np.mean(d) - half, np.mean(d) + half)
        )


def test_directions_are_told_apart(pairs):
    both = relatedness.asymmetry(pairs)
    cell = pairs.set_index(["target", "base", "n"])["difference"]
    assert both["n"].tolist() == [1, 5] and (both["first"] == "emotion").all()
    for _, row in both.iterrows():
        assert row["difference"] == pytest.approx(cell["emotion", "word", row["n"]] - cell["word", "emotion", row["n"]])


def test_the_scatter_takes_the_gain_of_the_same_pair_and_layer(points):
    assert points[["pair", "layer"]].values.tolist() == [
        ["emotion against word", "conv1"],
        ["emotion against word", "conv5"],
        ["word against emotion", "conv1"],
        ["word against emotion", "conv5"],
    ]
    assert points["gain"].tolist() == pytest.approx([0.0, -0.02, 0.01, 0.05]), (
        "other betas and layers without transfer are left out"
    )
    assert points["gain_low"].isna().all(), "the made gains are the same for all seeds, so there is no interval"


def test_the_correlation_is_scipys(points):
    found = relatedness.correlation(points)
    assert found["spearman"] == pytest.approx(scipy_stats.spearmanr(points["transfer"], points["gain"]).statistic)
    assert found["pearson"] == pytest.approx(scipy_stats.pearsonr(points["transfer"], points["gain"]).statistic)
    assert found["points"] == 4 and found["pairs"] == 2
    exact = scipy_stats.permutation_test(
        (points["transfer"],), lambda x: scipy_stats.spearmanr(x, points["gain"]).statistic, permutation_type="pairings"
    )
    assert found["p"] == pytest.approx(exact.pvalue, abs=0.03)


def test_the_reading_says_what_is_there(pairs, points):
    text = relatedness.reading(pairs, points)
    assert (
        "The two directions differ most between emotion and word at n = 5" in text
        and "over 4 points of 2 pairs" in text
    )
    strong = pd.DataFrame(
        {"pair": list("aabbccdd"), "layer": "conv5", "transfer": np.arange(8.0), "gain": -np.arange(8.0)}
    )
    assert "anti-transfer gains less where the orthogonal task's layer transfers better" in relatedness.reading(
        pairs, strong
    )


def test_figures_show_the_cells_and_the_points(pairs, points):
    figure = plots.transfer_matrix(pairs)
    assert [a.text for a in figure.layout.annotations] == ["n = 1", "n = 5"]
    cell = pairs.set_index(["target", "base", "n"])["difference"]
    heat = figure.data[1]
    at = heat.z[list(heat.y).index("word")][list(heat.x).index("emotion")]
    assert at == pytest.approx(100 * cell["word", "emotion", 5])
    scatter = plots.gain_against_transfer(points, "rho")
    assert {t.name: list(t.y) for t in scatter.data}["word against emotion"] == pytest.approx([1.0, 5.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda pairs, points: relatedness.matrix(transfer_table().query("treatment != 'base'")),
            "read against training from scratch",
        ),
        (lambda pairs, points: relatedness.correlation(points.head(3)), "3 points says nothing"),
    ],
)
def test_too_little_is_refused(pairs, points, call, message):
    with pytest.raises(AtlabError, match=message):
        call(pairs, points)


@pytest.mark.parametrize("other", [{"data": "iemocap"}, {"split": "random"}, {"width": 1.0}, {"noise": "low"}])
def test_runs_on_other_data_are_not_set_against_each_other(pairs, points, other):
    """A study holds runs of several scales: the paper's has other data, and two splits or three levels of noise."""
    ours = at_table("word", "emotion", {"conv1": 0.01, "conv5": 0.05})
    theirs = ours.assign(**other, test_accuracy=0.0)
    assert relatedness.joined(pairs, {"words": theirs}).empty
    both = relatedness.joined(pairs, {"words": pd.concat([ours, theirs])})
    pd.testing.assert_frame_equal(both, points[points["pair"] == "word against emotion"].reset_index(drop=True))
    assert "2 points, too few for a relation" in relatedness.reading(pairs, both)


def test_the_grid_asks_for_the_networks_of_anti_transfer():
    from pathlib import Path

    from atlab import experiment
    from atlab.transfer.experiment import required_by

    folder = Path(__file__).parents[2] / "notebooks/experiments/grids"
    needs = {need for job in grid.load(folder / "transfer_matrix.yaml", "laptop").jobs for need in required_by(job)}
    for name in ("table3_words", "table4_emotions", "table5_goodness"):
        jobs = [j for j in grid.load(folder / f"{name}.yaml", "laptop").jobs if j["strategy"] == "at"]
        theirs = {need for job in jobs for need in experiment.required_by(job)}
        shared = {need for need in theirs if need.orthogonal in ("emotion", "speaker", "instrument", "word", "noise")}
        assert shared <= needs, name
