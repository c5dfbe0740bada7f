"""Noise for clean clips, recorded or of eight synthetic families, mixed at a true ratio to the sound when clips are read."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Callable, Sequence

import numpy as np

from atlab.data.factorset import FactorSet
from atlab.errors import AtlabError, unknown

Generator = np.random.Generator
VERSION = 1  # of the generators below: raised when their output changes, for it is part of a view's content hash
ACTIVE_DB = -40.0
TRIES, QUIETEST = 10, 1e-3  # stretches of a recording looked at; RMS of one that counts as sound


def mix(clean: np.ndarray, noise: np.ndarray, snr_db: float, active: slice = slice(None)) -> np.ndarray:
    """Clean sound plus noise at a true signal-to-noise ratio: float [T] in -1..1, float [T] -> float32 [T].

    The ratio is the power of the clean samples in `active` (all of them if not given; see `active_part`) over
    the power of all of the noise, in dB. Where the sum would exceed full scale (1), it is turned down as a
    whole: the ratio stays, nothing is clipped. Powers are taken in float64, without the extra square root
    of MS-SNSD's mixer.

    Raises AtlabError for different lengths and for silent sound or noise, for which there is no ratio.

    >>> tone, hiss = np.sin(np.arange(16000) / 5), np.random.default_rng(0).normal(size=16000)
    >>> added = mix(0.1 * tone, hiss, 20.0) - 0.1 * tone
    >>> round(float(10 * np.log10(np.mean((0.1 * tone) ** 2) / np.mean(added**2))), 2)
    20.0
    """
    return _within_full_scale(_sum(clean, noise, snr_db, active))[0]


def active_part(wave: np.ndarray) -> slice:
    """From the first to the last sample within 40 dB of the loudest one: the word, without padding around it.

    >>> active_part(np.array([0, 0, 9, -500, 20, 1, 0]))
    slice(2, 5, None)
    """
    loud = np.abs(wave.astype(np.float64))
    loud = np.flatnonzero((loud >= loud.max(initial=0.0) * 10 ** (ACTIVE_DB / 20)) & (loud > 0))
    return slice(int(loud[0]), int(loud[-1]) + 1) if len(loud) else slice(0, 0)


def _sum(clean: np.ndarray, noise: np.ndarray, snr_db: float, active: slice) -> np.ndarray:
    if clean.shape != noise.shape:
        raise AtlabError(f"sound and noise must be of one length, found {clean.shape} and {noise.shape}")
    signal, added = _power(clean[active]), _power(noise)
    if not min(signal, added) > 0:
        raise AtlabError(f"{'sound' if not signal > 0 else 'noise'} is silent: there is no signal-to-noise ratio")
    return clean + noise * np.sqrt(signal / added / 10 ** (snr_db / 10))


def _power(wave: np.ndarray) -> float:
    return float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0


def _within_full_scale(mixture: np.ndarray) -> tuple[np.ndarray, bool]:
    """The mixture, turned down if it has to be, and whether it was."""
    peak = float(np.abs(mixture).max(initial=0.0))
    return (mixture / max(1.0, peak)).astype(np.float32), peak > 1.0


def noise(kind: str, rng: Generator, samples: int, sample_rate: int = 16_000) -> np.ndarray:
    """Noise of a kind in `KINDS`: float32 [samples], RMS 1; the same state of `rng` gives the same noise.

    All eight are made by formulas. Babble, too, needs no recorded voices: it is the sum of six talkers
    without words, a buzz in moving formant bands in the rhythm of syllables.

    Raises AtlabError for an unknown kind, no samples, or a sample rate below 8,000.

    >>> noise("hum", np.random.default_rng(0), 16000).shape
    (16000,)
    """
    if kind not in _FAMILIES:
        raise unknown("noise", kind, _FAMILIES)
    if samples < 1 or sample_rate < 8000:
        raise AtlabError(f"noise needs at least 1 sample and 8,000 samples a second, found {samples} and {sample_rate}")
    wave = _FAMILIES[kind](rng, max(samples, sample_rate // 4), sample_rate)[:samples]  # slopes need some length
    return _at_unit_rms(wave)


class Noisy(FactorSet):
    """A view of clips with noise: a further factor `noise` (its kind), a column `snr_db`; no file changes.

    Kinds are dealt evenly and at random, the ratio is drawn uniformly: neither tells anything about the
    other factors. The ratio is that of the clip's `active_part` to the noise, which fills the clip (see `mix`):
    long and short words get noise of one level. A clip sounds the same in every batch, epoch and process. A
    silent clip stays as it is.

    Args:
        snr_db: lowest and highest ratio, dB.
        kinds: names in `KINDS`, or values of the factor `noise` of `recorded`; all of them if None.
        recorded: a data set of recorded noise, with a factor `noise` and the same sample rate; synthesised noise if None.

    Attributes:
        turned_down: rows read so far whose mixture was turned down to fit into int16 (the ratio stays).

    Raises AtlabError for images, an unknown kind or none, a `snr_db` that is not a (low, high) within -60 to 60,
    a negative or fractional seed, and a data set that has a column `noise` or `snr_db` already.

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
        recorded: FactorSet | None = None,
    ) -> None:
        known = list(KINDS) if recorded is None else _recorded_kinds(recorded, fs)
        kinds = list(known if kinds is None else [kinds] if isinstance(kinds, str) else kinds)
        for kind in kinds:
            if kind not in known:
                raise unknown("noise", kind, known)
        kinds = [str(kind) for kind in kinds]  # equal arguments, equal hash: NumPy's strings and numbers too
        low, high = _range(snr_db)
        if not isinstance(seed, numbers.Integral) or seed < 0:
            raise AtlabError(f"seed is a whole number from 0 on, found {seed!r}")
        seed = int(seed)
        if fs.kind != "audio" or not kinds:
            raise AtlabError(
                f"noise needs a data set of audio and at least one kind; found {fs.kind} and {len(kinds)} kinds"
            )
        if taken := {"noise", "snr_db"} & set(fs.factors.columns):
            raise AtlabError(f"{fs.path} has the columns {sorted(taken)} already: take its clean version")
        rng, n = np.random.default_rng([seed, 5]), len(fs)
        dealt = np.array(kinds)[rng.permutation(np.arange(n) % len(kinds))]
        factors = fs.factors.assign(noise=dealt, snr_db=rng.uniform(low, high, n).round(2))
        arguments = {"of": fs.content_hash, "snr_db": [low, high], "kinds": kinds, "seed": seed, "version": VERSION}
        if recorded is not None:
            arguments["recorded"] = recorded.content_hash
        card = fs.card | {
            "factors": fs.card["factors"] | {"noise": len(set(dealt))},
            "noise": arguments,
            "content_hash": hashlib.sha256(repr(arguments).encode()).hexdigest(),
        }
        super().__init__(fs.path, card, factors, fs.inputs)
        self._clean, self._seed, self._recorded = fs, seed, recorded
        if recorded is not None:
            labels = recorded.labels("noise")
            self._rows = {kind: np.flatnonzero(labels == kind) for kind in kinds}
        self.turned_down: set[int] = set()

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Noisy clips of some rows: int16 [n, T]."""
        rows = np.asarray(rows, dtype=np.int64)
        clips, table = self._clean.read(rows), self.factors.iloc[rows]
        columns = zip(rows.tolist(), table["id"], table["noise"], table["snr_db"], strict=True)
        for i, (row, name, kind, snr) in enumerate(columns):
            if clips[i].any():
                rng = np.random.default_rng([self._seed, *hashlib.sha256(name.encode()).digest()])
                added = self._noise(kind, rng, clips.shape[1])
                mixture, down = _within_full_scale(_sum(clips[i] / 32768, added, snr, active_part(clips[i])))
                clips[i] = np.clip(np.round(mixture * 32768.0), -32768, 32767)
                if down:
                    self.turned_down.add(row)
        return clips

    def _noise(self, kind: str, rng: Generator, samples: int) -> np.ndarray:
        """Noise of one kind that fills a clip, RMS 1: a random stretch of a random recording, repeated where it is shorter.

        Of recordings that are silent nearly everywhere, the stretch around the loudest sample.
        """
        if self._recorded is None:
            return noise(kind, rng, samples, self.sample_rate)
        heard = []
        for _ in range(TRIES):  # doors and dogs are silent most of the time, and a ratio to silence is undefined
            wave = self._recorded.read([rng.choice(self._rows[kind])])[0] / 32768
            start = int(rng.integers(max(1, len(wave) - samples + 1)))
            stretch = np.resize(wave[start : start + samples], samples)
            if _power(stretch) > QUIETEST**2:
                return _at_unit_rms(stretch)
            heard.append(wave)
        stretch = _loudest(max(heard, key=_power), samples)
        if not _power(stretch) > 0:
            raise AtlabError(
                f"{TRIES} recordings of noise {kind!r} were silent from end to end; take that kind out of the noise data set"
            )
        return _at_unit_rms(stretch)


def _at_unit_rms(wave: np.ndarray) -> np.ndarray:
    return (wave / np.sqrt(_power(wave))).astype(np.float32)


def _loudest(wave: np.ndarray, samples: int) -> np.ndarray:
    """The stretch around the loudest sample of a recording, which is repeated where it is shorter."""
    start = min(max(int(np.abs(wave).argmax()) - samples // 2, 0), max(len(wave) - samples, 0))
    return np.resize(wave[start : start + samples], samples)


def _recorded_kinds(recorded: FactorSet, fs: FactorSet) -> list[str]:
    if (recorded.kind, recorded.sample_rate) != (fs.kind, fs.sample_rate):
        raise AtlabError(
            f"recorded noise must be {fs.kind} at {fs.sample_rate} samples a second like the clips, found {recorded.kind} at "
            f"{recorded.sample_rate}"
        )
    return [str(kind) for kind in recorded.classes("noise")]


def _range(snr_db: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in snr_db)
    except (TypeError, ValueError):
        low = high = float("nan")
    if not -60 <= low <= high <= 60:
        raise AtlabError(f"snr_db is (low, high) in dB within -60 to 60, found {snr_db!r}")
    return low, high


def _shaped(rng: Generator, n: int, slope: float) -> np.ndarray:
    """Gaussian noise whose power falls as frequency ** -slope, RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-slope / 2)
    wave = np.fft.irfft(spectrum, n)
    return wave / wave.std()


def _partials(rng: Generator, phase: np.ndarray, count: int, fall: float) -> np.ndarray:
    """Harmonics 1 to count of a phase (rad), amplitudes falling as k ** -fall with random weights."""
    weights, shifts = rng.uniform(0.2, 1, count), rng.uniform(0, 2 * np.pi, count)
    turn = np.exp(1j * phase)
    harmonic, wave = np.ones_like(turn), np.zeros(len(phase))
    for k in range(1, count + 1):
        harmonic *= turn  # powers, for a sine of each harmonic takes five times as long
        wave += (weights[k - 1] / k**fall * np.exp(1j * shifts[k - 1]) * harmonic).imag
    return wave


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
    return _shaped(rng, n, rng.uniform(1.6, 2.2)) + 0.6 * _partials(rng, phase, 7, 1.0) + 0.15 * rng.standard_normal(n)


def _hum(rng: Generator, n: int, rate: int) -> np.ndarray:
    mains = rng.choice([50.0, 60.0]) * rng.uniform(0.99, 1.01)
    return _partials(
        rng, 2 * np.pi * mains * np.arange(n) / rate, 30, rng.uniform(0.6, 1.1)
    ) + 0.05 * rng.standard_normal(n)


def _typing(rng: Generator, n: int, rate: int) -> np.ndarray:
    """Keystrokes: a press and a softer release, each a short burst; at least one per clip."""
    strokes = max(1, rng.poisson(rng.uniform(4, 11) * n / rate))
    wave = 0.005 * rng.standard_normal(n)
    for start, release in zip(rng.integers(0, n, strokes), rng.uniform(0.02, 0.05, strokes), strict=True):
        for onset, gain in ((start, 1.0), (start + int(release * rate), 0.5)):
            length = min(int(rng.uniform(0.005, 0.015) * rate), n - onset)
            if length > 0:
                decay = np.exp(-5 * np.arange(length) / length)
                wave[onset : onset + length] += gain * rng.uniform(0.4, 1) * decay * rng.standard_normal(length)
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


def _babble(rng: Generator, n: int, rate: int, talkers: int = 6) -> np.ndarray:
    """Talkers without words: a buzz in three formant bands that come and go in the rhythm of syllables."""
    frequency, wave = np.fft.rfftfreq(n, 1 / rate), np.zeros(n)
    for _ in range(talkers):
        pitch = rng.uniform(90, 240) * (0.85 + 0.3 * _wobble(rng, n, rate, 3.0))
        buzz = np.cumsum(pitch) / rate % 1 - 0.5 + 0.1 * rng.standard_normal(n)
        spectrum, vowels = np.fft.rfft(buzz), np.zeros(n)
        for low, high in ((300, 800), (900, 2200), (2300, 3400)):
            centre = rng.uniform(low, high)
            band = np.exp(-(((frequency - centre) / (0.15 * centre)) ** 2))
            vowels += _wobble(rng, n, rate, 6.0) * np.fft.irfft(spectrum * band, n)
        wave += vowels * _wobble(rng, n, rate, rng.uniform(3, 6)) ** 2
    return wave


_FAMILIES: dict[str, Callable[[Generator, int, int], np.ndarray]] = {
    "white": _white,
    "pink": _pink,
    "air_conditioner": _air_conditioner,
    "hum": _hum,
    "typing": _typing,
    "engine": _engine,
    "siren": _siren,
    "babble": _babble,
}
KINDS = tuple(_FAMILIES)
