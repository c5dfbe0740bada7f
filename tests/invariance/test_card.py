"""The card: what it says is what its parts say, over the right clips and seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from atlab import models, plots, runs, stats
from atlab.data import splits
from atlab.errors import AtlabError
from atlab.invariance import features, measuring, removal, report, use
from atlab.invariance.card import RANDOM, Report
from atlab.invariance.measuring import LEACE
from atlab.invariance.networks import even_rows
from atlab.invariance.probes import presence
from atlab.invariance.similarities import similarity

LAYERS = ["conv2", "conv5"]


@pytest.fixture(scope="module")
def rows(tones):
    return np.flatnonzero(np.arange(len(tones)) % 8 < 5)  # five of the eight repetitions


@pytest.fixture(scope="module")
def card(tones, networks, speaker_network, rows) -> Report:
    given = {"baseline": list(enumerate(networks)), "at": [(0, networks[1]), (1, networks[0])]}
    return report(
        given,
        tones,
        ["speaker"],
        LAYERS,
        rows=rows,
        teachers={"speaker": speaker_network},
        device="cpu",
        progress=False,
    )


def test_every_network_is_measured_at_every_layer(card):
    counts = card.table.groupby("name").size().to_dict()
    assert counts == {"baseline": 4, LEACE: 4, "at": 4, RANDOM: 4}
    assert card.target == "word" and card.classes == {"speaker": 3}
    # The same two networks under two names, in another order of seeds.
    one, other = (card.table[card.table["name"] == name] for name in ("baseline", "at"))
    for seed in (0, 1):
        columns = ["balanced_accuracy", "target_accuracy", "changed", "cka", "bits"]
        a, b = (one[one["seed"] == seed][columns].to_numpy(), other[other["seed"] == 1 - seed][columns].to_numpy())
        np.testing.assert_allclose(a.astype(float), b.astype(float))


def test_several_processes_find_the_same(card, tones, networks, speaker_network, rows):
    given = {"baseline": list(enumerate(networks)), "at": [(0, networks[1])]}
    options = {
        "rows": rows,
        "teachers": {"speaker": speaker_network},
        "floor": False,
        "device": "cpu",
        "progress": False,
    }
    found = report(given, tones, ["speaker"], "conv5", workers=2, **options).table
    want = card.table[(card.table["layer"] == "conv5") & card.table["name"].isin(["baseline", LEACE, "at"])]
    want = want[(want["name"] != "at") | (want["seed"] == 0)]
    assert found["name"].tolist() == want["name"].tolist() == ["baseline", LEACE, "baseline", LEACE, "at"]
    for column in ("balanced_accuracy", "bits", "excess_nats", "cka", "target_accuracy", "equalised_odds"):
        np.testing.assert_allclose(found[column].astype(float), want[column].astype(float), rtol=1e-5)


def test_its_numbers_are_those_of_its_parts(card, tones, networks, speaker_network, rows):
    row = card.table.query("name == 'baseline' and seed == 0 and layer == 'conv5'").iloc[0]
    found = features.extract(networks[0], features.batches_of(tones, rows), LAYERS)
    labels = {"speaker": tones.labels("speaker", rows)}
    table = presence.presence(found, labels, tones.factors["source"].to_numpy()[rows]).set_index("layer")
    for column in ("balanced_accuracy", "low", "high", "control", "bits"):
        assert row[column] == pytest.approx(table.loc["conv5", column], abs=1e-6)
    codes = tones.codes("word")[rows]
    assert row["target_accuracy"] == pytest.approx(np.mean(found.logits.argmax(1) == codes))
    p = torch.from_numpy(found.logits).double().softmax(1).numpy()
    pairs = use.pairs(tones.factors.iloc[rows].reset_index(drop=True), "speaker", ["word"])
    want = use.consistency(p, codes, pairs).set_index(["measure", "kind"])["value"]
    assert row["changed"] == pytest.approx(want["changed", "counterfactual"])
    assert row["excess"] == pytest.approx(want["changed", "excess"])
    assert row["excess_nats"] == pytest.approx(want["change", "excess"])
    drawn = np.random.default_rng(0).permutation(rows)
    likeness = similarity(networks[0], speaker_network, features.batches_of(tones, drawn, batch_size=32), ["conv5"])
    assert row["cka"] == pytest.approx(likeness["cka"][0], abs=1e-6) and row["at"] == pytest.approx(
        likeness["at"][0], abs=1e-6
    )


def test_leace_rows_are_of_the_erased_network(card, tones, networks, rows):
    row = card.table[(card.table["name"] == LEACE) & (card.table["seed"] == 1) & (card.table["layer"] == "conv2")].iloc[
        0
    ]
    fit = features.batches_of(tones, even_rows(tones, ["word", "speaker"], rows, 1500))
    fit._y = torch.from_numpy(tones.codes("speaker")[fit.rows.numpy()])
    eraser = removal.erase(networks[1], fit, "conv2")["conv2"]
    with removal.erased(networks[1], eraser):
        logits = features.extract(networks[1], features.batches_of(tones, rows), ["conv2"]).logits
    assert row["target_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == tones.codes("word")[rows]))


def test_the_summary_and_differences_are_over_seeds(card):
    row = card.summary.query("name == 'baseline' and layer == 'conv2'").iloc[0]
    values = card.table.query("name == 'baseline' and layer == 'conv2'")["balanced_accuracy"]
    want = stats.mean_interval(values)
    assert (row["balanced_accuracy"], row["balanced_accuracy_low"], row["balanced_accuracy_high"]) == pytest.approx(
        want[:3], nan_ok=True
    )
    assert card.difference("cka", "at", "baseline", "conv2", "speaker").mean == pytest.approx(0, abs=1e-9)
    with pytest.raises(AtlabError, match="no network 'wi' was measured at conv2"):
        card.difference("cka", "wi", "baseline", "conv2", "speaker")


def test_the_figures_show_the_summary(card):
    figure = card.figure("speaker", "conv5")
    names = [trace.name for trace in figure.data]
    assert set(names) == {"baseline", "AT", LEACE, RANDOM}
    row = card.summary.query("name == 'at' and layer == 'conv5'").iloc[0]
    trace = figure.data[names.index("AT")]
    assert (trace.x[0], trace.y[0]) == (row["balanced_accuracy"], row["target_accuracy"])
    assert "95 %" in figure.layout.title.text and "speaker at conv5" in figure.layout.xaxis.title.text
    unmeasured = card.summary.drop(columns=[c for c in card.summary if c.startswith("excess_nats")])
    empty = plots.invariance_card(unmeasured, "speaker", "conv5", "word", "excess_nats")
    assert not empty.data and "not measured" in empty.layout.annotations[0].text
    lines = plots.presence_by_layer(card.summary, "speaker")
    assert list(lines.data[0].x) == LAYERS
    assert not plots.presence_by_layer(card.summary, "speaker", "mlp").data  # not measured


def test_factors_are_checked_before_networks_compute(tones, rows, networks, monkeypatch):
    monkeypatch.setattr(measuring.Meter, "of_job", lambda *_: pytest.fail("a network was measured"))
    with pytest.raises(AtlabError, match="unknown factor 'speker'; nearest: 'speaker'"):
        report({"baseline": networks}, tones, "speker", rows=rows)
    one = rows[tones.labels("speaker", rows) == tones.classes("speaker")[0]]
    with pytest.raises(AtlabError, match="factor 'speaker' has a single class"):
        report({"baseline": networks}, tones, "speaker", rows=one)


def test_even_rows_are_even_and_apart(tones, rows):
    drawn = even_rows(tones, ["word", "speaker"], rows, 100)
    assert not set(drawn) & set(rows)
    cells = tones.factors.iloc[drawn].groupby(["word", "speaker"]).size()
    assert cells.nunique() == 1 and len(cells) == 12
    with pytest.raises(AtlabError, match="no clip is left"):
        even_rows(tones, ["word"], np.arange(len(tones)), 10)


def test_run_folders_are_measured_on_their_whole_test_part(tones, networks, tmp_path):
    given = {"target": "word", "orthogonal": "speaker", "split": "random", "clips": 20}
    folders = []
    for seed, model in enumerate(networks):
        run = runs.open_run(tmp_path, "s", {**given, "seed": seed})
        models.save(model, run.model_path, **model.card)
        splits.cut(splits.random(tones), 20).save(run.path / "split.json", tones)
        run.finish({})
        folders.append(run.path)
    found = report(
        {"baseline": folders}, tones.path, "speaker", "conv1", erase="", floor=False, device="cpu", progress=False
    )
    assert set(found.table["n"]) == {len(splits.random(tones).test)} and list(found.table["seed"]) == [0, 1]
    unfinished = runs.open_run(tmp_path, "s", {**given, "seed": 5})
    unfinished.close()
    with pytest.raises(AtlabError, match="unfinished"):
        report({"baseline": [unfinished]}, tones, "speaker")
    splits.random(tones, seed=3).save(folders[1] / "split.json", tones)
    runs.mark_done(folders[1])
    with pytest.raises(AtlabError, match="2 different test parts"):
        report({"baseline": folders}, tones, "speaker")


@pytest.mark.parametrize(
    ("models_", "more", "message"),
    [
        ({}, {}, "no network to measure"),
        ({"a": [0]}, {}, "no split: give the rows"),
        ({"a": [0]}, {"factors": "speker", "rows": [0, 1, 2]}, "nearest: 'speaker'"),
        ({"a": [1]}, {"rows": [0, 1, 2]}, "give target"),
        ({"a": [1]}, {"rows": range(40), "target": "speaker", "factors": "word"}, "4 outputs and no model card"),
    ],
)
def test_what_cannot_be_measured_is_named(tones, networks, models_, more, message):
    plain = models.vgg16(4, width=1 / 64)
    given = {name: [[networks[0], plain][i] for i in items] for name, items in models_.items()}
    options = {"factors": "speaker", "layers": "conv1", "erase": "", "floor": False, "progress": False, **more}
    with pytest.raises(AtlabError, match=message):
        report(given, tones, options.pop("factors"), options.pop("layers"), **options)


def test_a_single_seed_has_no_interval(card):
    one = Report(card.table[card.table["seed"] == 0], "word", card.classes, card.rows).summary
    assert one["balanced_accuracy_low"].isna().all() and one["balanced_accuracy"].notna().all()
    assert isinstance(one, pd.DataFrame) and set(one["seeds"]) == {1}
