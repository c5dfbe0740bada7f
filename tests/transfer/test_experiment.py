"""Transfer runs: base networks trained once and shared, treatments that hold what they promise, edge cases, pairs of factors."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import atlab
from atlab import models, runs
from atlab.errors import AtlabError
from atlab.experiment.settings import Settings
from atlab.runs import parameters
from atlab.transfer import layers
from atlab.transfer.experiment import TransferSettings, draw, from_parameters, required_by, train, train_required
from tests.transfer.images import images


@pytest.fixture(scope="module")
def tiny(pictures) -> TransferSettings:
    return TransferSettings(
        data=str(pictures.path),
        halves="made",
        width=1 / 32,
        epochs=2,
        patience=9,
        batch_size=8,
        precision="fp32",
        learning_rate=0.002,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def state(run, start: int, end: int | None = None) -> list[torch.Tensor]:
    parts = list(layers(models.load(run.model_path)).values())[start:end]
    return [t for part in parts for t in part.state_dict().values()]


def network(root, **wanted):
    """The only base network with these settings."""
    found = [runs.Run(p.parent) for p in (root / "networks").glob("*/done")]
    found = [r for r in found if all(r.parameters[k] == v for k, v in wanted.items())]
    assert len(found) == 1, f"{len(found)} networks"
    return found[0]


def test_treatments_share_base_networks_and_copy_them(tiny, root):
    for treatment, half in (("BnB", "B"), ("AnB", "A"), ("BnB+", "B"), ("AnB+", "A")):
        run = train(replace(tiny, treatment=treatment), root, progress=False)
        copied, base = state(run, 0, 3), state(network(root, half=half), 0, 3)
        frozen = not treatment.endswith("+")
        assert all(torch.equal(a, b) for a, b in zip(copied, base, strict=True)) == frozen
        assert run.result()["prefix"] == ("cached" if frozen else "learns")
        assert models.load(run.model_path).card["classes"] == ["bird", "cat"]
    assert len(list((root / "networks").glob("*/done"))) == 2, "each half's network was trained once"


def test_the_result_is_what_the_model_and_the_split_give(tiny, root, pictures):
    run = train(replace(tiny, treatment="AnB"), root, progress=False)
    split, result = tiny.make_split(pictures), run.result()
    rows = pictures.factors.index[
        (pictures.factors["official"] == "test") & pictures.factors["class"].isin(["bird", "cat"])
    ]
    assert split.test.tolist() == rows.tolist()
    x = torch.from_numpy(pictures.read(rows)).float() / 255
    with torch.no_grad():
        predicted = models.load(run.model_path)(x).argmax(1).numpy()
    right = predicted == (pictures.labels("class", rows) == "cat")
    assert result["test_accuracy"] == pytest.approx(right.mean()) and result["classes"] == 2
    assert pd.read_parquet(run.path / "predictions.parquet")["prediction"].tolist() == predicted.tolist()
    assert result["train_clips"] + result["validation_clips"] == 36 and result["test_clips"] == 12
    assert result["epochs_run"] == 2 == len(run.history())


def test_recomputed_and_cached_prefixes_train_alike(tiny, root):
    cached, live = (train(replace(tiny, treatment="BnB", cached=c), root, progress=False) for c in (True, False))
    assert live.result()["prefix"] == "run" and cached.path != live.path
    for name in ("train_loss", "validation_loss", "test_loss"):
        assert cached.result()[name] == pytest.approx(live.result()[name], abs=5e-4), "Adam amplifies rounding"


def test_base_is_the_shared_network_and_n_0_and_n_8_are_it_too(tiny, root):
    base = network(root, half="B")
    for treatment, n in (("base", 0), ("BnB", 0), ("AnB", 0), ("BnB", 8)):
        run = train(replace(tiny, treatment=treatment, n=n), root, progress=False)
        assert all(torch.equal(a, b) for a, b in zip(state(run, 0), state(base, 0), strict=True))
        same = {k: v for k, v in run.result().items() if "accuracy" in k or "loss" in k}
        assert same == pytest.approx({k: base.result()[k] for k in same}) and run.result()["epochs_run"] == 0
    longer = train(replace(tiny, treatment="BnB+", n=8), root, progress=False)
    assert longer.result()["epochs_run"] == 2 and not torch.equal(state(longer, 0)[0], state(base, 0)[0])
    assert len(list((root / "networks").glob("*/done"))) == 2


def test_new_layers_are_not_those_that_the_base_network_grew_from(tiny):
    seeds = {
        draw(replace(tiny, treatment=t, n=n, seed=s)) for t in ("BnB", "AnB", "random") for n in (1, 5) for s in (0, 1)
    }
    assert len(seeds) == 12 and not seeds & {0, 1}
    assert draw(replace(tiny, treatment="base", n=0, seed=1)) == 1


def test_random_layers_need_no_network_and_stay(tiny, root, tmp_path):
    run = train(replace(tiny, treatment="random"), tmp_path, progress=False)
    torch.manual_seed(draw(replace(tiny, treatment="random")))
    fresh = models.alexnet(2, 1 / 32, images="small")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            state(run, 0, 3),
            [t for p in list(layers(fresh).values())[:3] for t in p.state_dict().values()],
            strict=True,
        )
    )
    assert not (tmp_path / "networks").exists()


def test_what_is_required_is_the_other_half_or_the_own_one(tiny):
    assert [n.half for n in required_by(asdict(replace(tiny, treatment="AnB")))] == ["A"]
    assert [n.half for n in required_by(replace(tiny, treatment="AnB", half="A"))] == ["B"]
    assert [n.half for n in required_by(replace(tiny, treatment="BnB+"))] == ["B"]
    assert required_by(replace(tiny, treatment="random")) == []
    (need,) = required_by(replace(tiny, treatment="AnB", n=5))
    assert (need,) == tuple(required_by(replace(tiny, treatment="AnB+", n=2))) and required_by(need) == []
    assert from_parameters({**asdict(tiny), "device": "cpu"}) == tiny


def test_the_notebooks_defaults_are_the_settings(tiny):
    """A sweep asks what a run requires with the grid's parameters only; the notebook with all of them."""
    notebook = Path(__file__).parents[2] / "notebooks/experiments/train_transfer.ipynb"
    defaults = parameters.defaults(notebook)
    assert {**asdict(TransferSettings()), "device": "auto", "run_dir": ""} == {**defaults, "role": "treatment"}


def test_a_requirement_is_trained_once(tiny, root):
    (need,) = required_by(tiny)
    before = network(root, half="A").path / "model.safetensors"
    written = before.stat().st_mtime_ns
    train_required(need, root, "anything")
    assert before.stat().st_mtime_ns == written


def test_two_factors_take_the_networks_of_anti_transfer(tmp_path):
    fs = atlab.data.toy(tmp_path / "toy", words=3, speakers=4, repetitions=6, samples=4096)
    settings = TransferSettings(
        data=str(fs.path),
        target="word",
        base="speaker",
        treatment="AnB",
        n=13,
        split="disjoint",
        split_by="speaker",
        architecture="vgg16",
        width=1 / 32,
        epochs=1,
        patience=5,
        batch_size=13,
        learning_rate=5e-4,
        precision="fp32",
    )
    at = Settings(
        data=str(fs.path),
        target="word",
        orthogonal="speaker",
        split="disjoint",
        split_by="speaker",
        width=1 / 32,
        epochs=1,
        precision="fp32",
        layers="conv13",
        strategy="at",
        seed=4,
    )
    assert required_by(settings) == at.required()
    run = train(settings, tmp_path, progress=False)
    speaker = network(tmp_path, orthogonal=["speaker"])
    assert all(torch.equal(a, b) for a, b in zip(state(run, 0, 13), state(speaker, 0, 13), strict=True))
    assert json.loads((run.path / "split.json").read_text())["test"] == [
        fs.factors["id"][r] for r in at.make_split(fs).test
    ]
    scratch = train(replace(settings, treatment="base", n=0), tmp_path, progress=False)
    again = atlab.experiment.train(replace(at, strategy="baseline", seed=0), tmp_path, progress=False)
    assert scratch.result()["test_loss"] == pytest.approx(again.result()["test_loss"]), "the baseline of anti-transfer"
    assert required_by(replace(settings, treatment="BnB")) == [replace(at.required()[0], orthogonal=("word",))]


@pytest.fixture(scope="module")
def spoken_words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    own = atlab.data.toy(folder / "own", words=3, speakers=4, repetitions=6, samples=4096)
    other = atlab.data.toy(folder / "other", words=2, speakers=5, repetitions=6, samples=4096)
    return own, other


def test_the_other_task_may_be_one_of_another_data_set_or_a_model_file(spoken_words, tmp_path):
    own, other = spoken_words
    settings = TransferSettings(
        data=str(own.path), target="word", base=f"speaker@{other.path}", n=13, split="random", architecture="vgg16",
        width=1 / 32, epochs=1, batch_size=16, precision="fp32",
    )  # fmt: skip
    (need,) = required_by(settings)
    assert (need.data, need.task, need.role) == (str(other.path), "speaker", "teacher")
    run = train(settings, tmp_path, progress=False)
    elsewhere = network(tmp_path, data=str(other.path))
    same = [state(r, 0, 13) for r in (run, elsewhere)]
    assert all(torch.equal(a, b) for a, b in zip(*same, strict=True))
    assert models.load(elsewhere.model_path).card["classes"] == other.classes("speaker")
    by_file = replace(settings, base=f"file:{elsewhere.model_path}")
    assert required_by(by_file) == []
    again = train(by_file, tmp_path / "alone", progress=False)
    assert not (tmp_path / "alone/networks").exists()
    for name in ("train_loss", "test_loss", "test_accuracy"):
        assert again.result()[name] == run.result()[name], "the same network, however it is named"


def test_a_run_is_known_by_what_its_base_names(spoken_words, tmp_path):
    own, other = spoken_words
    settings = TransferSettings(data=str(own.path), base=f"word@{other.path}", split="random", architecture="vgg16")
    with pytest.raises(AtlabError, match="names the target's own data set"):
        replace(settings, target="speaker", base=f"word@{own.path}").make_split(own)
    with pytest.raises(AtlabError, match=r"the orthogonal network 'gone.safetensors' is not there"):
        required_by(replace(settings, target="speaker", base="file:gone.safetensors"))
    assert settings.orthogonal == (f"word@{other.path}",) and TransferSettings().orthogonal == ()


def test_crops_iterations_and_the_papers_solver(tiny, pictures, tmp_path):
    """36 training and validation clips of a half: 32 to train, 4 steps an epoch, 9 iterations in 3 epochs."""
    settings = replace(
        tiny, treatment="base", n=0, crop=15, optimizer="caffe", learning_rate=0.01, iterations=9, role="base"
    )
    assert [settings.duration(batches) for batches in (4, 9, 10)] == [3, 1, 1] and tiny.duration(4) == 2
    run = train(settings, tmp_path, progress=False)
    batches = -(-run.result()["train_clips"] // 8)
    assert run.result()["epochs_run"] == len(run.history()) == -(-9 // batches)
    rows = tiny.make_split(pictures).test
    x = (
        torch.from_numpy(pictures.read(rows))[:, :, :15, :15].float() / 255
    )  # the centre of 16, rounded as torchvision does
    with torch.no_grad():
        predicted = models.load(run.model_path)(x).argmax(1).numpy()
    assert pd.read_parquet(run.path / "predictions.parquet")["prediction"].tolist() == predicted.tolist()
    frozen = train(replace(tiny, crop=15, cached=False, treatment="random", epochs=1), tmp_path, progress=False)
    assert frozen.result()["prefix"] == "run"


def test_the_reference_network_sees_pixels_less_their_mean(tiny, tmp_path):
    large = images(tmp_path / "large", per_class=8, side=70)
    settings = replace(tiny, data=str(large.path), architecture="caffenet", width=1 / 64, epochs=1, treatment="random")
    run = train(settings, tmp_path, progress=False)
    net, train_rows = models.load(run.model_path), settings.make_split(large).train
    assert float(net.input_std) == pytest.approx(1 / 255)
    assert float(net.input_mean) == pytest.approx(large.read(train_rows).mean() / 255, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"half": "C"}, "half.*'C'"),
        ({"split": "oficial"}, "split.*'oficial'.*official"),
        ({"architecture": "resnet"}, "architecture.*'resnet'"),
        ({"role": "teacher"}, "role.*'teacher'"),
        ({"treatment": "AnB", "n": 8}, "leaves no layer to learn"),
        ({"treatment": "BnB", "n": 9}, "0 to 8, found 9"),
        ({"split": "disjoint"}, "a disjoint one goes with another task"),
        ({"base": "parity"}, "split random or disjoint and vgg16, .*got official and alexnet"),
        (
            {"base": "class", "split": "random", "architecture": "vgg16", "halves": "random"},
            "base and target are both 'class'",
        ),
        ({"base_seed": 2}, "base_seed is 2, but the tasks are halves of one factor"),
        ({"split_by": "parity"}, "split_by is 'parity', but the tasks are halves"),
        (
            {"base": "parity", "split": "random", "architecture": "vgg16"},
            "halves is 'made', but the tasks are not halves of one factor: expected 'random'",
        ),
        ({"clips": -1}, "clips must be at least 0, found -1"),
        ({"crop": 12}, "in every epoch: set cached=False"),
        (
            {"crop": 17, "treatment": "random", "cached": False},
            "a crop of 17 x 17 cannot be cut from images of 16 x 16",
        ),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        (
            {"base": "parity@", "halves": "random", "split": "random", "architecture": "vgg16"},
            "expected an orthogonal task as FACTOR",
        ),
        ({"halves": "parity"}, "does not divide"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_trained(tiny, tmp_path, change, message):
    with pytest.raises(AtlabError, match=message):
        train(replace(tiny, **change), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_set_without_official_parts_is_split_at_random(tmp_path):
    fs = atlab.data.toy(tmp_path / "toy", words=4)
    settings = TransferSettings(data=str(fs.path), target="word", architecture="vgg16")
    with pytest.raises(AtlabError, match="has no official split"):
        settings.make_split(fs)
    split = replace(settings, split="random", clips=10).make_split(fs)
    assert len(split.train) == 10 and len(set(fs.labels("word", split.train))) == 2
    assert not np.intersect1d(split.train, split.test).size
