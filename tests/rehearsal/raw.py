"""Miniature corpora in their official layouts, as a user would have downloaded them: one folder per recipe that needs one.

They hold what real corpora do: hundreds of speakers with one clip, rare words, unequal lengths, other sample rates, stereo,
silence, a file without content. A build forgives one broken file in a hundred, so a small corpus cannot have one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_recipes import cifar100, gsc
from tests.recipes import corpora, corpora_images, corpora_music, corpora_named

WNIDS = [f"n{n:08d}" for n in (1440764, 1443537, 1484850, 1491361, 2666196, 2667093, 2669723, 2672831)]  # half man-made
FSDD = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
WORDS = ("the", "of", "and", "to", "in", "house", "river", "stone")


def speech_commands(root: Path) -> None:
    """Ten digits; six speakers say all of them, two hundred say one; an empty file."""
    corpora.speech_commands(root, gsc.DIGITS, repeats=1, strangers=200)
    corpora.damage(root / "five" / f"{25:08x}_nohash_0.wav", "zero-length")


def iemocap(root: Path) -> None:
    """Nobody is happy in the fifth session, which tests in the official split."""
    corpora.iemocap(root)
    for labels in (root / "Session5/dialog/EmoEvaluation").glob("Ses*.txt"):
        labels.write_text(labels.read_text().replace("\thap\t", "\tfru\t"))


def ms_snsd(root: Path) -> None:
    """Eleven types of noise; both recordings of doors are silent but for a slam."""
    corpora.ms_snsd(root, speech=20, seconds=1.3)
    noise = root / "noise_train"
    (noise / "ShuttingDoor_2.wav").write_bytes((noise / "ShuttingDoor_1.wav").read_bytes())


def librispeech(root: Path) -> None:
    """Eight speakers, five utterances each, of common words and one that nobody else says."""
    lines, rng = {}, np.random.default_rng(0)
    for speaker in range(8):
        for number in range(5):
            said = [*rng.choice(WORDS, 4), f"only{speaker}" if not number else "the"]
            ends = np.cumsum(rng.uniform(0.2, 0.6, len(said)))
            words = [(word.upper(), float(end)) for word, end in zip(said, ends, strict=True)]
            lines[str(100 + speaker), str(900 + speaker), number] = words
    corpora.librispeech(root, "train-clean-100", lines)


def cifar_100(root: Path) -> None:
    """Three training images and one test image per class."""
    for name, images in (("train.bin", 3), ("test.bin", 1)):
        numbers = np.tile(np.arange(100), images)
        groups = np.array([list(cifar100.SUPERCLASSES).index(cifar100.GROUP[cifar100.CLASSES[n]]) for n in numbers])
        corpora_images.write_cifar(root / "cifar-100-binary" / name, np.stack([groups, numbers], axis=1), images)


def imagenet(root: Path) -> None:
    """Eight classes of pictures of all sizes, some grey; one that cannot be decoded."""
    for number, name in enumerate(WNIDS):
        for n in range(14):
            grey = n == 3
            path = root / "train" / name / f"{name}_{n}.JPEG"
            corpora_images.picture(path, 70 + 3 * n, 100 - 2 * n, mode="L" if grey else "RGB", seed=100 * number + n)
        for n in range(3):
            corpora_images.picture(root / "val" / name / f"ILSVRC2012_val_{8 * n + number}.JPEG", 64, 80, seed=n)
    (root / "train" / WNIDS[0] / f"{WNIDS[0]}_5.JPEG").write_bytes(b"\xff\xd8")


# Recipe -> what the unpacked download is called, and what writes it.
RAW = {
    "arabic_speech_commands": (
        "Arabic-Speech-Commands",
        lambda root: corpora_named.arabic_speech_commands(root, ("one", "stop", "go", "yes"), speakers=10, takes=3),
    ),
    "cifar10": ("CIFAR-10", lambda root: corpora_images.cifar10(root)),
    "cifar100": ("CIFAR-100", cifar_100),
    "esc50": ("ESC-10", lambda root: corpora_named.esc10(root)),
    "fsdd": ("FSDD", lambda root: corpora.fsdd(root / "recordings", speakers=FSDD, takes=4)),
    "good_sounds": ("Good-Sounds", lambda root: corpora_music.good_sounds(root)),
    "gsc": ("Speech-Commands", speech_commands),
    "iemocap": ("IEMOCAP_full_release", iemocap),
    "imagenet": ("ImageNet", imagenet),
    "librispeech_words": ("LibriSpeech", librispeech),
    "ms_snsd": ("MS-SNSD", ms_snsd),
    "nsynth": (
        "NSynth",
        lambda root: corpora_music.nsynth(root, {"nsynth-train": 66, "nsynth-valid": 22, "nsynth-test": 11}),
    ),
    "ravdess": ("RAVDESS", lambda root: corpora_named.ravdess(root, actors=range(1, 5))),
    "svhn": ("SVHN", lambda root: corpora_images.svhn(root, {"train": 60, "extra": 60, "test": 20})),
    "timit": ("TIMIT", lambda root: corpora.timit(root)),
}


# Parts of a download that a command's `--raw` names.
PARTS = {
    "Arabic-Digits": lambda root: arabic(root, ("zero", "one", "two", "three", "four", "five")),
    "Arabic-Commands": lambda root: arabic(root, ("stop", "go")),
}


def arabic(root: Path, words: tuple[str, ...]) -> None:
    """Eighteen speakers say each word three times."""
    corpora_named.arabic_speech_commands(root, words, speakers=18, takes=3)


def write(recipe: str, home: Path, named: str = "") -> Path:
    """The raw folder of a recipe below `home`, or the one that a command names, written unless it is there."""
    known = dict(RAW.values()) | PARTS
    name = named if named in known else RAW[recipe][0]
    if not (home / name).exists():
        known[name](home / name)
    return home / name
