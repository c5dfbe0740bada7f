"""PACS: every picture with its class and domain, at one size; folders that are not its own are refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from PIL import Image

from atlab.data import splits
from atlab.errors import AtlabError
from data_recipes import pacs
from tests.recipes import corpora_images

DOMAINS = ("art_painting", "cartoon", "photo", "sketch")


@pytest.fixture
def raw(tmp_path):
    """Two to five pictures a class and domain, 227 x 227; a grey sketch, a text file, the twin of macOS."""
    for (d, domain), (c, name) in product(enumerate(DOMAINS), enumerate(pacs.CLASSES)):
        for n in range(2 + (d + c) % 4):
            mode = "L" if domain == "sketch" else "RGB"
            corpora_images.picture(tmp_path / "kfold" / domain / name / f"pic_{n:03d}.jpg", 227, 227, mode)
    (tmp_path / "kfold/photo/dog/._pic_000.jpg").write_bytes(b"\0\5\x16\7")
    (tmp_path / "kfold/photo/dog/list.txt").write_text("dogs")
    return tmp_path / "kfold"


def test_every_picture_with_class_and_domain(raw, tmp_path):
    Image.new("RGB", (227, 227), (10, 200, 90)).save(raw / "photo/dog/pic_000.jpg", quality=100)
    fs = pacs.prepare(raw, tmp_path / "out", workers=0)
    expected = {(d, c): 2 + (i + j) % 4 for i, d in enumerate(DOMAINS) for j, c in enumerate(pacs.CLASSES)}
    assert fs.factors.groupby(["domain", "class"]).size().to_dict() == expected
    assert fs.inputs.shape == (sum(expected.values()), 3, 64, 64) and fs.factor_names == ["class", "domain"]
    row = int(np.flatnonzero(fs.factors["id"] == "photo/dog/pic_000.jpg")[0])
    assert np.abs(fs.read([row])[0].astype(int) - np.array([10, 200, 90])[:, None, None]).max() <= 3
    sketch = fs.read(np.flatnonzero(fs.labels("domain") == "sketch"))
    assert (sketch[:, 0] == sketch[:, 1]).all() and (sketch[:, 0] == sketch[:, 2]).all()
    split = splits.disjoint(fs, by="domain", test=["sketch"])
    assert set(fs.labels("domain", split.test)) == {"sketch"} and len(split.test) == len(sketch)
    split.check(fs, "class")
    assert pacs.prepare(raw, tmp_path / "small", size=32, workers=0).inputs.shape[2:] == (32, 32)


def test_what_is_missing_or_strange_is_named(raw, tmp_path):
    with pytest.raises(AtlabError, match="size is 16; allowed: a whole number of at least 32"):
        pacs.prepare(raw, tmp_path / "out", size=16)
    (raw / "photo/dag").mkdir()
    with pytest.raises(AtlabError, match="unknown class folder in .*photo 'dag'; nearest: 'dog'"):
        pacs.prepare(raw, tmp_path / "out")
    (raw / "sketch").rename(tmp_path / "elsewhere")
    (raw / "photo/dag").rmdir()
    with pytest.raises(AtlabError, match="domain not found: expected .*sketch"):
        pacs.prepare(raw, tmp_path / "out")
    for domain in DOMAINS:
        (tmp_path / "bare" / domain).mkdir(parents=True)
    with pytest.raises(AtlabError, match=r"no pictures in .*bare: expected photo/dog/<picture>\.jpg"):
        pacs.prepare(tmp_path / "bare", tmp_path / "out")


def test_published_counts_add_up():
    assert sum(pacs.PUBLISHED.values()) == 9991 and len(pacs.CLASSES) == 7
