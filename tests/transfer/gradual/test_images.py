"""DenseNet-40 between image tasks: parts, channel statistics, block levels, shared networks, refused settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from atlab import models, runs
from atlab.errors import AtlabError
from atlab.experiment.skeleton import Job
from atlab.transfer.gradual import images
from atlab.transfer.gradual.images import ImageSettings, channel_statistics, required_by
from tests.transfer.images import images as made

SMALL = ImageSettings(width=1 / 12, epochs=1, batch_size=16, clips=33, target="class", source="parity")


def prepared_of(settings: ImageSettings, fs):
    return settings.prepare(Job(None, fs, settings.make_split(fs), [], torch.device("cpu"), False))


@pytest.fixture(scope="module")
def transferred(pictures, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    settings = replace(SMALL, data=str(pictures.path))
    return root, settings, images.train(settings, root, "blocks", progress=False)


def test_every_group_of_blocks_has_an_error(transferred):
    root, settings, run = transferred
    result = run.result()
    assert list(result["errors"]) == ["0", "block 1", "blocks 2-3", "blocks 4-5", "blocks 6-7"]
    assert all(0 <= error <= 1 for error in result["errors"].values())
    networks = runs.table(root / "networks").set_index("target")
    assert sorted(networks.index) == ["class", "parity"] and result["primary_error"] == networks.loc["class", "error"]
    assert (result["train_clips"], result["classes"]) == (33, 4)
    base = models.load(runs.Run(networks.loc["parity", "path"]).model_path)
    assert base.architecture == "densenet40" and base.card["classes"] == ["0", "1"]
    back = replace(settings, target="parity", source="class")
    assert set(required_by(settings)) == set(required_by(back)), "both directions share their networks"
    elsewhere, own = required_by({"data": "a", "target": "x", "source": "y@b", "source_epochs": 3, "device": "cpu"})
    assert (elsewhere.data, elsewhere.target, elsewhere.epochs) == ("b", "y", 3)
    assert (own.data, own.target, own.epochs) == ("a", "x", 50)
    assert elsewhere == required_by({"data": "b", "target": "y", "epochs": 3, "source": "z"})[1], (
        "shared with its own study"
    )


def test_parts_are_official_and_channels_are_normalised(pictures):
    settings = replace(SMALL, data=str(pictures.path), clips=0)
    split = settings.make_split(pictures)
    official = pictures.factors["official"].to_numpy()
    assert (official[split.test] == "test").all() and len(split.test) == (official == "test").sum()
    assert len(split.validation) == round(0.1 * (official == "train").sum())
    prepared = prepared_of(settings, pictures)
    mean, std = prepared.normalisation
    x = pictures.read(split.train).astype(float) / 255
    assert mean[:, 0, 0] == pytest.approx(x.mean((0, 2, 3)), abs=1e-6)
    assert std[:, 0, 0] == pytest.approx(x.std((0, 2, 3)), abs=1e-6)
    without = type(pictures)(pictures.path, pictures.card, pictures.factors.drop(columns="official"), pictures.inputs)
    parts = settings.make_split(without)
    assert not set(parts.train) & set(parts.test) and len(parts.train) > len(parts.test)


def test_a_picture_that_would_be_alone_joins_another_batch(pictures):
    prepared = prepared_of(replace(SMALL, data=str(pictures.path), clips=33), pictures)
    assert prepared.counts["train_clips"] == 33 and [len(batch.x) for batch in prepared.train.epoch(0)] == [16, 17]


def test_errors_are_shares_of_wrong_images(pictures):
    settings = replace(SMALL, data=str(pictures.path))
    prepared = prepared_of(settings, pictures)
    model = settings.network(4, 0).eval()
    split = settings.make_split(pictures)
    with torch.no_grad():
        found = [
            model(torch.from_numpy(pictures.read(rows) / 255).float()).argmax(1).numpy()
            for rows in (split.validation, split.test)
        ]
    codes = pictures.codes("class")
    expected = [np.mean(f != codes[rows]) for f, rows in zip(found, (split.validation, split.test), strict=True)]
    assert prepared.errors(model, False) == pytest.approx(expected)
    assert channel_statistics(prepared.train)[0].shape == (3, 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "none"}, "unknown base 'none'"),
        ({"role": "both"}, "unknown role 'both'"),
        ({"source": "digit"}, "source and target are the same: 'digit' of 'synthetic_digits'"),
        ({"source": "digit@synthetic_digits"}, "source and target are the same"),
        ({"source": "digit@"}, "expected an orthogonal task as FACTOR"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        ({"clips": -1}, "clips must be at least 0, found -1"),
    ],
)
def test_settings_that_are_not_allowed_are_named(change, message):
    with pytest.raises(AtlabError, match=message):
        replace(ImageSettings(), **change).check()


def test_the_copied_network_may_be_a_file_or_one_of_another_data_set(transferred, pictures, tmp_path):
    root, settings, run = transferred
    file = runs.Run(runs.table(root / "networks").set_index("target").loc["parity", "path"]).model_path
    named = replace(settings, source=f"file:{file}")
    assert [need.target for need in required_by(named)] == ["class"]
    again = images.train(named, root, "files", progress=False)
    assert again.result()["errors"] == run.result()["errors"], "the same network, however it is named"
    small = made(tmp_path / "small", per_class=4, side=8)
    with pytest.raises(AtlabError, match="has another shape of an item"):
        replace(settings, source=f"class@{small.path}").make_split(pictures)


def test_house_numbers_are_divided_by_256(pictures):
    named = type(pictures)(pictures.path, pictures.card | {"name": "svhn"}, pictures.factors, pictures.inputs)
    settings = replace(SMALL, data=str(pictures.path))
    model = settings.network(4, 0)
    model.set_normalisation(*prepared_of(settings, named).normalisation)
    pixels = pictures.read([0])
    assert model.normalise(torch.from_numpy(pixels) / 255).numpy() == pytest.approx(pixels / 256, abs=1e-6)


def test_sound_is_refused(spoken):
    with pytest.raises(AtlabError, match="holds audio; DenseNet-40 takes images"):
        replace(ImageSettings(), data=str(spoken.path)).data_set()
