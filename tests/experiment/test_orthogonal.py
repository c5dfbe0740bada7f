"""Orthogonal networks from other data sets and from files: trained once, shared, checked before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atlab import experiment, models, runs
from atlab.data import Clip, build, toy
from atlab.errors import AtlabError
from atlab.experiment import Settings
from atlab.labels import NAMES, WITHOUT_NETWORK
from atlab.strategies import STRATEGIES

SMALL = {"split": "random", "width": 1 / 64, "epochs": 1, "batch_size": 26, "layers": "conv5"}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return toy(folder / "words", repetitions=6), toy(folder / "voices", speakers=3, repetitions=6, seed=5)


def settings(sets, **given) -> Settings:
    return Settings(data=str(sets[0].path), **SMALL | {"orthogonal": f"speaker@{sets[1].path}"} | given)


def test_a_network_of_another_set_is_trained_there_once_and_shared(sets, tmp_path):
    first = experiment.train(settings(sets, seed=0), tmp_path, "s", progress=False)
    again = experiment.train(settings(sets, seed=1, layers="conv2"), tmp_path, "s", progress=False)
    (network,) = runs.table(tmp_path / "networks")["path"]
    card = models.load(runs.Run(network).model_path).card
    assert (card["data"], card["task"], len(card["classes"])) == (sets[1].content_hash, "speaker", 3)
    found = first.result()["orthogonal_networks"]
    assert found == again.result()["orthogonal_networks"]
    (values,) = found.values()
    assert values["chance"] == pytest.approx(1 / 3)
    assert values["test_accuracy"] == runs.Run(network).result()["test_accuracy"]


def test_the_teacher_is_that_network(sets, tmp_path):
    """WI starts from the other set's network: after no step at all its convolutions are that network's."""
    need = settings(sets, strategy="wi").required()[0]
    other = experiment.train(need, tmp_path, "networks", progress=False)
    run = experiment.train(settings(sets, strategy="wi", learning_rate=1e-30), tmp_path, "s", progress=False)
    ours, theirs = models.load(run.model_path), models.load(other.model_path)
    assert all(
        np.allclose(ours.state_dict()[n], t) for n, t in theirs.state_dict().items() if n.startswith("features.")
    )


def test_a_file_needs_no_training_and_is_part_of_the_id(sets, tmp_path):
    need = settings(sets).required()[0]
    other = experiment.train(need, tmp_path / "elsewhere", "networks", progress=False)
    wanted = settings(sets, orthogonal=f"file:{other.model_path}")
    assert wanted.required() == [] and wanted.sources() == [other.model_path]
    by_file = experiment.train(wanted, tmp_path, "s", progress=False)
    by_name = experiment.train(settings(sets), tmp_path / "elsewhere", "s", progress=False)
    assert by_file.result()["test_loss"] == by_name.result()["test_loss"]  # the same network, so the same numbers
    net = models.load(other.model_path)
    net.features[0].weight.data.mul_(2)
    models.save(net, other.model_path, input=net.card["input"])
    assert experiment.train(wanted, tmp_path, "s", progress=False).id != by_file.id


def test_several_and_dual(sets, tmp_path):
    both = settings(sets, orthogonal=("speaker", f"word@{sets[1].path}"))
    assert [need.data for need in both.required()] == [str(sets[0].path), str(sets[1].path)]
    dual = settings(sets, orthogonal=(f"speaker@{sets[1].path}", "speaker"), strategy="dual_at")
    stage, second = dual.required()
    assert (stage.strategy, stage.required()[0].data, second.data) == ("at", str(sets[1].path), str(sets[0].path))
    run = experiment.train(dual, tmp_path, "s", progress=False)
    assert list(run.result()["orthogonal_networks"]) == ["speaker"]


def test_what_cannot_be_is_said_before_anything_is_trained(sets, tmp_path):
    long = toy(tmp_path / "long", samples=9000)
    with pytest.raises(AtlabError, match="another shape of an item"):
        experiment.train(settings(sets, orthogonal=f"speaker@{long.path}"), tmp_path / "runs", "s", progress=False)
    with pytest.raises(AtlabError, match="needs orthogonal labels of the student's own clips"):
        settings(sets, strategy="gradient_reversal").check_values()
    with pytest.raises(AtlabError, match="a confounded split goes by a factor of the data set"):
        settings(sets, split="confounded").split_spec()
    with pytest.raises(AtlabError, match="expected an orthogonal task"):
        settings(sets, orthogonal="@x").check_values()
    assert not (tmp_path / "runs").exists()


def test_noise_that_would_have_no_effect_is_refused(sets, tmp_path):
    noisy = settings(sets, noise="low").data_set()
    with pytest.raises(AtlabError, match="has noise already: choose noise='none'"):
        settings(sets, noise="high").seen(noisy)
    assert settings(sets, noise="all", role="teacher").seen(noisy) is noisy
    with pytest.raises(AtlabError, match="noise_from is 'street', but noise is 'none'"):
        settings(sets, noise_from="street").check_values()


def test_a_noise_network_of_another_set_hears_the_recorded_noise_unless_the_set_brings_its_own(sets, tmp_path):
    student = settings(sets, orthogonal=f"noise@{sets[1].path}", noise_from="street")
    student.check_values()
    assert (student.teacher().noise, student.teacher().noise_from) == ("all", "street")
    assert settings(sets, noise_from="street", noise="low").teacher().noise_from == ""
    dual = replace(student, strategy="dual_at", orthogonal=(f"speaker@{sets[1].path}", *student.orthogonal))
    first, network = dual.required()
    first.check_values()
    assert (first.noise_from, network.noise_from) == ("", "street")
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    (noisy / "card.json").write_text('{"factors": {"noise": 11}}')
    assert replace(student, orthogonal=f"noise@{noisy}").teacher().noise_from == ""


def test_the_students_own_data_set_under_another_name_is_refused(sets, tmp_path):
    """Its network would be trained on clips that test the student."""
    with pytest.raises(AtlabError, match="names the target's own data set: write 'speaker'"):
        experiment.train(settings(sets, orthogonal=f"speaker@{sets[0].path}"), tmp_path, "s", progress=False)
    with pytest.raises(AtlabError, match="names the target's own data set"):
        noisy = settings(sets, orthogonal=f"speaker@{sets[0].path}", noise="low")
        experiment.train(noisy, tmp_path, "s", progress=False)
    assert not any(tmp_path.iterdir())


def test_a_target_is_not_its_own_orthogonal_task(sets):
    with pytest.raises(AtlabError, match="the target 'word' cannot be its own orthogonal task"):
        settings(sets, orthogonal=("speaker", "word")).check_values()
    settings(sets, orthogonal="word", strategy="baseline").check_values()


def test_every_strategy_has_a_name_for_people():
    assert set(STRATEGIES) == set(NAMES) and set(WITHOUT_NETWORK) < set(NAMES)


def test_speakers_with_one_clip_stop_no_study(tmp_path):
    """The speaker network tells those speakers apart that it was trained on, and is tested on no others."""
    names = [f"s{n if n % 2 else n % 8}" for n in range(160)]
    fs = toy(tmp_path / "crowd", words=4, speakers=8, repetitions=5)
    crowd = build(
        tmp_path / "of_one",
        range(160),
        lambda n: [Clip(fs.inputs[n], fs.factors.loc[n, ["id", "source", "duration", "word"]].to_dict() | {"speaker": names[n]})],
        card=fs.card,
        factors=["word", "speaker"],
        workers=0,
    )  # fmt: skip
    for strategy in ("at", "gradient_reversal"):
        s = Settings(data=str(crowd.path), strategy=strategy, **SMALL)
        assert experiment.train(s, tmp_path / "runs", "s", progress=False).done
