"""One run from data to folder: no leak into the teacher, nothing twice, the same bits after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import atlab
from atlab import experiment, models, runs
from atlab.errors import AtlabError
from atlab.experiment import Settings, skeleton


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return atlab.data.toy(tmp_path_factory.mktemp("data") / "toy", words=3, speakers=6, repetitions=8, samples=4096)


@pytest.fixture
def tiny(toy) -> Settings:
    return Settings(data=str(toy.path), width=1 / 16, epochs=1, batch_size=16, pairing=0.8, precision="fp32")


def of_split(settings: Settings, split: str) -> Settings:
    return settings if split == "confounded" else replace(settings, split=split, pairing=Settings.pairing)


@pytest.mark.parametrize("split", ["confounded", "random", "disjoint"])
def test_a_run_is_whole_and_the_teacher_saw_no_test_clip(tiny, toy, tmp_path, split):
    settings = of_split(tiny, split)
    run = experiment.train(settings, tmp_path, "s", progress=False)
    teacher = experiment.train(settings.teacher(), tmp_path, "s", progress=False)
    assert run.done and {"params.json", "result.json", "history.parquet", "model.safetensors", "done"} <= set(
        os.listdir(run.path)
    )
    of_student, of_teacher = (json.loads((r.path / "split.json").read_text()) for r in (run, teacher))
    seen_by_teacher = set(of_teacher["train"] + of_teacher["validation"] + of_teacher["test"])
    assert not seen_by_teacher & set(of_student["test"])
    assert not set(of_student["train"]) & set(of_student["test"])
    result, model = run.result(), models.load(run.model_path)
    assert model.card["task"] == "word" and model.card["data"] == toy.content_hash
    predictions = pd.read_parquet(run.path / "predictions.parquet")
    assert result["test_accuracy"] == pytest.approx((predictions["code"] == predictions["prediction"]).mean())
    assert set(toy.factors["id"].iloc[predictions["row"]]) == set(of_student["test"])
    assert "train_at" in run.history() and (run.history()["train_at"] > 0).all()


def test_a_done_run_is_read_and_not_repeated(tiny, tmp_path, monkeypatch):
    first = experiment.train(replace(tiny, strategy="baseline"), tmp_path, "s", progress=False)
    monkeypatch.setattr(skeleton, "learn", lambda *a: pytest.fail("trained again"))
    again = experiment.train(replace(tiny, strategy="baseline"), tmp_path, "s", progress=False)
    assert again.path == first.path and again.result() == first.result()


def test_one_teacher_serves_all_students_of_a_study(tiny, tmp_path):
    wanted = [replace(tiny, strategy=s, seed=seed) for seed in (0, 1) for s in ("baseline", "wi", "at")]
    table = experiment.train_many(wanted, tmp_path, "s", workers=2)
    assert table[["strategy", "seed"]].values.tolist() == [[s.strategy, s.seed] for s in wanted]
    assert runs.table(tmp_path / "s")["role"].tolist() == ["student"] * 6
    networks = runs.table(tmp_path / "networks")
    assert networks["role"].tolist() == ["teacher"]
    # The conv weights of WI start at the teacher's, AT's do not; after one epoch that still shows.
    teacher = models.load(runs.Run(networks["path"][0]).model_path)
    distance = {
        s: float(
            (models.load(f"{path}/model.safetensors").features[0].weight - teacher.features[0].weight)
            .abs()
            .mean()
            .detach()
        )
        for s, path in zip(table["strategy"], table["run"], strict=True)
    }
    assert distance["wi"] < 0.5 * distance["at"]


def test_cached_and_live_teachers_train_the_same_network(tiny, tmp_path):
    runs_ = [experiment.train(replace(tiny, cached=cached), tmp_path, "s", progress=False) for cached in (True, False)]
    live, cached = (r.history()["train_at"].to_numpy() for r in runs_)
    assert np.allclose(live, cached, rtol=5e-3)
    assert (tmp_path / "caches").exists()


KILLED = """
import sys
from atlab import experiment
from atlab.experiment import Settings
import torch
torch.set_num_threads(1)
experiment.train(Settings(**eval(sys.argv[1])), sys.argv[2], "s", progress=False)
"""


def test_killed_during_training_a_rerun_ends_with_the_same_weights(tiny, tmp_path):
    import torch

    settings = replace(tiny, strategy="baseline", epochs=6, patience=6)
    process = subprocess.Popen([sys.executable, "-c", KILLED, repr(vars(settings)), str(tmp_path / "killed")])
    limit = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("s/*/checkpoint*")):
        assert process.poll() is None and time.monotonic() < limit, "the run ended before a checkpoint was seen"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").glob("s/*/done"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed, whole = (
            experiment.train(settings, tmp_path / name, "s", progress=False) for name in ("killed", "whole")
        )
    finally:
        torch.set_num_threads(threads)
    assert models.weights_hash(models.load(resumed.model_path)) == models.weights_hash(models.load(whole.model_path))
    assert resumed.result() == whole.result()


def test_the_teacher_is_shared_by_every_strategy_layer_and_beta(tiny):
    students = [
        tiny,
        replace(tiny, strategy="wi"),
        replace(tiny, beta=2.0, layers="conv9", seed=4),
        replace(tiny, batch_size=32, learning_rate=1e-3, clips=9),
    ]
    assert len({s.teacher() for s in students}) == 1
    assert replace(tiny, width=1.0).teacher() != tiny.teacher()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "wrod"}, "unknown factor 'wrod'; nearest: 'word'"),
        ({"orthogonal": "emotion"}, "unknown factor 'emotion'"),
        ({"strategy": "att"}, "unknown strategy 'att'; nearest: 'at'"),
        ({"split": "speaker"}, "unknown split 'speaker'; allowed: random, disjoint, confounded, official"),
        ({"data": "nowhere"}, "no data set at 'nowhere'"),
        ({"split": "disjoint", "split_by": "word", "pairing": 0.9}, "a single class of 'word'"),
        ({"orthogonal": "word"}, "the target 'word' cannot be its own orthogonal task"),
        (
            {"split": "disjoint", "held_out": "speaker9", "pairing": 0.9},
            "unknown value of speaker 'speaker9'; nearest: 'speaker",
        ),
        ({"held_out": "speaker1"}, "only a disjoint split holds values out; split is 'confounded'"),
        ({"split": "random"}, "only a confounded split pairs factors; split is 'random'"),
        ({"noise": "loud"}, "unknown noise 'loud'"),
        ({"start": "speaker"}, "unknown start 'speaker'; allowed: random, orthogonal"),
        ({"clips": -1}, "clips must be at least 0, found -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, found 0"),
        ({"beta": -1e9}, r"beta must be a finite number of at most 1e\+06 in size, found -1000000000.0"),
        ({"head": "pooled"}, "unknown head 'pooled'; nearest: 'pool'"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine'"),
        ({"layers": 5}, "expected names in a list, or in a text with commas between them, found 5"),
        ({"strategy": "dual_at"}, "takes two orthogonal factors in order"),
        ({"strategy": "wi", "orthogonal": "speaker,noise"}, "takes exactly one network, found 2"),
        ({"orthogonal": "", "strategy": "baseline"}, "a confounded split goes by a factor"),
        ({"orthogonal": "", "split_by": "speaker"}, "needs a network of an orthogonal task, found none"),
        ({"strategy": "gradient_reversal", "layers": "conv1,conv5"}, "reads one layer"),
        ({"strategy": "frozen_wi", "layers": "features.3"}, "unknown convolution to freeze up to 'features.3'"),
        ({"layers": "conv14"}, "unknown layer 'conv14'; nearest"),
        ({"published": True, "aggregation": "mean"}, "published=True reproduces the authors' loss"),
        ({"beta": float("inf")}, "beta must be a finite number"),
    ],
)
def test_bad_settings_are_named_and_leave_no_done_run(tiny, tmp_path, change, message):
    with pytest.raises(AtlabError, match=message):
        experiment.train(replace(tiny, **change), tmp_path, "s", progress=False)
    assert list(tmp_path.glob("*/*/done")) == [], "nothing is trained before settings are known to be good"
