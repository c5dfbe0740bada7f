"""Every strategy trained at tiny scale by the shipped notebook, and the notebooks of tables and figures over these runs.

A folder holds small grids under the shipped names, so that the notebooks find these instead. Their runs are trained in
this process, under the ids of a sweep.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn import metrics

import atlab
from atlab import experiment, runs
from atlab.invariance.maps import gradcam
from atlab.labels import shown
from atlab.runs import notebooks
from tests.notebooks import in_process

FOLDER = Path(__file__).parents[2] / "notebooks/experiments"
TINY = {"width": 0.0625, "epochs": 1, "clips": 40, "learning_rate": 0.001}
AT = {"strategy": "at", "layers": ["conv1", "conv5"]}
OTHERS = {"strategy": ["wi", "frozen_wi", "inverse_at"], "layers": "conv5"}
GRIDS = {
    "table3_words": (
        "words",
        "word",
        "emotion",
        [
            AT,
            OTHERS,
            {"strategy": "gradient_reversal", "layers": "conv5"},
            {"strategy": "dual_at", "layers": "conv5", "orthogonal": "emotion,speaker"},
        ],
    ),
    "table4_emotions": ("emotions", "emotion", "speaker", [AT, OTHERS]),
    "table5_goodness": ("goodness", "goodness", "instrument", [AT, OTHERS]),
    "fig8_beta": ("emotions", "emotion", "speaker", [{"strategy": "at", "layers": "conv5", "beta": [1.0, 20.0]}]),
    "fig6_layers": ("emotions", "emotion", "speaker", [AT]),
    "fig7_dynamics": ("emotions", "emotion", "speaker", [{"strategy": "at", "layers": "conv5"}]),
    "fig5_maps": ("words", "word", "noise,emotion", [{"strategy": "dual_at", "layers": "conv13", "noise": "low"}]),
    "several_layers": ("emotions", "emotion", "speaker", [{"strategy": "at", "layers": ["conv5", "conv1,conv5"]}]),
    "several_teachers": (
        "words",
        "word",
        "emotion",
        [
            {"strategy": "at", "layers": "conv5", "orthogonal": ["emotion", "emotion,speaker"]},
            {"strategy": "dual_at", "layers": "conv5", "orthogonal": "emotion,speaker"},
        ],
    ),
}


GRIDS_OF = {"several_at_once": ("several_layers", "several_teachers")}  # notebooks of other grids than their own


def _strategies(arms: list[dict]) -> list[str]:
    """The strategies of some arms, each once."""
    return list(dict.fromkeys(name for arm in arms for name in np.atleast_1d(arm["strategy"]).tolist()))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    speech = atlab.data.synthetic_speech(
        folder / "speech", words=["one", "two"], speakers=6, emotions=2, repetitions=3, workers=1
    )
    notes = atlab.data.synthetic_notes(folder / "notes", instruments=5, goodness=2, repetitions=12, workers=1)
    grids = folder / "notebooks/experiments/grids"
    grids.mkdir(parents=True)
    for name, (study, target, orthogonal, arms) in GRIDS.items():
        data, by = (notes, "instrument") if target == "goodness" else (speech, "speaker")
        fixed = {
            **TINY,
            "data": str(data.path),
            "target": target,
            "orthogonal": orthogonal,
            "split": "disjoint",
            "split_by": by,
        }
        content = {"study": study, "notebook": str(FOLDER / "train.ipynb"), "fixed": fixed}
        noise = {"noise": "low"} if name == "fig5_maps" else {}
        axes = {"seed": "0..1", "arm": [{"strategy": "baseline", **noise}, *arms]}
        (grids / f"{name}.yaml").write_text(yaml.safe_dump({**content, "axes": axes, "scales": {"laptop": {}}}))
    fixed = {**TINY, "data": str(speech.path), "strategy": "baseline", "orthogonal": "", "split": "random"}
    content = {"study": "pretraining", "notebook": str(FOLDER / "train.ipynb"), "fixed": fixed}
    axes = {"seed": "0..1", "network": [{"target": "emotion"}]}
    (grids / "table2_pretraining.yaml").write_text(yaml.safe_dump({**content, "axes": axes, "scales": {"laptop": {}}}))
    return folder


@pytest.fixture(scope="module")
def executed(place):
    """Notebooks run where the small grids are; each once."""
    done = {}

    def run(name: str) -> runs.Run:
        if name not in done:
            for small in GRIDS_OF.get(name, (name,)):
                if (path := place / f"notebooks/experiments/grids/{small}.yaml").exists():
                    in_process.run(path, place / "runs")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(place)
                given = {"word": "two"} if name == "fig5_maps" else {}
                done[name] = notebooks.run(FOLDER / f"{name}.ipynb", given, root=place / "runs", progress=False)
        return done[name]

    for table in ("table3_words", "table4_emotions", "table5_goodness"):
        run(table)
    return run


def accuracy(place: Path, study: str, part: str = "test", **wanted) -> np.ndarray:
    """Straight from the runs' files, in the order of their seeds."""
    found = {}
    for path in (place / "runs" / study).glob("*/result.json"):
        parameters = json.loads((path.parent / "params.json").read_text())["parameters"]
        if all(shown(parameters[name]) == value for name, value in wanted.items()):
            found[parameters["seed"]] = json.loads(path.read_text())[f"{part}_accuracy"]
    return np.array([found[seed] for seed in sorted(found)])


@pytest.mark.parametrize("strategy", ["baseline", *_strategies(GRIDS["table3_words"][3])])
def test_what_the_training_notebook_writes_is_what_its_network_does(executed, place, strategy):
    table = runs.table(place / "runs/words")
    run = runs.Run(table.loc[table["strategy"] == strategy, "path"].iloc[0])
    result, predictions = run.result(), pd.read_parquet(run.path / "predictions.parquet")
    fs = atlab.data.FactorSet.open(place / "speech")
    rows = predictions["row"].to_numpy()
    assert (predictions["code"].to_numpy() == fs.codes("word")[rows]).all() and len(rows) == result["test_clips"]
    right = (predictions["code"] == predictions["prediction"]).mean()
    recall = metrics.balanced_accuracy_score(predictions["code"], predictions["prediction"])
    assert result["test_accuracy"] == pytest.approx(right)
    assert result["test_unweighted_average_recall"] == pytest.approx(recall)
    model = atlab.models.load(run.model_path)
    with torch.no_grad():
        logits = model(atlab.data.Spectrogram()(torch.from_numpy(fs.read(rows))))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(fs.codes("word")[rows]))
    assert result["test_loss"] == pytest.approx(float(loss), abs=0.02), "the networks trained in bf16"
    columns = set(run.history().columns)
    expected = {
        "at": "train_at",
        "inverse_at": "train_at",
        "dual_at": "train_at",
        "gradient_reversal": "train_adversary",
    }
    assert ("train_at" in columns, "train_adversary" in columns) == tuple(
        expected.get(strategy) == name for name in ("train_at", "train_adversary")
    )


def test_frozen_convolutions_are_those_of_the_orthogonal_network(executed, place):
    table, networks = runs.table(place / "runs/words"), runs.table(place / "runs/networks")
    frozen = atlab.models.load(runs.Run(table.loc[table["strategy"] == "frozen_wi", "path"].iloc[0]).model_path)
    teachers = [atlab.models.load(runs.Run(path).model_path) for path in networks["path"]]
    same = [torch.equal(frozen.features[10].weight, teacher.features[10].weight) for teacher in teachers]
    moved = [torch.equal(frozen.features[12].weight, teacher.features[12].weight) for teacher in teachers]
    assert sum(same) == 1 and not any(moved), "conv5 is frozen, conv6 is not"


@pytest.mark.parametrize(
    ("name", "study", "task"),
    [
        ("table3_words", "words", "emotion"),
        ("table4_emotions", "emotions", "speaker"),
        ("table5_goodness", "goodness", "instrument"),
    ],
)
def test_tables_report_their_runs(executed, place, name, study, task):
    arms = executed(name).result()["arms"]
    baseline = accuracy(place, study, strategy="baseline", noise="none")
    for strategy, label in (
        ("wi", f"WI {task}"),
        ("frozen_wi", f"frozen WI {task} conv5"),
        ("inverse_at", f"inverse AT {task} conv5"),
    ):
        scores = accuracy(place, study, strategy=strategy)
        assert len(scores) == arms[label]["n"] == 2 and arms[label]["test"] == pytest.approx(scores.mean())
        assert arms[label]["difference"] == pytest.approx((scores - baseline).mean())


def gain(place: Path, study: str, **wanted) -> float:
    return float((accuracy(place, study, **wanted) - accuracy(place, study, strategy="baseline", noise="none")).mean())


def test_figures_3_and_4_average_the_tables(executed, place):
    result = executed("fig3_4_strategies").result()
    averages = {row["arm"]: row for row in result["averages"]}
    dual = gain(place, "words", strategy="dual_at", orthogonal="emotion, speaker")
    assert averages["dual AT"]["difference"] == pytest.approx(dual) and averages["all three tasks"]["cells"] == 3
    frozen = gain(place, "goodness", strategy="frozen_wi")
    said = next(line for line in result["claims"] if "goodness: frozen WI instrument conv5 is below" in line)
    assert f"({100 * frozen:+.1f} [" in said


def test_figure_6_has_every_layer(executed, place):
    result = executed("fig6_layers").result()
    assert {(row["study"], row["task"]) for row in result["tests"]} == {
        ("this figure", "speaker"),
        ("table3_words", "emotion"),
        ("table4_emotions", "speaker"),
        ("table5_goodness", "instrument"),
    }
    conv1 = {"strategy": "at", "layers": "conv1"}
    assert result["test clips"]["AT speaker conv1"]["difference"] == pytest.approx(gain(place, "emotions", **conv1))
    trained = [accuracy(place, "emotions", "train", **of).mean() for of in (conv1, {"strategy": "baseline"})]
    training = result["training clips"]["AT speaker conv1"]["difference"]
    assert training == pytest.approx(trained[0] - trained[1])


def test_figure_7_shows_the_losses_of_the_histories(executed, place):
    run = executed("fig7_dynamics")
    arms = run.result()["arms"]["all"]
    table = runs.table(place / "runs/emotions")
    chosen = table[(table["strategy"] == "at") & (table["layers"] == "conv5") & (table["beta"] == 1.0)]
    curves = [runs.Run(path).history() for path in chosen["path"]]
    first = np.mean([history["train_at"].iloc[0] for history in curves])
    assert list(arms) == ["baseline", "AT speaker conv5"]
    assert arms["AT speaker conv5"]["AT loss, first epoch"] == pytest.approx(first)
    lines = {line["name"]: line for line in _traces(run) if line.get("xaxis") == "x3"}
    assert _numbers(lines["AT speaker conv5, training"]["y"]) == pytest.approx([first])
    assert _numbers(lines["AT speaker conv5"]["y"]) == pytest.approx(
        [np.mean([history["validation_at"].iloc[0] for history in curves])]
    )


def _traces(run: runs.Run) -> list[dict]:
    cells = [cell for cell in nbformat.read(run.notebook_path, 4).cells if cell.cell_type == "code"]
    shown = [out.get("data", {}).get("application/vnd.plotly.v1+json") for cell in cells for out in cell.outputs]
    return [trace for figure in shown if figure for trace in figure["data"]]


def _numbers(values: dict | list) -> list[float]:
    """As plotly writes them: a list, or bytes in base64."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    return values


def test_figure_8_and_table_2(executed, place):
    arms = executed("fig8_beta").result()["arms"]
    strong = accuracy(place, "emotions", strategy="at", layers="conv5", beta=20.0)
    assert arms["AT squared_cosine beta 20"]["test"] == pytest.approx(strong.mean())
    networks = {row["task"]: row for row in executed("table2_pretraining").result()["networks"]}
    assert set(networks) == {"emotion"} and networks["emotion"]["paper's test"] is None
    emotion = accuracy(place, "pretraining", target="emotion")
    assert len(emotion) == 2 and networks["emotion"]["test"] == pytest.approx(100 * emotion.mean())


def test_figure_5_scores_all_test_clips(executed, place):
    result = executed("fig5_maps").result()
    rows = {(r["name"], r["seed"], r["task"]): r for r in result["agreement"]}
    assert len(rows) == 8 and {task for _, _, task in rows} == {"noise", "emotion"}
    table = runs.table(place / "runs/words")
    (path,) = table.loc[(table["strategy"] == "dual_at") & (table["layers"] == "conv13") & (table["seed"] == 1), "path"]
    networks = runs.table(place / "runs/networks")
    noise = networks[(networks["orthogonal"] == "noise") & (networks["role"] == "teacher")]["path"].item()
    settings = experiment.from_parameters(runs.Run(path).parameters)
    fs, predictions = settings.data_set(), pd.read_parquet(Path(path) / "predictions.parquet")
    assert fs.labels("word")[result["row"]] == "two" and result["row"] in predictions["row"].tolist()
    x = atlab.data.Spectrogram()(torch.from_numpy(fs.read(predictions["row"].to_numpy())))
    student, teacher = (
        gradcam.class_activation_map(atlab.models.load(runs.Run(p).model_path), x) for p in (path, noise)
    )
    want = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for a, b in zip(student, teacher, strict=True)
        if np.ptp(a) and np.ptp(b)
    ]
    found = rows["dual_at", 1, "noise"]
    assert found["clips"] == len(want) and found["correlation"] == pytest.approx(np.mean(want), abs=0.02)


def test_several_layers_and_teachers_are_their_runs(executed, place):
    result = executed("several_at_once").result()
    both = {"strategy": "at", "layers": "conv1, conv5"}
    assert result["layers"]["AT speaker conv1, conv5"]["difference"] == pytest.approx(gain(place, "emotions", **both))
    two = {"strategy": "at", "orthogonal": "emotion, speaker"}
    assert result["teachers"]["AT emotion, speaker conv5"]["difference"] == pytest.approx(gain(place, "words", **two))
    assert len(result["claims"]) == 2 + 3


def test_the_notebook_of_costs_measures_what_it_predicts(tmp_path):
    result = notebooks.run(FOLDER / "cost.ipynb", {"scale": "tiny"}, root=tmp_path, progress=False).result()
    want = atlab.cost.predict(atlab.cost.vgg16(1 / 16), ["conv5"]).iloc[0]
    assert result["layers"]["conv5"]["predicted_live_ratio"] == pytest.approx(want["live_ratio"])
    assert result["printed"]["conv1"]["printed"] == 62 and result["layers"]["conv5"]["plain_ms"] > 0
