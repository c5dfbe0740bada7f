"""Tables and claims from runs, against naive computations; and the printed numbers against some typed by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from atlab import analysis, plots
from atlab.analysis import claims
from atlab.errors import AtlabError
from atlab.paper import tables
from atlab.stats import Interval

LAYERS = ("conv1", "conv5", "conv9")


@pytest.fixture
def table() -> pd.DataFrame:
    """Five seeds; AT against the speaker is made 10 points better at conv5 (and validation knows it), frozen WI worse."""
    rng = np.random.default_rng(0)
    kinds = [
        ("baseline", "speaker", "conv5", 0.0),
        ("wi", "speaker", "conv5", 0.0),
        ("frozen_wi", "speaker", "conv5", -0.2),
        ("inverse_at", "speaker", "conv5", -0.1),
        ("dual_at", "emotion, noise", "conv5", 0.0),
        *(("at", task, layer, 0.1 * (layer == "conv5")) for task in ("speaker", "emotion") for layer in LAYERS),
    ]
    rows = [
        {
            "strategy": strategy,
            "orthogonal": task,
            "layers": layer,
            "aggregation": "gram",
            "similarity": "squared_cosine",
            "beta": 1.0,
            "seed": seed,
            "train_accuracy": 0.9 + rng.normal(0, 0.01),
            "validation_accuracy": 0.5 + gain + rng.normal(0, 0.01),
            "test_accuracy": 0.5 + gain + rng.normal(0, 0.01),
        }
        for strategy, task, layer, gain in kinds
        for seed in range(5)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def scores(
    table: pd.DataFrame, strategy: str, task: str = "speaker", layer: str = "conv5", part: str = "test"
) -> np.ndarray:
    rows = table[(table["strategy"] == strategy) & (table["orthogonal"] == task) & (table["layers"] == layer)]
    return rows.sort_values("seed")[f"{part}_accuracy"].to_numpy()


def test_differences_are_paired_by_seed_and_holm_counts_all_arms(table):
    compared = analysis.comparison(table).set_index("arm")
    assert len(compared) == 11 and compared.index[0] == "baseline" and "WI speaker" in compared.index
    a, b = scores(table, "at", layer="conv9"), scores(table, "baseline")
    row = compared.loc["AT speaker conv9"]
    low, high = scipy_stats.t.interval(0.95, 4, (a - b).mean(), scipy_stats.sem(a - b))
    assert row[["test", "difference", "d_low", "d_high"]].tolist() == pytest.approx(
        [a.mean(), (a - b).mean(), low, high]
    )
    assert row["p"] == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    p = np.sort(compared["p"].dropna())
    want = np.minimum(1, np.maximum.accumulate(p * (len(p) - np.arange(len(p)))))
    assert np.sort(compared["p_holm"].dropna()) == pytest.approx(want) and len(p) == 10
    numbers = analysis.result(analysis.comparison(table))
    assert numbers["AT speaker conv9"]["difference"] == pytest.approx(row["difference"])
    assert numbers["baseline"]["difference"] is None


def test_seeds_that_are_missing_or_there_twice_are_named(table):
    with pytest.raises(AtlabError, match="seeds missing"):
        analysis.comparison(table[~((table["strategy"] == "wi") & (table["seed"] == 3))])
    with pytest.raises(AtlabError, match="has seed 2 twice"):
        analysis.comparison(pd.concat([table, table[(table["strategy"] == "wi") & (table["seed"] == 2)]]))
    with pytest.raises(AtlabError, match="one arm of strategy 'baseline', found 0"):
        analysis.comparison(table[table["strategy"] != "baseline"])


def test_the_papers_improvements_stand_beside_those_here(table):
    printed = tables.improvements("table4_emotion_recognition", "test_speaker")
    here = analysis.beside(table, analysis.comparison(table), printed)
    assert here[["strategy", "task", "paper"]].values.tolist() == [["WI", "speaker", 1.3], ["AT", "speaker", 4.1]]
    d = (scores(table, "at", "speaker", "conv5") - scores(table, "baseline"))[
        2:
    ]  # validation knows that conv5 is better
    assert here["here"].iloc[1].startswith(f"{100 * d.mean():+.1f} [")
    assert here["layer"].iloc[1] == "conv5, chosen among 3 by validation on other seeds"
    words = tables.improvements("table3_word_recognition", "test_none")  # its networks are of other corpora
    assert analysis.beside(table, analysis.comparison(table), words).empty
    elsewhere = table.replace({"orthogonal": {"emotion, noise": "emotion@b, noise@b"}})
    assert analysis.beside(elsewhere, analysis.comparison(elsewhere), words)["task"].tolist() == ["emotion@b, noise@b"]


def test_claims_are_decided_by_their_intervals(table):
    assert "**holds here**" in claims.claim("x", Interval(0.1, 0.05, 0.15, 5))
    assert "**does not hold here**" in claims.claim("x", Interval(-0.1, -0.15, -0.05, 5))
    assert "**holds here**" in claims.claim("x", Interval(-0.1, -0.15, -0.05, 5), above=False)
    said = claims.of_table(table)
    assert any("AT against speaker (conv5, chosen among 3" in s and "holds here" in s for s in said)
    assert any("WI from speaker is above the baseline" in s and "not decided" in s for s in said)
    assert sum("on the training clips, too" in s for s in said) == 3
    of_four = claims.of_strategies({"words": table})
    assert [("does not hold" in s, "**holds" in s) for s in of_four] == [(False, True)] * 3


def test_layers_are_told_apart_where_they_differ(table):
    tests = claims.layer_tests({"words": table})
    assert tests["task"].tolist() == ["emotion", "speaker"]
    for _, row in tests.iterrows():
        same = np.array([scores(table, "at", row["task"], layer) for layer in LAYERS])
        assert row["friedman_p"] == pytest.approx(scipy_stats.friedmanchisquare(*same).pvalue)
        assert (row["best"], row["layers"], row["seeds"]) == ("conv5", 3, 5)
    assert all("layers differ" in line for line in claims.of_layers(tests))


def test_the_figures_show_differences_in_points(table):
    compared = analysis.comparison(table)
    figure = plots.improvement_by_arm(compared, {"WI speaker": 1.3})
    by_arm = dict(zip(figure.data[0].y, figure.data[0].x, strict=True))
    assert by_arm["AT speaker conv5"] == pytest.approx(
        100 * compared.set_index("arm").loc["AT speaker conv5", "difference"]
    )
    assert list(figure.data[1].x) == [1.3] and "points" in figure.layout.xaxis.title.text
    layers = analysis.by_layer(compared)
    assert layers["layers"].tolist() == list(LAYERS)
    line = plots.improvement_by_layer({"words": layers}).data[0]
    assert list(line.x) == [1, 5, 9] and list(line.y) == pytest.approx((100 * layers["difference"]).tolist())


def test_arms_of_several_layers_have_a_place_and_a_name_of_their_own(table):
    both = table[(table["layers"] == "conv5") & (table["strategy"] == "at") & (table["orthogonal"] == "speaker")]
    compared = analysis.comparison(pd.concat([table, both.assign(layers="conv1, conv5")]))
    assert "AT speaker conv1, conv5" in compared["arm"].tolist()
    layers = analysis.by_layer(compared)
    assert layers["layers"].tolist() == [*LAYERS, "conv1, conv5"], "single layers first"
    figure = plots.improvement_by_layer({"words": layers, "others": layers.iloc[:2]})
    line, several, other = figure.data
    assert (list(line.x), list(several.x), list(other.x)) == ([0.94, 4.94, 8.94], [9.94], [1.06, 5.06])
    assert (line.mode, several.mode) == ("lines+markers", "markers") and not several.showlegend
    gain = layers.set_index("layers").loc["conv1, conv5", "difference"]
    assert list(several.y) == pytest.approx([100 * gain])
    assert (figure.layout.xaxis.tickvals, figure.layout.xaxis.ticktext) == (
        (1, 5, 9, 10),
        ("1", "5", "9", "conv1, conv5"),
    )


def test_networks_stand_next_to_the_printed_ones_of_their_corpus():
    runs = pd.DataFrame(
        {
            "data": ["data/iemocap"] * 2 + ["synthetic_speech"] * 2,
            "target": ["session"] * 2 + ["speaker"] * 2,
            "classes": 5,
            "train_accuracy": [1.0, 0.8, 0.7, 0.1],
            "test_accuracy": [0.58, 0.62, 0.6, 0.2],
        }
    )
    first, second = (row for _, row in analysis.pretraining(runs).iterrows())
    low, high = scipy_stats.t.interval(0.95, 1, 60, scipy_stats.sem([58, 62]))
    assert first[["n", "train", "test", "low", "high"]].tolist() == pytest.approx([2, 90, 60, low, high])
    assert second[["low", "high"]].tolist() == [0, 100], "an accuracy's interval ends where accuracies do"
    assert (first["paper's corpus"], first["paper's test"], first["paper's classes"]) == ("IEMOCAP (4 s)", 96.5, 5)
    assert second["test"] == pytest.approx(40) and pd.isna(second["paper's test"])


def test_figure_4_sets_each_case_against_at_there(table):
    other = table[table["strategy"].isin(["baseline", "at", "inverse_at"])].replace({"layers": {"conv5": "conv6"}})
    compared = pd.concat(
        [analysis.comparison(table).assign(study="words"), analysis.comparison(other).assign(study="goodness")]
    )
    assert analysis.one_layer(compared)["arm"].tolist() == [
        "words: frozen WI speaker conv5",
        "words: AT speaker conv5",
        "words: inverse AT speaker conv5",
        "goodness: AT speaker conv6",
        "goodness: inverse AT speaker conv6",
    ]


def test_figure_6_scores_the_training_clips_too(table):
    compared = analysis.by_layer(analysis.comparison(analysis.on_training(table)), "speaker").set_index("layers")
    for layer in LAYERS:
        d = scores(table, "at", "speaker", layer, "train") - scores(table, "baseline", part="train")
        assert compared.loc[layer, "difference"] == pytest.approx(d.mean())


@pytest.mark.parametrize(
    ("name", "query", "column", "value"),
    [
        ("table3_word_recognition", "strategy == 'dual_at' and orthogonal_task == 'emotion+noise'", "test_none", 96.60),
        ("table4_emotion_recognition", "strategy == 'at' and orthogonal_task == 'speaker'", "test_speaker", 61.3),
        ("table5_sound_goodness", "strategy == 'none'", "test_instr", 22.8),
        ("table6_aggregation_similarity", "aggregation == 'gram' and similarity == 'squared_cosine'", "test", 66.9),
        ("table2_pretraining", "dataset == 'MS-SNSD'", "test_acc", 99.8),
        ("preprint_table1_pretraining", "dataset == 'Iemocap'", "train_acc", 99.88),
        ("preprint_table1_pretraining", "dataset == 'Librispeech'", "test_acc", 91.85),
    ],
)
def test_printed_numbers_are_the_papers(name, query, column, value):
    assert tables.table(name).query(query)[column].item() == value


def test_unknown_tables_and_columns_are_named():
    with pytest.raises(AtlabError, match="unknown printed table 'table3'; allowed: table2_pretraining, table3_word"):
        tables.table("table3")
    with pytest.raises(AtlabError, match="unknown column of table4_emotion_recognition 'test'"):
        tables.improvements("table4_emotion_recognition", "test")


def test_conditions_are_compared_apart_and_stand_beside_their_own_columns(table):
    harder = table.assign(
        split="disjoint", test_accuracy=table["test_accuracy"] - 0.2 + 0.1 * (table["strategy"] == "wi")
    )
    both = pd.concat([table.assign(split="random"), harder]).assign(noise="none")
    compared = analysis.comparison(both).set_index("arm")
    alone = analysis.comparison(harder).set_index("arm")
    assert len(compared) == 22
    for column in ("test", "difference", "d_low", "p_holm"):
        assert compared.loc["WI speaker, disjoint split", column] == pytest.approx(alone.loc["WI speaker", column])
    here = analysis.beside_all(both, "table4_emotion_recognition")
    assert here[["condition", "strategy", "paper"]].values.tolist() == [
        ["disjoint split", "WI", 1.3],
        ["disjoint split", "AT", 4.1],
        ["random split", "WI", 1.1],
        ["random split", "AT", 2.8],
    ]
    assert list(analysis.by_layers({"words": analysis.comparison(both)})) == [
        f"words, {split} split: {task}" for split in ("disjoint", "random") for task in ("emotion", "speaker")
    ]
    assert analysis.beside_all(table.assign(split="confounded"), "table4_emotion_recognition").empty


def test_layers_stand_in_their_order_and_holm_is_over_them(table):
    wider = pd.concat([table, table[table["layers"] == "conv9"].assign(layers="conv13")])
    compared = analysis.comparison(wider)
    assert compared.loc[compared["orthogonal"].eq("emotion") & compared["strategy"].eq("at"), "layers"].tolist() == [
        *LAYERS,
        "conv13",
    ]
    layers = analysis.by_layer(compared)
    p = np.sort(layers["p"])
    assert np.sort(layers["p_holm"]) == pytest.approx(
        np.minimum(1, np.maximum.accumulate(p * np.arange(len(p), 0, -1)))
    )


@pytest.fixture
def settings_table() -> pd.DataFrame:
    """Baseline, two aggregations and two weights on four seeds, with accuracies that are easy to add up."""
    kinds = {
        ("baseline", "gram", "squared_cosine", 1.0): 0.0,
        ("at", "gram", "squared_cosine", 1.0): 0.1,
        ("at", "mean", "squared_cosine", 1.0): 0.3,
        ("at", "gram", "squared_cosine", 20.0): -0.2,
    }
    rows = []
    for (strategy, aggregation, similarity, beta), gain in kinds.items():
        for seed, noise in enumerate((0.01, -0.01, 0.02, -0.02)):
            rows.append(
                {
                    "strategy": strategy,
                    "orthogonal": "speaker",
                    "layers": "conv9",
                    "aggregation": aggregation,
                    "similarity": similarity,
                    "beta": beta,
                    "seed": seed,
                    "train_accuracy": 0.9,
                    "test_accuracy": 0.5 + gain + noise * (1 + gain),
                }
            )
    return pd.DataFrame(rows)


def test_claims_of_table_6_and_figure_8_are_paired_differences(settings_table):
    similarity = claims.of_similarity(settings_table[settings_table["beta"] == 1])
    assert "above the baseline: **holds here** (+10.0 [" in similarity[0]
    assert "above mean with squared_cosine: **does not hold here** (-20.0 [" in similarity[1] and len(similarity) == 2
    beta = claims.of_beta(settings_table[settings_table["aggregation"] == "gram"])
    assert "beta = 1 with squared_cosine is above the baseline: **holds here** (+10.0" in beta[0]
    assert "beta = 1 is above beta = 20: **holds here** (+30.0" in beta[1] and len(beta) == 2
    assert "no run with beta = 1" in claims.of_beta(settings_table[settings_table["beta"] == 20])[0]
    named = analysis.comparison(settings_table, ["strategy", "aggregation", "beta"])["arm"].tolist()
    assert named == ["baseline", "AT gram beta 1", "AT gram beta 20", "AT mean beta 1"]
    cells = analysis.comparison(settings_table[settings_table["beta"] == 1], ["strategy", "aggregation", "similarity"])
    beside = analysis.beside_cells(cells, tables.table("table6_aggregation_similarity"), baseline=63.7)
    assert beside[["aggregation", "paper"]].values.tolist() == [["gram", 3.2], ["mean", -3.7]]


def test_arms_that_fit_the_training_data_better_are_named(table):
    slow = table.assign(train_accuracy=table["train_accuracy"] - 0.4 * (table["strategy"] == "baseline"))
    said = analysis.findings(analysis.comparison(slow))
    assert "As far ahead or further on the training clips: AT emotion conv5, AT speaker conv5." in said
    assert "fit the training data better" not in analysis.findings(analysis.comparison(table))


def test_the_dynamics_are_those_of_the_histories(tmp_path):
    from atlab import runs

    falls = {}
    for strategy in ("baseline", "at", "inverse_at"):
        for seed in (0, 1, 2):
            with runs.open_run(
                tmp_path,
                "s",
                {
                    "strategy": strategy,
                    "seed": seed,
                    "orthogonal": "word",
                    "layers": "conv5",
                    "aggregation": "gram",
                    "similarity": "squared_cosine",
                    "beta": 1.0,
                },
            ) as run:
                first = 0.1 + 0.01 * seed
                history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0]})
                run.save_history(history if strategy == "baseline" else history.assign(train_at=[first, 0.02]))
                run.finish({"test_accuracy": 0.5})
                falls.setdefault(strategy, []).append(first - 0.02)
    curves = analysis.histories(runs.table(tmp_path / "s"))
    assert list(curves) == ["baseline", "AT word conv5", "inverse AT word conv5"]
    assert [len(found) for found in curves.values()] == [3, 3, 3]
    left = analysis.loss_left(curves)
    low, high = scipy_stats.t.interval(0.95, 2, np.mean(falls["at"]), scipy_stats.sem(falls["at"]))
    assert left.loc["AT word conv5", ["fall", "f_low", "f_high"]].tolist() == pytest.approx(
        [np.mean(falls["at"]), low, high]
    )
    said = claims.of_dynamics(left)
    assert "random split, AT word conv5: " in claims.of_dynamics(left, "random split")[0]
    assert len(said) == 1 and "**holds here** (from 0.11 to 0.02" in said[0] and "5.5 % of the cross-entropy" in said[0]


def test_the_printed_tables_do_not_give_the_average_that_the_text_states():
    best = [96.60 - 95.32, 95.20 - 93.67, 91.38 - 90.44, 66.9 - 63.7, 61.3 - 57.2, 86.3 - 83.8, 34.3 - 22.8]
    averages = tables.averages().set_index("group")["improvement"]
    assert averages["all three tasks"] == pytest.approx(np.mean(best))
    assert averages["goodness"] == pytest.approx(np.mean(best[-2:]))
    assert averages["AT, another corpus"] == pytest.approx(
        np.mean([66.9 - 63.7, 61.1 - 57.2, 86.3 - 83.8, 30.0 - 22.8])
    )
    assert averages["AT, the same corpus"] == pytest.approx(
        np.mean([66.5 - 63.7, 61.3 - 57.2, 85.7 - 83.8, 34.3 - 22.8])
    )
    single = [95.70, 95.57, 94.81, 94.91, 90.99, 91.38]
    dual = [96.60, 95.64, 94.91, 95.20, 90.98, 90.67]
    base = np.repeat([95.32, 93.67, 90.44], 2)
    assert averages["single AT"] == pytest.approx(np.mean(single - base))
    assert averages["dual AT"] == pytest.approx(np.mean(dual - base))
    assert tables.STATED["average improvement of the test accuracy (section 4.3)"] == 4.11


def test_deviations_are_named_by_topic():
    assert (
        tables.deviations("rate", "layer").startswith("- rate: 0.00005")
        and tables.deviations("rate", "layer").count("\n") == 1
    )
    with pytest.raises(AtlabError, match="unknown deviation 'rates'; nearest: 'rate'"):
        tables.deviations("rates")
    with pytest.raises(AtlabError, match="unknown printed table with conditions 'table2_pretraining'"):
        tables.test_column("table2_pretraining", {})
