"""What the published code does with corpora: labels, noise levels, splits, the direction of time."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

SNRS = 5  # noise levels a speech and noise pair is mixed at


def instrument_labels(instruments: np.ndarray) -> dict[str, float]:
    """Class numbers [N] as the published Good-Sounds reader gives them: its function returns a number, and an argmax of a
    number is 0. -> how many classes remain, and what a network that always answers 0 scores on them and on the true ones.

    >>> instrument_labels(np.arange(24) % 12)["constant_on_published"]
    1.0
    """
    published = np.array([int(np.argmax(number)) for number in instruments])
    return {
        "classes": len(np.unique(instruments)),
        "published_classes": len(np.unique(published)),
        "constant_on_published": float((published == 0).mean()),
        "constant_on_true": float((instruments == 0).mean()),
    }


def missed_tags(tags: Sequence[str]) -> dict[str, float]:
    """Good-Sounds tags that the published substring match for bad dynamics finds: "bad-dynamics" is not in the tag without s.

    >>> missed_tags(["bad-dynamics-stability-crescendo", "bad-dynamic-stability"])
    {'tags': 2, 'found': 1}
    """
    return {"tags": len(tags), "found": sum("bad-dynamics" in tag for tag in tags)}


def published_mixture(clean: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Sound plus noise as the published mixer scales it: both are brought to one level, then the noise is multiplied by the
    square root of the ratio of amplitudes 10 ** (-snr / 20), as if that were a ratio of powers.
    """
    clean_rms, noise_rms = (np.sqrt(np.mean(np.square(wave, dtype=np.float64))) for wave in (clean, noise))
    return clean + noise * (clean_rms / noise_rms) * np.sqrt(10 ** (-snr_db / 20))


def true_snr(clean: np.ndarray, mixture: np.ndarray) -> float:
    """Power of the clean sound over that of what was added to it, in dB."""
    return float(10 * np.log10(np.mean(np.square(clean)) / np.mean(np.square(mixture - clean))))


def snr(clean: np.ndarray, noise: np.ndarray, asked: Sequence[float] = (0, 5, 10, 20, 30, 40)) -> dict[str, float]:
    """True signal-to-noise ratio of the published mixture for each one asked for, in dB."""
    return {f"{level:g}": true_snr(clean, published_mixture(clean, noise, level)) for level in asked}


def iemocap_speakers(utterances: Sequence[str]) -> dict[str, float]:
    """Who speaks, from names such as Ses01F_impro01_M003: the published label is the session, torchaudio's the dialog's
    prefix (Ses01F), the true one the session and the utterance's letter (Ses01M).

    >>> iemocap_speakers(["Ses01F_impro01_F000", "Ses01F_impro01_M000"])
    {'speakers': 2, 'sessions': 1, 'dialog_prefixes': 1, 'wrong_by_prefix': 0.5}
    """
    parts = [re.fullmatch(r"(Ses\d\d)([FM])_.*_([FM])\d+", name).groups() for name in utterances]
    return {
        "speakers": len({session + letter for session, _, letter in parts}),
        "sessions": len({session for session, _, _ in parts}),
        "dialog_prefixes": len({session + prefix for session, prefix, _ in parts}),
        "wrong_by_prefix": float(np.mean([prefix != letter for _, prefix, letter in parts])),
    }


def noise_leak(pairs: int = 4000, snrs: int = SNRS, seed: int = 0) -> dict[str, float]:
    """Files of the same speech and noise at `snrs` levels, split 70/20/10 file by file: test files with a twin in training.

    `expected` is 1 - (number of ways without a twin among the training files) / (all ways), the hypergeometric answer.
    """
    files = pairs * snrs
    order = np.random.default_rng(seed).permutation(files)
    train, test = order[: int(0.7 * files)] // snrs, order[int(0.9 * files) :] // snrs
    outside = files - len(train)
    none = np.prod([(outside - 1 - k) / (files - 1 - k) for k in range(snrs - 1)])
    return {"test_files": len(test), "with_twin": float(np.isin(test, train).mean()), "expected": float(1 - none)}


def overlap(fs, first: np.ndarray, second: np.ndarray, factor: str) -> float:
    """Share of the clips in rows `second` whose value of a factor occurs in rows `first`."""
    return float(np.isin(fs.labels(factor, second), np.unique(fs.labels(factor, first))).mean())


def shared_clips(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the rows `second` that are among the rows `first`."""
    return float(np.isin(second, first).mean())


def silent_clips(waves: np.ndarray, threshold: float = 0.05) -> dict[str, float]:
    """Clips [N, T] in -1..1 that the published preparation silently drops: largest value at most 0.05."""
    return {"clips": len(waves), "dropped": int((waves.max(1) <= threshold).sum())}


def direction(magnitude: np.ndarray) -> dict[str, float]:
    """Correlation of time and the loudest frequency of a rising tone's spectrogram [time, frequency], and of the
    published one, whose time runs backwards.
    """
    time = np.arange(len(magnitude))
    ways = {"atlab": magnitude, "published": magnitude[::-1]}
    return {name: float(np.corrcoef(time, spectrum.argmax(1))[0, 1]) for name, spectrum in ways.items()}
