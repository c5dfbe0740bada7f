"""Noise for clean clips: eight synthetic families, mixed at a true signal-to-noise ratio when clips are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from atlab.data.factorset import FactorSet
from atlab.errors import AtlabError, unknown

Generator = np.random.Generator


def mix(clean: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """clean + noise at a ratio of their powers over the whole clip of `snr_db`: float32 [T], [T] -> float32 [T].

    Where the sum would exceed full scale (1), it is turned down as a whole: the ratio stays, nothing is clipped.
    A silent clip or noise has no ratio and raises AtlabError.

    >>> tone, hiss = np.sin(np.arange(16000) / 5), np.ones(16000)
    >>> added = mix(0.1 * tone, hiss, 20.0) - 0.1 * tone
    >>> round(float(10 * np.log10(np.mean((0.1 * tone) ** 2) / np.mean(added**2))), 2)
    20.0
    """
    if clean.shape != noise.shape:
        raise AtlabError(f"clip and noise must be of one length, found {clean.shape} and {noise.shape}")
    powers = [float(np.mean(np.square(part, dtype=np.float64))) for part in (clean, noise)]
    if not min(powers) > 0:
        raise AtlabError("a silent clip or a silent noise has no signal-to-noise ratio")
    mixture = clean + noise * np.sqrt(powers[0] / powers[1] / 10 ** (snr_db / 10))
    return (mixture / max(1.0, float(np.abs(mixture).max()))).astype(np.float32)


def noise(kind: str, rng: Generator, samples: int, sample_rate: int = 16_000) -> np.ndarray:
    """Noise of a kind in `KINDS`: float32 [samples], RMS 1; the same `rng` state gives the same noise.

    >>> noise("hum", np.random.default_rng(0), 16000).shape
    (16000,)
    """
    if kind not in _FAMILIES:
        raise unknown("noise", kind, _FAMILIES)
    wave = _FAMILIES[kind](rng, samples, sample_rate)
    return (wave / np.sqrt(np.mean(wave**2))).astype(np.float32)


class Noisy(FactorSet):
    """A view of clips with noise: a further factor `noise` (its kind) and a column `snr_db`; the files stay clean.

    Kinds are dealt evenly, the ratio is uniform in `snr_db`; both, and the noise itself, depend on (seed, clip id)
    only, so a clip sounds the same in every batch and epoch.

    Raises AtlabError for images, an unknown kind, or a range whose ends are swapped.

    >>> import atlab, tempfile
    >>> clean = atlab.data.toy(tempfile.mkdtemp() + "/toy")
    >>> noisy = Noisy(clean, snr_db=(0, 10))
    >>> noisy.factor_names, noisy.read([3]).shape, noisy.content_hash == clean.content_hash
    (['word', 'speaker', 'noise'], (1, 4000), False)
    """

    def __init__(
        self,
        fs: FactorSet,
        snr_db: tuple[float, float] = (0.0, 10.0),
        kinds: Sequence[str] | None = None,
        seed: int = 0,
    ):
        kinds = list(KINDS if kinds is None else kinds)
        for kind in kinds:
            if kind not in KINDS:
                raise unknown("noise", kind, KINDS)
        if fs.kind != "audio" or not kinds or not snr_db[0] <= snr_db[1]:
            raise AtlabError(
                f"noise needs sound, kinds and snr_db as (low, high); found {fs.kind}, {kinds}, {snr_db}"
            )
        rng, n = np.random.default_rng([seed, 5]), len(fs)
        dealt = np.array(kinds)[rng.permutation(np.arange(n) % len(kinds))]
        factors = fs.factors.assign(noise=dealt, snr_db=rng.uniform(*snr_db, n).round(2))
        arguments = {"of": fs.content_hash, "snr_db": list(snr_db), "kinds": kinds, "seed": seed}
        card = fs.card | {
            "factors": fs.card["factors"] | {"noise": len(set(dealt))},
            "noise": arguments,
            "content_hash": hashlib.sha256(repr(arguments).encode()).hexdigest(),
        }
        super().__init__(fs.path, card, factors, fs.inputs)
        self._clean, self._seed = fs, seed

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Noisy clips of some rows: int16 [n, T]."""
        clips = self._clean.read(rows)
        table = self.factors.iloc[np.asarray(rows)]
        for i, (clip, kind, snr) in enumerate(zip(table["id"], table["noise"], table["snr_db"], strict=True)):
            if clips[i].any():
                rng = np.random.default_rng([self._seed, *hashlib.sha256(clip.encode()).digest()])
                mixture = mix(clips[i] / 32768, noise(kind, rng, clips.shape[1], self.sample_rate), snr)
                clips[i] = np.round(np.clip(mixture * 32768, -32768, 32767))
        return clips


def _shaped(rng: Generator, n: int, slope: float) -> np.ndarray:
    """Gaussian noise whose power falls as frequency ** -slope, RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-slope / 2)
    wave = np.fft.irfft(spectrum, n)
    return wave / wave.std()


def _partials(rng: Generator, phase: np.ndarray, count: int, fall: float) -> np.ndarray:
    """Harmonics 1 to count of a phase (rad), amplitudes falling as k ** -fall with random weights."""
    k = np.arange(1, count + 1)
    weights, shifts = rng.uniform(0.2, 1, count) / k**fall, rng.uniform(0, 2 * np.pi, count)
    return weights @ np.sin(k[:, None] * phase + shifts[:, None])


def _band(wave: np.ndarray, low: float, high: float, rate: int) -> np.ndarray:
    from scipy.signal import butter, sosfilt

    return sosfilt(butter(2, [low, min(high, 0.45 * rate)], "bandpass", fs=rate, output="sos"), wave)


def _wobble(rng: Generator, n: int, rate: int, hertz: float) -> np.ndarray:
    """A smooth random walk in [0, 1], about `hertz` turns a second."""
    knots = max(3, int(n / rate * hertz) + 3)
    return np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.random(knots))


def _white(rng: Generator, n: int, rate: int) -> np.ndarray:
    return _shaped(rng, n, rng.uniform(-0.2, 0.3))


def _pink(rng: Generator, n: int, rate: int) -> np.ndarray:
    return _shaped(rng, n, rng.uniform(0.9, 1.4))


def _air_conditioner(rng: Generator, n: int, rate: int) -> np.ndarray:
    phase = 2 * np.pi * rng.uniform(45, 130) * np.arange(n) / rate
    return (
        _shaped(rng, n, rng.uniform(1.6, 2.2))
        + 0.6 * _partials(rng, phase, 7, 1.0)
        + 0.15 * rng.standard_normal(n)
    )


def _hum(rng: Generator, n: int, rate: int) -> np.ndarray:
    mains = rng.choice([50.0, 60.0]) * rng.uniform(0.99, 1.01)
    return _partials(
        rng, 2 * np.pi * mains * np.arange(n) / rate, 30, rng.uniform(0.6, 1.1)
    ) + 0.05 * rng.standard_normal(n)


def _typing(rng: Generator, n: int, rate: int) -> np.ndarray:
    """Keystrokes: a press and a softer release, each a short burst; at least one a clip."""
    strokes = max(1, rng.poisson(rng.uniform(4, 11) * n / rate))
    wave = 0.005 * rng.standard_normal(n)
    for start, release in zip(rng.integers(0, n, strokes), rng.uniform(0.02, 0.05, strokes), strict=True):
        for onset, gain in ((start, 1.0), (start + int(release * rate), 0.5)):
            length = min(int(rng.uniform(0.005, 0.015) * rate), n - onset)
            if length > 0:
                decay = np.exp(-5 * np.arange(length) / length)
                wave[onset : onset + length] += (
                    gain * rng.uniform(0.4, 1) * decay * rng.standard_normal(length)
                )
    return _band(wave, rng.uniform(1200, 2500), rng.uniform(3500, 7000), rate)


def _engine(rng: Generator, n: int, rate: int) -> np.ndarray:
    turns = rng.uniform(25, 70) * (1 + 0.3 * (_wobble(rng, n, rate, 1.0) - 0.5))
    phase = 2 * np.pi * np.cumsum(turns) / rate
    hiss = _band(rng.standard_normal(n), 80, rng.uniform(500, 1500), rate)
    return _partials(rng, phase, 16, 0.7) * (1 + 0.5 * np.sin(phase)) + hiss / hiss.std()


def _siren(rng: Generator, n: int, rate: int) -> np.ndarray:
    low, high = np.sort(rng.uniform(400, 2500, 2))
    swing = np.sin(2 * np.pi * rng.uniform(1, 5) * np.arange(n) / rate + rng.uniform(0, 2 * np.pi))
    swing = np.sign(swing) if rng.random() < 0.5 else swing
    phase = 2 * np.pi * np.cumsum(low + (high - low) * (swing + 1) / 2) / rate
    return np.sin(phase) + rng.uniform(0.1, 0.5) * np.sin(2 * phase) + 0.02 * rng.standard_normal(n)


def _babble(rng: Generator, n: int, rate: int) -> np.ndarray:
    """Six talkers without words: voiced sound in three wandering formant bands, in the rhythm of syllables."""
    wave = np.zeros(n)
    for _ in range(6):
        pitch = rng.uniform(90, 240) * (0.85 + 0.3 * _wobble(rng, n, rate, 3.0))
        source = _partials(rng, 2 * np.pi * np.cumsum(pitch) / rate, 20, 0.8) + 0.3 * rng.standard_normal(n)
        vowels = 0.0
        for low, high in ((300, 800), (900, 2200), (2300, 3400)):
            centre = rng.uniform(low, high)
            vowels = vowels + _wobble(rng, n, rate, 6.0) * _band(source, 0.8 * centre, 1.2 * centre, rate)
        wave += vowels * _wobble(rng, n, rate, rng.uniform(3, 6)) ** 2
    return wave


_FAMILIES: dict[str, Callable[[Generator, int, int], np.ndarray]] = {
    "white": _white, "pink": _pink, "air_conditioner": _air_conditioner, "hum": _hum,
    "typing": _typing, "engine": _engine, "siren": _siren, "babble": _babble,
}  # fmt: skip
KINDS = tuple(_FAMILIES)
