"""Embedded digits: fully crossed, visible, a source per handwritten digit, the same bytes everywhere."""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.linear_model import LogisticRegression

import data_recipes
from atlab.data import catalog, splits, synthetic_digits
from atlab.data.synthetic import digits
from atlab.errors import AtlabError


@pytest.fixture(scope="module")
def fs(tmp_path_factory):
    return synthetic_digits(tmp_path_factory.mktemp("digits") / "set", images=40, workers=0)


def test_the_design_is_fully_crossed(fs):
    cells = fs.factors.groupby(["digit", "ink", "background"]).size()
    assert set(cells.index) == set(product("0123456789", digits.INKS, digits.BACKGROUNDS)) and set(cells) == {10}
    assert fs.kind == "image" and fs.inputs.shape == (1600, 3, 32, 32) and fs.inputs.dtype == np.uint8
    assert fs.factor_names == ["digit", "ink", "background"]


def test_a_source_is_a_handwritten_digit_in_every_ink_and_on_every_background(fs):
    for source, clips in fs.factors.groupby("source"):
        assert set(clips.digit) == {str(load_digits().target[int(source)])}
        assert set(clips.ink) == set(digits.INKS) and set(clips.background) == set(digits.BACKGROUNDS)
    assert fs.factors.source.nunique() == 400


def test_a_picture_is_ink_on_a_crop_of_the_photograph(fs):
    """The pixels without ink are found in the photograph; those full of ink have its colour."""
    photographs = load_sample_images().images
    for row in range(0, 1600, 173):
        picture, labels = fs.read([row])[0].transpose(1, 2, 0), fs.factors.iloc[row]
        ink = (picture == digits.INKS[labels.ink]).all(axis=2)
        assert 20 < ink.sum() < 500
        photograph = photographs[0 if labels.background in ("sky", "temple") else 1]
        windows = np.lib.stride_tricks.sliding_window_view(photograph, (32, 32), axis=(0, 1))  # [.., .., 3, 32, 32]
        corners = [(0, 0), (0, 31), (31, 0), (31, 31)]
        match = sum((windows[..., y, x] == picture[y, x]).all(axis=-1).astype(int) for y, x in corners)
        agree = [(windows[y, x].transpose(1, 2, 0) == picture).all(axis=2) for y, x in np.argwhere(match >= 2)]
        crop = max(agree, key=np.sum)
        assert crop.sum() > 300 and not (crop & ink).any()


def test_the_ink_has_the_shape_of_the_handwritten_digit():
    """Against Pillow's bilinear scaling, wherever both are inside the frame."""
    image = load_digits().images[5]
    opacity = digits._place(image, np.random.default_rng(0))
    rows, columns = np.flatnonzero(opacity.any(axis=1)), np.flatnonzero(opacity.any(axis=0))
    best = 0.0
    for size in range(22, 31):
        scaled = np.asarray(Image.fromarray(image.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR))
        expected = np.minimum(scaled / 12, 1)
        used = np.flatnonzero(expected.any(axis=1)), np.flatnonzero(expected.any(axis=0))
        if all(len(a) == len(b) for a, b in zip(used, (rows, columns), strict=True)):
            difference = expected[np.ix_(*used)] - opacity[np.ix_(rows, columns)]
            best = max(best, 1 - np.abs(difference).max())
    assert best > 0.999


def test_splits_do_not_leak_and_can_be_confounded(fs):
    random = splits.random(fs, seed=1)
    random.check(fs, "digit")
    split = splits.confounded(fs, "digit", "background", p=0.9)
    split.check(fs, "digit")
    train = fs.factors.iloc[split.train]
    paired = [
        background in split.how["pairs"][digit] for digit, background in zip(train.digit, train.background, strict=True)
    ]
    assert len(train) >= 100 and 0.85 < np.mean(paired) < 0.95
    assert (fs.factors.iloc[split.test].groupby(["digit", "background"]).size() == 4).all()


@pytest.mark.parametrize(("factor", "least"), [("background", 0.6), ("ink", 0.5)])
def test_nuisances_can_be_told_from_the_average_colour(fs, factor, least):
    """Far above the chance of a quarter by three numbers per picture."""
    split = splits.random(fs, seed=0)
    colours = np.sort(fs.read(range(len(fs))).reshape(1600, 3, -1) / 255, axis=2)[:, :, [102, 512, 921]].reshape(
        1600, -1
    )
    model = LogisticRegression(max_iter=3000).fit(colours[split.train], fs.labels(factor, split.train))
    assert model.score(colours[split.test], fs.labels(factor, split.test)) > least


def test_processes_do_not_show_and_seeds_do(fs, tmp_path):
    again = data_recipes.get("synthetic_digits").prepare(None, tmp_path / "again", images=40, workers=2)
    assert again.content_hash == fs.content_hash
    other = synthetic_digits(tmp_path / "other", images=40, seed=1, workers=0)
    assert other.content_hash != fs.content_hash and set(other.factors.source) != set(fs.factors.source)


def test_the_name_opens_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAB_DATA", str(tmp_path))
    opened = catalog.load_data("synthetic_digits")
    assert opened.path == tmp_path / "synthetic_digits" and len(opened) == 6880
    assert set(opened.factors.groupby(["digit", "ink", "background"]).size()) == {43}
    assert {"synthetic_digits", "synthetic_commands"} <= set(catalog.data_sets())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 42}, "images is 42; allowed: multiples of 4 from 4 to 172"),
        ({"images": 176}, "images is 176"),
        ({"images": 4.0}, "images is 4.0"),
        ({"seed": -1}, "seed is -1; allowed: whole numbers from 0"),
    ],
)
def test_arguments_out_of_range(tmp_path, options, message):
    with pytest.raises(AtlabError, match=message):
        synthetic_digits(tmp_path / "set", **options)
    with pytest.raises(AtlabError, match="takes no raw folder"):
        data_recipes.get("synthetic_digits").prepare(tmp_path, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_missing_scikit_learn_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits._material.cache_clear()
    with pytest.raises(AtlabError, match="pip install scikit-learn"):
        synthetic_digits(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
