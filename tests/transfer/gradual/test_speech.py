"""Phones and emotions: parts without common speakers, error rates, shared networks, transfers that start where they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import recall_score

from atlab import models, runs
from atlab.errors import AtlabError
from atlab.transfer.gradual import speech
from atlab.transfer.gradual.speech import SpeechSettings, required_by
from atlab.transfer.phones.frames import features
from atlab.transfer.phones.tasks import emotion_task, joined, unweighted_error, utterance_predictions

SMALL = SpeechSettings(width=1 / 32, clips=30, every=8, epochs=2, batch_size=64, learning_rate=0.01, held="0,2,5")


def test_speakers_of_the_two_tasks_and_of_the_parts_are_different_people(spoken):
    speakers = spoken.labels("speaker")
    said = {}
    for task in ("phone", "emotion"):
        split = SpeechSettings(task=task).make_split(spoken)
        said[task] = [set(speakers[rows]) for rows in (split.train, split.validation, split.test)]
    everybody = [name for task in said.values() for part in task for name in part]
    assert sorted(everybody) == sorted(set(speakers)), "nobody is on two sides"
    assert [len(part) for part in said["emotion"]] == [2, 2, 1] and [len(part) for part in said["phone"]] == [1, 2, 2]
    phone = SpeechSettings(task="phone").make_split(spoken)
    assert set(spoken.labels("emotion")[phone.train]) == {"neutral"}
    folds = {next(iter(set(speakers[SpeechSettings(fold=k).make_split(spoken).test]))) for k in range(3)}
    assert len(folds) == 3
    with pytest.raises(AtlabError, match="fold 3 of 3: 5 speakers, of whom two validate"):
        SpeechSettings(fold=3).make_split(spoken)
    assert len(SpeechSettings(clips=7).make_split(spoken).train) == 7


def test_a_data_set_of_its_own_gives_all_its_speakers_to_emotions(spoken):
    split = SpeechSettings(emotion_data="elsewhere", fold=7).make_split(spoken)
    speakers = spoken.labels("speaker")
    assert len(set(speakers[split.train])) == 7 and set(speakers[split.validation]) == {"spk08", "spk09"}
    with pytest.raises(AtlabError, match="2 speakers are too few|fold 0 of 0"):
        few = type(spoken)(spoken.path, spoken.card, spoken.factors[spoken.labels("speaker") < "spk02"], spoken.inputs)
        SpeechSettings(emotion_data="elsewhere").make_split(few)


def test_official_parts_are_taken_where_the_data_has_them(spoken):
    with_parts = type(spoken)(spoken.path, spoken.card, spoken.factors.assign(official="train"), spoken.inputs)
    with_parts.factors.loc[:9, "official"] = "test"
    with_parts.factors.loc[10:14, "official"] = "validation"
    split = SpeechSettings(task="phone").make_split(with_parts)
    assert split.test.tolist() == list(range(10)) and split.validation.tolist() == list(range(10, 15))


def test_utterances_are_judged_by_mean_posteriors_and_classes_weigh_alike():
    rng = np.random.default_rng(0)
    clip = np.repeat(np.arange(30), rng.integers(1, 9, 30))
    posteriors = rng.dirichlet(np.ones(4), len(clip))
    found = utterance_predictions(posteriors, clip)
    assert found.tolist() == [posteriors[clip == k].mean(0).argmax() for k in range(30)]
    codes = rng.choice(4, 30, p=[0.7, 0.1, 0.1, 0.1])
    assert unweighted_error(found, codes) == pytest.approx(
        1 - recall_score(codes, found, average="macro", zero_division=0)
    )


def test_requirements_are_shared_by_all_that_can_share_them():
    emotion = replace(SMALL, fold=1, seed=4)
    needs = required_by(emotion)
    assert [(need.task, need.role, need.fold) for need in needs] == [("phone", "primary", 0), ("emotion", "primary", 1)]
    assert (
        set(needs)
        == set(required_by(replace(emotion, task="phone")))
        == set(required_by(replace(emotion, base="random", held="")))
    )
    assert required_by(needs[0]) == []
    assert required_by({"task": "phone", "device": "cpu"})[0].task == "emotion"


@pytest.fixture(scope="module")
def transferred(spoken, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    settings = replace(SMALL, data=str(spoken.path))
    return root, {
        task: speech.train(replace(settings, task=task), root, progress=False) for task in ("emotion", "phone")
    }


def test_a_transfer_gives_an_error_for_every_number_of_held_layers(transferred):
    root, found = transferred
    networks = runs.table(root / "networks").set_index("task")
    assert sorted(networks.index) == ["emotion", "phone"], "one network a task, for both directions"
    for task, run in found.items():
        result = run.result()
        assert (
            list(result["errors"]) == ["0", "layer 2", "layer 5"]
            and result["classes"] == {"emotion": 2, "phone": 144}[task]
        )
        assert all(error >= 0 for error in result["errors"].values())
        assert (
            result["primary_error"] == networks.loc[task, "error"]
            and result["train_clips"] == {"emotion": 30, "phone": 10}[task]
        )
        assert run.history().groupby("held").size().to_dict() == {0: 2, 2: 2, 5: 2}
        classes = models.load(runs.Run(networks.loc[task, "path"]).model_path).card["classes"]
        assert classes[:2] == {"emotion": ["angry", "neutral"], "phone": ["aa/0", "aa/1"]}[task]
    assert (
        speech.train(replace(SMALL, data=found["phone"].parameters["data"]), root, progress=False).path
        == found["emotion"].path
    )


def test_the_copied_network_may_be_a_file(transferred):
    root, found = transferred
    networks = runs.table(root / "networks").set_index("task")
    file = runs.Run(networks.loc["phone", "path"]).model_path
    settings = replace(SMALL, data=found["emotion"].parameters["data"], base=f"file:{file}")
    assert [need.task for need in required_by(settings)] == ["emotion"] and settings.orthogonal == (f"file:{file}",)
    run = speech.train(settings, root, "files", progress=False)
    assert run.result()["errors"] == found["emotion"].result()["errors"], "the same network, however it is named"
    assert run.result()["primary_error"] == found["emotion"].result()["primary_error"]
    with pytest.raises(AtlabError, match="a fayek_a of width 0.03125; expected a fayek_a of width 0.0625"):
        speech.train(replace(settings, width=1 / 16, epochs=1, clips=10), root, "files", progress=False)


def test_emotions_of_parts_of_utterances_are_refused(spoken):
    factors = spoken.factors.assign(
        source=spoken.factors["source"].where(spoken.factors.index > 0, spoken.factors["source"][1])
    )
    cut = type(spoken)(spoken.path, spoken.card, factors, spoken.inputs)
    with pytest.raises(AtlabError, match="judged by whole utterances, and 1 clips are further parts of a recording"):
        emotion_task(cut, {"train": features(cut, [0, 1, 2]), "test": features(cut, [3])})


def test_an_untrained_output_layer_is_at_chance_and_training_is_not(spoken, tmp_path):
    """Phones of one speaker's words, learned and found in two others'."""
    settings = SpeechSettings(
        data=str(spoken.path),
        task="phone",
        role="primary",
        width=1 / 16,
        epochs=20,
        patience=20,
        learning_rate=0.005,
        batch_size=64,
    )
    run = speech.train(settings, tmp_path, "networks", progress=False)
    worst = speech.train(replace(settings, epochs=1, learning_rate=1e-8), tmp_path, "networks", progress=False)
    assert run.result()["error"] < 0.6 < worst.result()["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "word"}, "unknown task 'word'"),
        ({"model": "c"}, "unknown model 'c'"),
        ({"base": "none"}, "unknown base 'none'.*file:PATH"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        ({"output_epochs": 0}, "output_epochs must be at least 1, found 0"),
        ({"role": "both"}, "unknown role 'both'"),
        ({"held": "0,6"}, "unknown number of held layers of model a: '6'"),
        ({"every": 0}, "every must be at least 1, found 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, found 1"),
    ],
)
def test_settings_that_are_not_allowed_are_named(change, message):
    with pytest.raises(AtlabError, match=message):
        replace(SpeechSettings(), **change).check()


def test_all_layers_are_the_default_levels():
    assert list(SpeechSettings(model="b").levels().values()) == list(range(13))
    assert SpeechSettings(model="b", held="0, 12").levels() == {"0": 0, "layer 12": 12}


def test_joined_frames_are_one_after_the_other(spoken):
    both = joined(features(spoken, [0, 5]), features(spoken, [7]))
    whole = features(spoken, [0, 5, 7])
    for name in ("rows", "offsets", "first"):
        assert (getattr(both, name) == getattr(whole, name)).all()
    assert (both.x == whole.x).all()
