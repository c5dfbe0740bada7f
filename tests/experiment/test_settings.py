"""Settings: knobs declared once, names as tuples from the parameters cell on, what can be refused without a kernel."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from papermill.inspection import inspect_notebook

import atlab
from atlab import experiment, models, runs
from atlab.data import Split
from atlab.errors import AtlabError
from atlab.experiment import Settings, remarks, required_by
from atlab.runs import grid, parameters
from atlab.transfer.experiment import TransferSettings
from atlab.transfer.gradual.images import ImageSettings
from atlab.transfer.gradual.speech import SpeechSettings

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TRAIN = NOTEBOOKS / "experiments/train.ipynb"
CLASSES = {
    "train": Settings,
    "train_transfer": TransferSettings,
    "train_gradual": SpeechSettings,
    "train_gradual_images": ImageSettings,
}
ALL = sorted(path.relative_to(NOTEBOOKS).as_posix() for path in NOTEBOOKS.glob("*/*.ipynb"))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return atlab.data.toy(tmp_path_factory.mktemp("data") / "toy", words=3, speakers=6, repetitions=8, samples=4096)


@pytest.mark.parametrize("name", CLASSES)
def test_a_notebooks_parameters_are_the_fields_of_its_settings(name):
    """Names, order, defaults and types; beside them a notebook has the device and its run folder."""
    found = parameters.defaults(NOTEBOOKS / f"experiments/{name}.ipynb")
    declared = {f.name: f.default for f in fields(CLASSES[name])}
    if "role" not in found:
        declared.pop("role")  # networks that others require have no notebook of their own
    others = {key: found.pop(key) for key in ("device", "run_dir")}
    assert others == {"device": "auto", "run_dir": ""}
    assert found == declared and list(found) == list(declared)
    assert {key: type(value) for key, value in found.items()} == {k: type(v) for k, v in declared.items()}


@pytest.mark.parametrize("name", CLASSES)
def test_a_training_notebook_names_no_knob_twice(name):
    cells = nbformat.read(NOTEBOOKS / f"experiments/{name}.ipynb", 4).cells
    code = [c.source for c in cells if c.cell_type == "code" and "parameters" not in c.metadata.get("tags", [])]
    keywords = {
        k.arg
        for source in code
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        for k in node.keywords
    }
    assert "from_parameters(globals())" in "".join(code)
    assert not keywords & {f.name for f in fields(CLASSES[name])}


@pytest.mark.parametrize("name", ALL)
def test_papermill_reads_every_parameter(name, caplog):
    """What `papermill --help-notebook` shows: all of them, with their defaults, and without a line that it cannot parse."""
    shown, known = inspect_notebook(str(NOTEBOOKS / name)), parameters.defaults(NOTEBOOKS / name)
    assert [record.message for record in caplog.records if "Unable to parse" in record.message] == []
    assert {key: ast.literal_eval(p["default"]) for key, p in shown.items()} == known


def test_bounds_in_words_and_texts_for_tuples_are_read_from_the_cell():
    known = parameters.specification(TRAIN)
    assert known["pairing"].bounds == (("at least", 0.0), ("at most", 1.0)) and known["width"].bounds == (
        ("above", 0.0),
    )
    for name, value in (("pairing", 1.01), ("pairing", -0.1), ("width", 0.0), ("seed", -1)):
        with pytest.raises(AtlabError, match=f"parameter '{name}' is {value}; allowed: a"):
            known[name].check(value)
    for given in ("conv1, conv5", ["conv1", "conv5"], ("conv1", "conv5")):
        assert known["layers"].check(given) == ("conv1", "conv5")
    assert known["layers"].parse("conv1,conv5") == ("conv1", "conv5") and known["held_out"].parse("7") == ("7",)
    with pytest.raises(AtlabError, match="parameter 'layers' is 5, a int; allowed: tuple"):
        known["layers"].check(5)


@pytest.mark.parametrize("given", ["conv1, conv5", ["conv1", "conv5"], ("conv1", "conv5")])
def test_names_are_tuples_however_they_are_written(given):
    settings = Settings(layers=given, orthogonal="speaker,emotion", held_out=[3])
    assert settings.layers == ("conv1", "conv5")
    assert (settings.orthogonal, settings.held_out) == (("speaker", "emotion"), ("3",))
    assert settings == replace(settings, layers=("conv1", "conv5")) and hash(settings) == hash(replace(settings))


def test_a_grid_may_write_lists_or_text(tmp_path):
    text = f"""
study: s
notebook: {TRAIN}
fixed: {{orthogonal: [speaker, emotion]}}
axes:
  arm:
    - {{strategy: at, layers: ["conv1, conv5", [conv1, conv5], conv9]}}
exclude:
  - {{layers: conv9}}
"""
    (tmp_path / "g.yaml").write_text(text)
    assert grid.load(tmp_path / "g.yaml").jobs == [
        {"orthogonal": ("speaker", "emotion"), "strategy": "at", "layers": ("conv1", "conv5")}
    ]


def test_people_see_names_with_commas(toy, tmp_path):
    settings = Settings(data=str(toy.path), strategy="at", layers=("conv1", "conv5"))
    from dataclasses import asdict

    with runs.open_run(tmp_path, "s", asdict(settings)) as run:
        run.finish({"test_accuracy": 0.5})
    row = runs.table(tmp_path / "s").iloc[0]
    assert (row["layers"], row["orthogonal"], row["held_out"]) == ("conv1, conv5", "speaker", "")
    assert experiment.from_parameters(runs.Run(row["path"]).parameters) == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": "wrod"}, "unknown factor 'wrod'; nearest: 'word'"),
        ({"orthogonal": "speaker,mood"}, "unknown factor 'mood'"),
        ({"split": "disjoint", "held_out": "speaker9"}, "unknown value of speaker 'speaker9'"),
        ({"layers": "conv1,conv14"}, "unknown layer 'conv14'; nearest"),
        ({"beta": 1e9}, "beta must be a finite number of at most"),
        ({"beta": 0.0}, "beta is 0, so strategy 'at' would learn as the baseline does"),
        ({"strategy": "dual_at"}, "takes two orthogonal factors in order"),
        ({"teacher_batch_size": 0}, "teacher_batch_size must be at least 1, found 0"),
        ({"teacher_learning_rate": float("nan")}, "teacher_learning_rate must be positive and finite, found nan"),
    ],
)
def test_what_a_run_requires_is_refused_without_a_kernel(toy, given, message):
    with pytest.raises(AtlabError, match=message):
        required_by({"data": str(toy.path)} | given)
    assert required_by({"data": str(toy.path), "strategy": "baseline"}) == []
    assert required_by({"data": str(toy.path), "orthogonal": "noise", "split_by": "source"})[0].task == "noise"


def test_teachers_have_the_form_and_schedule_of_their_students():
    student = Settings(batch_norm=True, head="pool", schedule="one_cycle", epochs=7)
    teacher = student.teacher()
    assert (teacher.batch_norm, teacher.head, teacher.schedule, teacher.epochs) == (True, "pool", "one_cycle", 7)
    assert teacher != replace(student, head="flatten").teacher() != replace(student, schedule="constant").teacher()


@pytest.mark.parametrize("orthogonal", ["speaker", "speaker@synthetic_commands"])
def test_teachers_have_a_batch_size_and_a_rate_of_their_own(orthogonal):
    student = Settings(orthogonal=orthogonal, teacher_batch_size=26, teacher_learning_rate=2e-3)
    teacher = student.teacher()
    assert (teacher.batch_size, teacher.learning_rate) == (26, 2e-3)
    assert replace(student, batch_size=20, learning_rate=1e-4).teacher() == teacher


@pytest.mark.parametrize("strategy", ["at", "frozen_wi"])
def test_a_run_with_batch_norm_and_one_cycle_is_whole(toy, tmp_path, strategy):
    """Its split is read back; a clip that batch norm would see alone joins another batch."""
    settings = Settings(
        **{"data": str(toy.path), "pairing": 0.8, "clips": 41, "batch_size": 10, "width": 1 / 32, "precision": "fp32"},
        **{"batch_norm": True, "head": "pool", "schedule": "one_cycle", "epochs": 2, "patience": 1},
        **{"strategy": strategy, "layers": ("conv1", "conv5"), "learning_rate": 2e-3},
    )
    run = experiment.train(settings, tmp_path, "s", progress=False)
    split, made = Split.load(run.path / "split.json", toy), settings.make_split(toy)
    assert all(np.array_equal(getattr(split, part), getattr(made, part)) for part in ("train", "validation", "test"))
    result = run.result()
    assert (result["train_clips"], result["epochs_run"]) == (len(split.train), 2) and len(split.train) == 41
    model = models.load(run.model_path)
    assert model.arguments["batch_norm"] and model.card["arguments"]["head"] == "pool"
    teacher = models.load(next((tmp_path / "networks").glob("*/model.safetensors")))
    assert teacher.arguments["batch_norm"] and teacher.arguments["head"] == "pool"
    same = [
        bool((a == b).all())
        for a, b in zip(model.features.state_dict().values(), teacher.features.state_dict().values(), strict=True)
    ]
    assert all(same[: 5 * 7]) == (strategy == "frozen_wi"), "statistics of frozen norms stay"


def test_a_clip_kernel_never_meets_a_batch_that_is_too_small(toy, tmp_path):
    """Of 42 training clips in batches of 20 two would be left: fewer than the kernel compares."""
    settings = Settings(
        **{"data": str(toy.path), "pairing": 0.8, "clips": 42, "batch_size": 20, "width": 1 / 32, "precision": "fp32"},
        **{"strategy": "at", "aggregation": "clip_kernel", "similarity": "cka", "epochs": 1, "patience": 1},
    )
    assert experiment.train(settings, tmp_path, "s", progress=False).result()["train_clips"] == 42


def test_what_a_strategy_does_not_read_is_said():
    assert remarks({"strategy": "wi", "beta": 7.0, "orthogonal": "speaker", "seed": 3}) == [
        "the strategy 'wi' does not use beta 7.0"
    ]
    assert remarks({"strategy": "baseline", "layers": ["conv1", "conv2"], "residual": True}) == [
        "the strategy 'baseline' does not use layers conv1, conv2, residual True"
    ]
    used = {"strategy": "at", "layers": "conv1", "beta": 7.0, "warm_up": 3, "start": "orthogonal", "published": True}
    for strategy, unread in [
        ("at", ""),
        ("inverse_at", ""),
        ("dual_at", "start orthogonal"),
        ("frozen_wi", "beta 7.0, published True, warm_up 3, start orthogonal"),
        ("gradient_reversal", "published True, start orthogonal"),
    ]:
        assert remarks(used | {"strategy": strategy}) == (
            [f"the strategy {strategy!r} does not use {unread}"] if unread else []
        )
