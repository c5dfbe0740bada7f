"""CIFAR, SVHN, MNIST and image folders: every pixel, label and split against the files written here."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from atlab.data.splits import hold_out
from atlab.data.splits import official as official_split
from atlab.errors import AtlabError
from data_recipes import cifar10, cifar100, fashion_mnist, imagenet, images, mnist, records, svhn
from data_recipes.torchvision_sets import assign_halves
from tests.recipes import corpora_images as corpora
from tests.recipes.corpora import snapshot


def assert_whole(fs, inputs: np.ndarray, **columns: list) -> None:
    """A FactorSet holds these images in this order, with these columns, unique ids and a source per image."""
    np.testing.assert_array_equal(fs.read(np.arange(len(fs))), inputs)
    assert fs.kind == "image" and fs.sample_rate is None and inputs.dtype == np.uint8
    assert fs.factors["id"].is_unique and fs.factors["source"].is_unique and (fs.factors["duration"] == 0).all()
    for name, values in columns.items():
        assert fs.factors[name].tolist() == list(values), name


def left_in(folder: Path) -> list[str]:
    """What a recipe left there, hidden folders included; an empty lock file may stay."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


# ---- CIFAR


def test_cifar10_from_the_binary_version(tmp_path):
    pictures, labels = corpora.cifar10(tmp_path / "raw")
    before = snapshot(tmp_path / "raw")
    fs = cifar10.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    names = [cifar10.CLASSES[n] for n in labels]
    assert_whole(fs, pictures, official=["train"] * 100 + ["test"] * 10, **{"class": names})
    assert fs.factor_names == ["class", "half", "man_made"]
    made = {"airplane", "automobile", "ship", "truck"}
    assert fs.factors["man_made"].tolist() == ["man-made" if name in made else "natural" for name in names]
    sides = fs.factors.groupby("class")["half"].unique()
    assert all(len(side) == 1 for side in sides) and sorted(side[0] for side in sides) == ["A"] * 5 + ["B"] * 5
    assert fs.factors["id"].iloc[[0, 100]].tolist() == ["data_batch_1_000000", "test_batch_000000"]
    assert fs.card["published_clips"] == {
        "found": {"train": 100, "test": 10},
        "published": {"train": 50_000, "test": 10_000},
    }
    assert snapshot(tmp_path / "raw") == before and left_in(tmp_path) == ["out", "raw"]


def test_what_differs_from_the_published_counts_is_said_in_one_line(tmp_path, capsys):
    corpora.cifar10(tmp_path / "raw")
    cifar10.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    assert (
        "cifar10: differs from the published corpus: train 100 instead of 50,000, test 10 instead of 10,000\n"
        in capsys.readouterr().out
    )


def test_halves_are_random_by_seed_and_by_class(tmp_path):
    corpora.cifar10(tmp_path / "raw")
    fs = cifar10.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    np.testing.assert_array_equal(cifar10.halves(fs, 0), fs.factors["half"])
    divisions = {tuple(cifar10.halves(fs, seed)) for seed in range(8)}
    assert len(divisions) > 4
    for seed in range(8):
        sides = cifar10.halves(fs, seed)
        by_class = {name: set(sides[fs.labels("class") == name]) for name in cifar10.CLASSES}
        assert all(len(side) == 1 for side in by_class.values()) and (sides == "A").sum() == 55
    assert list(assign_halves("abc").values()).count("A") == 1
    with pytest.raises(AtlabError, match="unknown factor 'clas'; nearest: 'class'"):
        cifar10.halves(fs, factor="clas")


@pytest.fixture(scope="module")
def cifar_of_5100(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar")
    corpora.cifar10(folder / "raw", per_batch=1020, tested=30)
    return cifar10.prepare(folder / "raw", folder / "out", workers=0)


def test_the_official_split_of_cifar_is_that_of_fayek(cifar_of_5100):
    """A tenth of the training images validates: 5,000 of 50,000."""
    split = official_split(cifar_of_5100, seed=3)
    official = cifar_of_5100.factors["official"].to_numpy()
    assert [len(part) for part in (split.train, split.validation, split.test)] == [4590, 510, 30]
    assert sorted([*split.train, *split.validation]) == np.flatnonzero(official == "train").tolist()
    assert split.test.tolist() == np.flatnonzero(official == "test").tolist()
    assert (np.diff(split.train) > 0).all() and (np.diff(split.validation) > 0).all()
    assert split.validation.tolist() != official_split(cifar_of_5100, seed=4).validation.tolist()
    assert split.validation.tolist() == official_split(cifar_of_5100, seed=3).validation.tolist()


def test_a_validation_part_must_leave_something_to_train(cifar_of_5100):
    with pytest.raises(AtlabError, match="6,000 validation images cannot be held out of 5,100 training images"):
        hold_out(cifar_of_5100, 6_000)
    with pytest.raises(AtlabError, match="0 validation images"):
        hold_out(cifar_of_5100, 0)


def test_the_pickled_version_is_refused_unopened(tmp_path):
    for module, folder, name in (
        (cifar10, "cifar-10-batches-py", "data_batch_1"),
        (cifar100, "cifar-100-python", "train"),
    ):
        bomb = tmp_path / module.NAME / folder / name
        bomb.parent.mkdir(parents=True)
        bomb.write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
        with pytest.raises(
            AtlabError, match="pickles that atlab never loads: get the binary version, cifar-10+-binary.tar.gz"
        ):
            module.prepare(tmp_path / module.NAME, tmp_path / "out", workers=0)
    assert not Path("opened").exists() and not (tmp_path / "out").exists()


def test_cifar_files_that_are_missing_truncated_or_have_foreign_labels(tmp_path):
    with pytest.raises(AtlabError, match="raw data not found"):
        cifar10.prepare(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AtlabError, match="no CIFAR in .*empty: expected data_batch_1.bin ... test_batch.bin"):
        cifar10.prepare(tmp_path / "empty", tmp_path / "out")
    corpora.cifar10(tmp_path / "raw")
    batch = tmp_path / "raw" / "cifar-10-batches-bin" / "data_batch_3.bin"
    content = batch.read_bytes()
    batch.write_bytes(content[:-1])
    with pytest.raises(AtlabError, match="data_batch_3.bin is truncated: its 61,459 bytes are not a multiple of 3,073"):
        cifar10.prepare(tmp_path / "raw", tmp_path / "out")
    batch.write_bytes(b"\x0a" + content[1:])
    with pytest.raises(AtlabError, match="class number 10; allowed: 0 to 9"):
        cifar10.prepare(tmp_path / "raw", tmp_path / "out")
    batch.unlink()
    with pytest.raises(AtlabError, match="data_batch_3.bin not found; looked in"):
        cifar10.prepare(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cifar100_has_its_superclasses(tmp_path):
    assert len(cifar100.CLASSES) == 100 and cifar100.CLASSES[0] == "apple" and cifar100.CLASSES[99] == "worm"
    assert len(cifar100.SUPERCLASSES) == 20 and list(cifar100.SUPERCLASSES) == sorted(cifar100.SUPERCLASSES)
    fine = np.arange(100)
    coarse = np.array([list(cifar100.SUPERCLASSES).index(cifar100.GROUP[name]) for name in cifar100.CLASSES])
    assert coarse[:10].tolist() == [4, 1, 14, 8, 0, 6, 7, 7, 18, 3]  # the first of the official list
    labels = np.stack([coarse, fine], axis=1)
    train = corpora.write_cifar(tmp_path / "raw" / "cifar-100-binary" / "train.bin", labels)
    test = corpora.write_cifar(tmp_path / "raw" / "cifar-100-binary" / "test.bin", labels[::-1], seed=1)
    fs = cifar100.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    names = [*cifar100.CLASSES, *cifar100.CLASSES[::-1]]
    assert_whole(
        fs,
        np.concatenate([train, test]),
        official=["train"] * 100 + ["test"] * 100,
        superclass=[cifar100.GROUP[name] for name in names],
        **{"class": names},
    )
    assert sorted(fs.factors["half"]) == ["A"] * 100 + ["B"] * 100
    assert (fs.factors.groupby("superclass")["class"].nunique() == 5).all()


def test_cifar_from_an_image_folder_and_from_an_archive(tmp_path):
    folder = tmp_path / "raw" / "cifar10"
    written = [
        corpora.picture(folder / split / name / "a.png", seed=seed)
        for seed, (split, name) in enumerate([("test", "cat"), ("train", "dog"), ("train", "ship")])
    ]
    fs = cifar10.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    assert_whole(
        fs,
        np.stack(written).transpose(0, 3, 1, 2),
        official=["test", "train", "train"],
        id=["test/cat/a.png", "train/dog/a.png", "train/ship/a.png"],
        man_made=["natural", "natural", "man-made"],
    )
    for archive in ("set.tar.gz", "set.zip"):
        if archive.endswith("zip"):
            with zipfile.ZipFile(tmp_path / archive, "w") as file:
                for path in folder.rglob("*.png"):
                    file.write(path, path.relative_to(tmp_path / "raw"))
        else:
            with tarfile.open(tmp_path / archive, "w:gz") as file:
                file.add(folder, "cifar10")
        packed = cifar10.prepare(tmp_path / archive, tmp_path / f"out-{archive}", workers=0)
        assert packed.content_hash == fs.content_hash
    assert not list(tmp_path.glob(".out*unpacked"))


def test_a_foreign_class_folder_is_named(tmp_path):
    corpora.picture(tmp_path / "train" / "catt" / "a.png")
    with pytest.raises(AtlabError, match="unknown class folder in .* 'catt'; nearest: 'cat'"):
        cifar10.prepare(tmp_path, tmp_path / "out", workers=0)


# ---- SVHN


@pytest.mark.parametrize("compressed", [True, False])
def test_svhn_in_full(tmp_path, compressed):
    written = corpora.svhn(tmp_path / "raw", {"train": 300, "extra": 25, "test": 11}, compressed)
    before = snapshot(tmp_path / "raw")
    fs = svhn.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    expected = np.concatenate([written[part].transpose(3, 2, 0, 1) for part in ("train", "extra", "test")])
    digits = [str((n + 1) % 10) for size in (300, 25, 11) for n in np.arange(size) % 10]
    assert_whole(fs, expected, official=["train"] * 300 + ["extra"] * 25 + ["test"] * 11, **{"class": digits})
    assert fs.factor_names == ["class", "half"] and digits[9] == "0"
    split = official_split(fs)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [322, 3, 11]
    assert round(svhn.VALIDATION * (svhn.PUBLISHED["train"] + svhn.PUBLISHED["extra"])) == 6_000
    assert set(fs.factors["official"].iloc[split.test]) == {"test"}
    assert snapshot(tmp_path / "raw") == before and left_in(tmp_path) == ["out", "raw"]


def test_svhn_without_the_extra_images(tmp_path):
    corpora.svhn(tmp_path / "raw", {"train": 30, "test": 11})
    with pytest.raises(AtlabError, match="extra_32x32.mat not found; looked in"):
        svhn.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    fs = svhn.prepare(tmp_path / "raw", tmp_path / "out", extra=False, workers=0)
    assert "official_validation" not in fs.card and len(official_split(fs).validation) == 3
    assert len(fs) == 41 and fs.card["published_clips"]["published"] == {"train": 73_257, "test": 26_032}


def test_svhn_files_that_are_truncated_or_foreign(tmp_path):
    corpora.svhn(tmp_path / "raw", {"train": 30, "test": 11})
    path = tmp_path / "raw" / "train_32x32.mat"
    whole = path.read_bytes()
    for cut in (0, 64, 200, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(AtlabError, match="train_32x32.mat is no complete SVHN file"):
            svhn.prepare(tmp_path / "raw", tmp_path / "out", extra=False, workers=0)
    for content, message in (
        ({"Z": np.zeros(3, np.uint8)}, "no variable X"),
        ({"X": np.zeros((32, 32, 3, 4)), "y": np.ones((4, 1))}, "X is not an array of uint8"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((3, 1))}, r"shape \(32, 32, 3, 4\) for 3 labels"),
        ({"X": np.full((2, 2), "a", object), "y": np.ones((4, 1))}, "X is not an array of uint8 but of cell"),
        ({"X": {"a": np.zeros(3, np.uint8)}, "y": np.ones((4, 1))}, "X is not an array of uint8 but of struct"),
    ):
        savemat(path, content)
        with pytest.raises(AtlabError, match=message):
            svhn.prepare(tmp_path / "raw", tmp_path / "out", extra=False, workers=0)
    assert left_in(tmp_path) == ["raw"]


def test_svhn_files_of_any_size_are_bounded_before_they_are_read(tmp_path, monkeypatch):
    corpora.svhn(tmp_path / "raw", {"train": 30, "test": 11})
    monkeypatch.setattr(records, "LARGEST", 30 * 3072 - 1)
    with pytest.raises(AtlabError, match="92,160 bytes; allowed are 92,159"):
        svhn.prepare(tmp_path / "raw", tmp_path / "out", extra=False, workers=0)
    (tmp_path / "raw" / "train_32x32.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(600))
    with pytest.raises(AtlabError, match="train_32x32.mat is no complete SVHN file"):
        svhn.prepare(tmp_path / "raw", tmp_path / "out", extra=False, workers=0)
    assert left_in(tmp_path) == ["raw"]


# ---- MNIST and Fashion-MNIST


@pytest.mark.parametrize(
    ("module", "folder", "suffix"),
    [(mnist, "MNIST/raw", ""), (mnist, ".", ".gz"), (fashion_mnist, "FashionMNIST/raw", ".gz")],
)
def test_idx_sets_in_full(tmp_path, module, folder, suffix):
    written = corpora.idx_set(tmp_path / "raw" / folder, suffix=suffix)
    before = snapshot(tmp_path / "raw")
    fs = module.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    names = getattr(module, "CLASSES", "0123456789")
    classes = [names[n % 10] for size in (30, 12) for n in range(size)]
    assert_whole(
        fs,
        np.concatenate([written["train"], written["t10k"]])[:, None],
        official=["train"] * 30 + ["test"] * 12,
        **{"class": classes},
    )
    assert fs.factor_names == ["class", "half"] and len(fs.classes("class")) == 10
    split = module.hold_out(fs, 6)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [24, 6, 12]
    assert snapshot(tmp_path / "raw") == before and left_in(tmp_path) == ["out", "raw"]


def test_mnist_equals_torchvisions_reading(tmp_path):
    from torchvision.datasets import MNIST

    corpora.idx_set(tmp_path / "raw" / "MNIST" / "raw", suffix="")
    fs = mnist.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    for train, part in ((True, "train"), (False, "test")):
        theirs = MNIST(tmp_path / "raw", train=train, download=False)
        rows = np.flatnonzero(fs.factors["official"] == part)
        np.testing.assert_array_equal(fs.read(rows)[:, 0], theirs.data.numpy())
        assert fs.labels("class", rows).astype(int).tolist() == theirs.targets.tolist()


def test_svhn_equals_torchvisions_reading(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN

    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)  # the MD5 of the official files
    corpora.svhn(tmp_path / "raw", {"train": 30, "test": 11})
    fs = svhn.prepare(tmp_path / "raw", tmp_path / "out", extra=False, workers=0)
    for part in ("train", "test"):
        theirs = SVHN(tmp_path / "raw", split=part, download=False)
        rows = np.flatnonzero(fs.factors["official"] == part)
        np.testing.assert_array_equal(fs.read(rows), theirs.data)
        assert fs.labels("class", rows).astype(int).tolist() == theirs.labels.tolist()


def test_idx_files_that_are_missing_truncated_or_foreign(tmp_path):
    corpora.idx_set(tmp_path / "raw", suffix="")
    labels, pixels = (tmp_path / "raw" / f"train-{kind}-ubyte" for kind in ("labels-idx1", "images-idx3"))
    whole = {path: path.read_bytes() for path in (labels, pixels)}
    for path, content, message in (
        (labels, whole[labels][:-1], r"is truncated or padded: its header says \(30,\), it holds 29 bytes"),
        (labels, b"hello", "is no idx file of bytes"),
        (labels, b"", "is no idx file of bytes"),
        (labels, whole[labels][:-1] + b"\x0a", "class number 10; allowed: 0 to 9"),
        (labels, whole[labels].replace(b"\0\0\0\x1e", b"\0\0\0\x1d", 1)[:-1], r"labels of shape \(29,\) for images"),
    ):
        path.write_bytes(content)
        with pytest.raises(AtlabError, match=message):
            mnist.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
        path.write_bytes(whole[path])
    pixels.unlink()
    with pytest.raises(AtlabError, match="train-images-idx3-ubyte or train-images-idx3-ubyte.gz not found; looked in"):
        mnist.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    (tmp_path / "raw" / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08 no gzip")
    with pytest.raises(AtlabError, match="train-images-idx3-ubyte.gz cannot be read"):
        mnist.prepare(tmp_path / "raw", tmp_path / "out", workers=0)
    assert left_in(tmp_path) == ["raw"]


# ---- ImageNet and image folders


def imagenet_folder(root: Path) -> list[str]:
    """train and val of four classes, sizes and modes mixed."""
    names = ["n01440764", "n02666196", "n07714571", "n15075141"]  # tench, abacus, head cabbage, toilet tissue
    for seed, name in enumerate(names):
        corpora.picture(root / "train" / name / f"{name}_1.JPEG", 90, 60, seed=seed)
        corpora.picture(root / "train" / name / f"{name}_2.JPEG", 40, 50, mode="L" if seed else "RGB", seed=seed)
        corpora.picture(root / "val" / name / "ILSVRC2012_val_1.JPEG", 64, 64, seed=9 + seed)
    (root / "meta.bin").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    return names


def test_imagenet_in_full(tmp_path):
    names = imagenet_folder(tmp_path / "raw")
    fs = imagenet.prepare(tmp_path / "raw", tmp_path / "out", size=32, workers=0)
    assert fs.read(np.arange(12)).shape == (12, 3, 32, 32)
    assert fs.factor_names == ["class", "half", "man_made"] and set(fs.factors["man_made"]) == {"man-made", "natural"}
    assert fs.factors["official"].tolist() == ["train"] * 8 + ["validation"] * 4
    assert fs.factors["class"].tolist() == [name for name in names for _ in range(2)] + names
    assert fs.factors["id"].iloc[8] == "val/n01440764/ILSVRC2012_val_1.JPEG"
    assert fs.factors.groupby("half")["class"].nunique().to_dict() == {"A": 2, "B": 2}
    split = imagenet.hold_out(fs, 3)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [5, 3, 4]
    assert set(fs.factors["official"].iloc[split.test]) == {"validation"}
    assert fs.card["parameters"] == {"size": 32} and not Path("opened").exists()


def test_imagenets_man_made_classes_are_those_of_the_published_lists():
    # Neighbours in the order of the ids, on both sides of every change: indices 397, 398, 935, 936, 958, 959, 969 to 972, 998, 999.
    sides = {
        "natural": ["n01440764", "n02655020", "n07714571", "n07802026", "n09193705", "n09246464", "n13133613"],
        "man-made": ["n02666196", "n03929660", "n07711569", "n07831146", "n07932039", "n09229709", "n15075141"],
        "unknown": ["c0", "n0766619", "cats"],
    }
    assert {side: [imagenet.man_made(w) for w in wnids] for side, wnids in sides.items()} == {
        side: [side] * len(wnids) for side, wnids in sides.items()
    }


def test_pictures_are_scaled_to_the_shorter_side_and_cropped_about_the_centre(tmp_path):
    array = np.zeros((64, 192, 3), np.uint8)
    array[:, 64:128] = (10, 200, 30)  # the middle square
    Image.fromarray(array).save(tmp_path / "a.png")
    inner = images.read_image(tmp_path / "a.png", 16)[:, 3:-3, 3:-3]
    assert (inner == np.array([10, 200, 30])[:, None, None]).all()
    assert images.read_image(tmp_path / "a.png").shape == (3, 64, 192)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), array.transpose(2, 0, 1))


def test_broken_pictures_are_counted_and_too_many_fail(tmp_path):
    for n in range(120):
        corpora.picture(tmp_path / "raw" / "train" / f"c{n % 2}" / f"{n}.png", 8, 8, seed=n)
    (tmp_path / "raw" / "train" / "c0" / "0.png").write_bytes(b"")
    fs = imagenet.prepare(tmp_path / "raw", tmp_path / "out", size=8, workers=0)
    assert len(fs) == 119 and fs.card["dropped"] == {"broken": 1} and "train/c0/0.png" not in set(fs.factors["id"])
    whole = (tmp_path / "raw" / "train" / "c1" / "1.png").read_bytes()
    (tmp_path / "raw" / "train" / "c1" / "1.png").write_bytes(whole[:100])
    with pytest.raises(AtlabError, match="2 of 120 items are broken, more than 1 %"):
        imagenet.prepare(tmp_path / "raw", tmp_path / "out2", size=8, workers=0)


def test_image_folders_without_pictures_or_with_odd_folders(tmp_path):
    (tmp_path / "a" / "train" / "x").mkdir(parents=True)
    with pytest.raises(AtlabError, match="no pictures in .*: expected <split>/<class>/<picture>"):
        imagenet.prepare(tmp_path / "a", tmp_path / "out")
    corpora.picture(tmp_path / "a" / "train" / "x" / "1.png")
    corpora.picture(tmp_path / "a" / "trial" / "x" / "1.png")
    with pytest.raises(AtlabError, match="has the folder 'trial' next to its splits; allowed: test"):
        imagenet.prepare(tmp_path / "a", tmp_path / "out")
    with pytest.raises(AtlabError, match="size is 2; allowed: a whole number of at least 8"):
        imagenet.prepare(tmp_path / "a", tmp_path / "out", size=2)


def test_archives_that_would_leave_their_folder_are_refused(tmp_path):
    (tmp_path / "evil.txt").write_text("x")
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.add(tmp_path / "evil.txt", "../escaped.txt")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(tmp_path / "evil.txt", "../escaped.txt")
    with tarfile.open(tmp_path / "b.tar", "w") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        file.addfile(link)
    for name in ("a.tar", "a.zip", "b.tar"):
        with pytest.raises(AtlabError, match=f"{name} holds '.*', which points outside its folder: refused"):
            cifar10.prepare(tmp_path / name, tmp_path / "deep" / "out", workers=0)
    assert not list(tmp_path.rglob("escaped.txt")) and not left_in(tmp_path / "deep")


def test_broken_archives_and_other_files(tmp_path):
    for name, message in (
        ("a.tar", "cannot be unpacked"),
        ("a.zip", "cannot be unpacked"),
        ("a.txt", "is no folder and no archive"),
    ):
        (tmp_path / name).write_bytes(b"nothing of the kind" * 100)
        with pytest.raises(AtlabError, match=message):
            mnist.prepare(tmp_path / name, tmp_path / "out", workers=0)


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_archives_that_unpack_to_far_more_than_their_size_are_refused(tmp_path, monkeypatch, kind):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "zeros").write_bytes(bytes(5_000_000))
    path = Path(shutil.make_archive(str(tmp_path / "a"), kind, tmp_path / "raw"))
    images.unpack(path, tmp_path / "small enough")
    monkeypatch.setattr(images, "UNPACKED", 4_000_000)
    with pytest.raises(AtlabError, match="unpacks to more than 0.0 GB, 100 times its size"):
        images.unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_archives_that_would_fill_the_disk_are_refused(tmp_path, monkeypatch, kind):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "zeros").write_bytes(bytes(5_000_000))
    path = Path(shutil.make_archive(str(tmp_path / "a"), kind, tmp_path / "raw"))
    assert path.stat().st_size < 50_000
    usage = shutil.disk_usage(tmp_path)._replace(free=4_999_999)
    monkeypatch.setattr(images.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        AtlabError, match="unpacks to more than 0.0 GB, 100 times its size or what the disk has free: refused"
    ):
        images.unpack(path, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("zeros"))


def test_idx_files_that_swell_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "LARGEST_IDX", 1000)
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write(bytes(1001))
    with pytest.raises(AtlabError, match="a.gz holds more than 1,000 bytes"):
        images.read_idx(tmp_path / "a.gz")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives_spoiled_in_the_middle_are_named(tmp_path, kind):
    content = np.random.default_rng(0).integers(0, 60, 40_000, dtype=np.uint8).tobytes()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "pixels").write_bytes(content)
    path = Path(shutil.make_archive(str(tmp_path / "a"), {"zip": "zip", "tar.gz": "gztar"}[kind], tmp_path / "raw"))
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for number in range(20):
        spoiled, place = bytearray(whole), rng.integers(2000, len(whole) - 2000)
        spoiled[place : place + 30] = rng.integers(0, 256, 30, dtype=np.uint8).tobytes()
        path.write_bytes(spoiled)
        with pytest.raises(AtlabError, match=f"a.{kind} cannot be unpacked"):
            images.unpack(path, tmp_path / str(number))


@pytest.mark.real_data
def test_real_cifar_images(tmp_path):
    if "ATLAB_REAL_DATA" not in os.environ:
        pytest.skip("ATLAB_REAL_DATA is not set: no real images to read")
    archive = Path(os.environ["ATLAB_REAL_DATA"]) / "cifar10-subset.tar"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} in ATLAB_REAL_DATA")
    fs = cifar10.prepare(archive, tmp_path / "out", workers=2)
    assert fs.inputs.shape == (12_000, 3, 32, 32) and fs.card["dropped"] == {}
    counts = fs.factors.groupby(["official", "class"]).size()
    assert (counts["train"] == 1000).all() and (counts["test"] == 200).all() and len(counts) == 20
    assert fs.factors["man_made"].value_counts().to_dict() == {"natural": 7200, "man-made": 4800}
    split = official_split(fs)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [9000, 1000, 2000]
    with tarfile.open(archive) as file:  # one image against PIL's own reading
        name = next(n for n in file.getnames() if n.endswith((".jpg", ".jpeg", ".png")))
        theirs = np.asarray(Image.open(file.extractfile(name)).convert("RGB"))
    row = fs.factors.index[fs.factors["id"] == name.split("cifar10/", 1)[1]][0]
    np.testing.assert_array_equal(fs.read([row])[0], theirs.transpose(2, 0, 1))
