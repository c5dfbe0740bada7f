"""Which clips a loss acts on and what it compares them with, from settings to a run's folder."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import atlab
from atlab import experiment, models, runs
from atlab.data import Split
from atlab.errors import AtlabError
from atlab.experiment import Settings, acting


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    make = {"words": 3, "speakers": 6, "repetitions": 8, "samples": 4096}
    return atlab.data.toy(folder / "words", **make), atlab.data.toy(folder / "voices", **make | {"seed": 5})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def settings(sets, **given) -> Settings:
    return Settings(
        **{"data": str(sets[0].path), "split_by": "speaker", "pairing": 0.8, "clips": 48, "batch_size": 12}
        | {
            "width": 1 / 64,
            "epochs": 1,
            "precision": "fp32",
            "clips_from": "orthogonal",
            "batch_norm": True,
            "head": "pool",
        }
        | given
    )


def train(s: Settings, root) -> runs.Run:
    return experiment.train(s, root, "s", progress=False)


def rows_and_classes(s: Settings, fs) -> tuple[list, np.ndarray]:
    clips = acting.acted_on(s, fs, s.make_split(fs).train, [], "cpu")
    batches = [batch for part in clips.parts for batch in part.epoch(0)]
    return sorted(row for batch in batches for row in batch.index.tolist()), clips.codes


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_second_stream_is_the_training_part_of_the_orthogonal_network(sets, root, elsewhere):
    fs = sets[int(elsewhere)]
    s = settings(sets, orthogonal=f"speaker@{fs.path}" if elsewhere else "speaker")
    rows, codes = rows_and_classes(s, sets[0])
    network = experiment.train(s.teacher(), root, progress=False)
    assert rows == Split.load(network.path / "split.json", fs).train.tolist()
    speakers = fs.labels("speaker")
    assert all((codes[i] == codes[j]) == (speakers[i] == speakers[j]) for i in rows[:9] for j in rows)
    if not elsewhere:
        assert not set(rows) & set(s.make_split(fs).test)
    run = train(s, root)
    assert (run.history()["train_at"] > 0).all() and "validation_at" not in run.history()


ARMS = {
    "Gram on the other clips": {"layers": "conv5"},
    "softmax": {"aggregation": "clip_kernel", "similarity": "cka", "against": "predictions", "layers": "conv13"},
    "class means, position Gram": {"against": "class_means", "aggregation": "position_gram"},
    "adversary": {"strategy": "gradient_reversal"},
    "control": {"strategy": "second_stream"},
    "kept apart": {"stream_statistics": "apart"},
    "softmax, target's clips": {"clips_from": "target", "against": "predictions", "aggregation": "clip_kernel"},
    "labels, target's clips": {"clips_from": "target", "against": "labels", "aggregation": "clip_kernel"},
    "reweighting": {"strategy": "reweighting", "clips_from": "target"},
    "group DRO": {"strategy": "group_dro", "clips_from": "target"},
    "just train twice": {"strategy": "just_train_twice", "clips_from": "target", "beta": 5.0},
    "product of experts": {"strategy": "product_of_experts", "clips_from": "target"},
    "last layer": {"strategy": "last_layer_retraining", "clips_from": "target"},
    "baseline": {"strategy": "baseline", "clips_from": "target"},
}


@pytest.fixture(scope="module")
def trained(sets, root):
    return {name: train(settings(sets, **given), root) for name, given in ARMS.items()}


def test_every_arm_trains_another_network_and_no_two_share_a_run(trained):
    hashes = {name: models.weights_hash(models.load(run.model_path)) for name, run in trained.items()}
    assert len(set(hashes.values())) == len(ARMS)
    for name, run in trained.items():
        terms = [c.removeprefix("train_") for c in run.history() if c in ("train_at", "train_adversary")]
        of = {"at": ["at"], "gradient_reversal": ["adversary"]}
        assert terms == of.get(run.parameters["strategy"], []), name


def test_runs_say_what_they_were_given_besides_the_target(trained):
    found = {name: run.result()["uses"] for name, run in trained.items()}
    labels = "orthogonal labels of the target's clips"
    assert found["baseline"] == "" and found["control"] == "orthogonal clips"
    assert found["softmax"] == "an orthogonal network, orthogonal clips"
    assert found["adversary"] == "orthogonal clips, orthogonal labels of the orthogonal clips"
    assert found["reweighting"] == found["group DRO"] == found["last layer"] == labels
    assert found["just train twice"] == "" and found["product of experts"] == "an orthogonal network"
    assert found["labels, target's clips"] == f"an orthogonal network, {labels}"


def test_the_control_differs_from_the_baseline_in_statistics_only(trained):
    """The baseline's batches and weights, but for what dropout draws in between."""
    of = {n: models.load(trained[n].model_path).state_dict() for n in ("control", "baseline")}
    moved = [n for n, t in of["control"].items() if n.endswith("running_mean") and not (t == of["baseline"][n]).all()]
    assert len(moved) == 13


def test_what_takes_labels_or_nothing_needs_no_network(sets, tmp_path):
    for strategy in ("gradient_reversal", "second_stream"):
        run = train(settings(sets, strategy=strategy), tmp_path)
        assert "orthogonal_networks" not in run.result()
    assert not (tmp_path / "networks").exists()


def test_the_same_settings_give_the_same_numbers(sets, trained, tmp_path):
    again = train(settings(sets, **ARMS["softmax"]), tmp_path)
    assert again.result() == trained["softmax"].result()
    assert again.id == trained["softmax"].id and again.path != trained["softmax"].path


def test_features_of_the_second_stream_are_cached_once_for_all_seeds(sets, root, trained):
    before = {path.name for path in (root / "caches").iterdir()}
    train(settings(sets, layers="conv5", seed=1), root)
    assert {path.name for path in (root / "caches").iterdir()} == before
    rows = [np.load(path / "rows.npy") for path in (root / "caches").iterdir() if path.is_dir()]
    stream, _ = rows_and_classes(settings(sets), sets[0])
    assert any(sorted(r.tolist()) == stream for r in rows)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clips_from": "both"}, "unknown clips_from 'both'"),
        ({"against": "softmax"}, "unknown against 'softmax'; allowed: features, predictions, class_means, labels"),
        ({"stream_statistics": "own"}, "unknown stream_statistics 'own'"),
        ({"strategy": "wi"}, "expected a strategy of at, inverse_at, gradient_reversal, second_stream, got 'wi'"),
        ({"strategy": "baseline"}, "clips_from='orthogonal' gives the loss other clips"),
        ({"orthogonal": "speaker,speaker"}, "training clips of one orthogonal network"),
        ({"orthogonal": "file:a.safetensors"}, "training clips of one orthogonal network"),
        ({"residual": True}, "residual=True needs the target's classes"),
        ({"stream_statistics": "apart", "batch_norm": False}, "no batch norm: it would have no effect"),
        ({"strategy": "second_stream", "batch_norm": False}, "through the statistics of batch norm alone"),
        ({"strategy": "second_stream", "clips_from": "target"}, "expected clips_from='orthogonal'"),
        ({"clips_from": "target", "stream_statistics": "apart"}, "there is no second stream"),
        ({"strategy": "gradient_reversal", "against": "labels"}, "compares with no network"),
        ({"against": "labels"}, "neither channels nor positions: expected aggregation='clip_kernel', got 'gram'"),
        ({"against": "class_means", "published": True}, "expected against='features', got 'class_means'"),
        (
            {
                "against": "labels",
                "aggregation": "clip_kernel",
                "clips_from": "target",
                "orthogonal": "speaker@elsewhere",
            },
            "needs the orthogonal labels of the target's clips",
        ),
        (
            {"strategy": "group_dro", "clips_from": "target", "orthogonal": "speaker@elsewhere"},
            "strategy 'group_dro' needs orthogonal labels of the student's own clips",
        ),
        ({"strategy": "reweighting"}, "got 'reweighting'"),
        ({"batch_size": 200}, "training clips: expected at least one batch of 200"),
    ],
)
def test_bad_settings_are_named_before_anything_is_trained(sets, tmp_path, given, message):
    with pytest.raises(AtlabError, match=message):
        train(settings(sets, **given), tmp_path)
    assert not list(tmp_path.iterdir())


def test_clips_of_another_form_are_refused_first(sets, tmp_path):
    long = atlab.data.toy(tmp_path / "long", samples=9000)
    with pytest.raises(AtlabError, match="another shape of an item"):
        train(settings(sets, orthogonal=f"speaker@{long.path}"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_is_estimated_with_its_second_batch(sets):
    given = vars(settings(sets, **ARMS["softmax"]))
    streamed = experiment.estimate_run(given)
    alone = experiment.estimate_run(given | {"strategy": "baseline", "clips_from": "target", "against": "features"})
    assert streamed["steps"] == alone["steps"] and streamed["peak_bytes"] > alone["peak_bytes"]


def test_a_run_says_what_its_loss_acted_on(trained):
    stored = json.loads((trained["softmax"].path / "params.json").read_text())["parameters"]
    assert (stored["clips_from"], stored["against"]) == ("orthogonal", "predictions")
    assert replace(Settings(), clips_from="orthogonal").teacher() == Settings().teacher()
