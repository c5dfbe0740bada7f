"""Morpho-MNIST: digits, measures, quantile classes and resized pixels against the files written here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from atlab.data.splits import hold_out
from atlab.errors import AtlabError
from data_recipes import morpho_mnist
from data_recipes.morpho_mnist import MEASURES
from tests.recipes import corpora_images as corpora
from tests.recipes.corpora import snapshot


def test_the_factor_set_in_full(tmp_path):
    written = corpora.morpho_mnist(tmp_path / "raw", (300, 40), missing=3)
    before = snapshot(tmp_path / "raw")
    fs = morpho_mnist.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    table = fs.factors
    assert len(fs) == 297 + 37 and fs.kind == "image" and fs.card["dropped"] == {"no row of measures": 6}
    assert fs.factor_names == ["digit", *(f"{name}_class" for name in MEASURES)]
    assert table["official"].tolist() == ["train"] * 297 + ["test"] * 37
    assert table["digit"].tolist() == [str(n % 10) for n in (*range(297), *range(37))]
    assert table["id"].is_unique and table["id"].iloc[[0, 297]].tolist() == ["train_000000", "test_000000"]
    measured = pd.concat(
        [pd.read_csv(tmp_path / "raw" / "original" / f"{part}-morpho.csv") for part in ("train", "t10k")]
    )
    for name in MEASURES:
        np.testing.assert_array_equal(table[name], measured[name])
        train = np.sort(measured[name].iloc[:297])
        assert table.loc[:296, f"{name}_class"].value_counts().to_dict() == {"q1": 99, "q2": 99, "q3": 99}
        low, high = ((train[98] + train[99]) / 2, (train[197] + train[198]) / 2)  # between the thirds, any edge will do
        classes = np.where(table[name] < low, "q1", np.where(table[name] < high, "q2", "q3"))
        near = np.isin(table[name], train) | (np.abs(table[name] - low) > 0.5) & (np.abs(table[name] - high) > 0.5)
        assert (table[f"{name}_class"] == classes)[near].all()
    for row, image in ((5, written["train"][5]), (300, written["t10k"][3])):
        expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(fs.read([row])[0, 0], expected)
    assert set(fs.card["parameters"]["quantile_edges"]) == set(MEASURES)
    assert snapshot(tmp_path / "raw") == before and not list(tmp_path.glob(".out.idx*"))


def test_quantile_edges_come_from_training_only_and_the_split_is_official(tmp_path):
    corpora.morpho_mnist(tmp_path / "raw", (300, 40))
    fs = morpho_mnist.prepare(tmp_path / "raw", tmp_path / "out", classes=2, workers=0)
    train = fs.factors[fs.factors["official"] == "train"]
    assert fs.card["parameters"]["quantile_edges"]["slant"] == [pytest.approx(np.median(train["slant"]))]
    split = hold_out(fs, 50)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [250, 50, 40]
    assert not set(split.train) & set(split.validation) and set(split.test) == set(range(300, 340))


def test_missing_columns_and_values(tmp_path):
    corpora.morpho_mnist(tmp_path / "raw")
    path = tmp_path / "raw" / "original" / "train-morpho.csv"
    text = path.read_text()
    for wrong, message in (
        (text.replace("thickness", "thicknes"), "unknown column of .*'thickness'; nearest: 'thicknes'"),
        (text.replace("\n3,", "\n2,"), "an index twice or outside 0 to 29"),
        (text.replace("\n3,", "\n99,"), "an index twice or outside 0 to 29"),
        (text + "29,,1,1,1,1,1\n", "column 'area' that is not a number"),
        (text + "x,1,1,1,1,1,1\n", "column 'index' that is not a number"),
    ):
        path.write_text(wrong)
        with pytest.raises(AtlabError, match=message):
            morpho_mnist.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    path.unlink()
    with pytest.raises(AtlabError, match="train-morpho.csv not found; looked in"):
        morpho_mnist.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    assert not [p for p in tmp_path.iterdir() if p.is_dir() and p.name != "raw"]


def test_too_many_classes_for_the_values(tmp_path):
    corpora.morpho_mnist(tmp_path / "raw")
    for part in ("train", "t10k"):
        path = tmp_path / "raw" / "original" / f"{part}-morpho.csv"
        pd.read_csv(path).assign(area=1.0).to_csv(path, index=False)
    with pytest.raises(AtlabError, match=r"3 quantile classes need 2 different edges; found \[1.0, 1.0\]"):
        morpho_mnist.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    with pytest.raises(AtlabError, match="classes is 1; allowed: a whole number of at least 2"):
        morpho_mnist.prepare(tmp_path / "raw", tmp_path / "out", classes=1)
