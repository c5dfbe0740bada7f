"""What the data explorer shows, computed: clips that match, a clip with noise, a split and its leaks."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from atlab.data.noise import active_part, mix, noise
from atlab.data.parts import PARTS, Split
from atlab.data.splits import SplitSpec, cut, known
from atlab.data.summary import cramers_v, split_table
from atlab.errors import AtlabError, unknown
from atlab.explore.cache import RESULTS
from atlab.labels import natural

OFFERED = 300  # clips proposed by name


def matching(fs, factor: str = "", value: str = "") -> np.ndarray:
    """Rows of the clips with this value of a factor, of all clips without one: int64 [n]."""
    if not factor:
        return np.arange(len(fs))
    labels = fs.labels(factor).astype(str)
    rows = np.flatnonzero(labels == value)
    if not len(rows):
        raise unknown(f"value of {factor!r}", value, sorted(set(labels)))
    return rows


def offered(fs, clip: str, rows: np.ndarray | None = None) -> list[str]:
    """Ids of clips to choose from: the first ones of these rows (of all if not given), and the one that is shown."""
    ids = fs.factors["id"].iloc[:OFFERED] if rows is None else fs.factors["id"].iloc[rows[:OFFERED]]
    names = [str(name) for name in ids]
    return names if clip in names else [clip, *names]


def counts(fs, rows: np.ndarray) -> dict[str, pd.Series]:
    """Per factor, the number of these clips with each value, in the values' natural order."""
    found = {name: fs.factors[name].iloc[rows].value_counts() for name in fs.factor_names}
    return {name: clips[sorted(clips.index, key=natural)] for name, clips in found.items()}


def with_noise(wave: np.ndarray, kind: str, snr_db: float, sample_rate: int, name: str = "") -> np.ndarray:
    """A clip with noise at a true ratio to its active part, int16 [T]; the same noise at every ratio of a clip."""
    if not wave.any():
        raise AtlabError("this clip is silent: there is no signal-to-noise ratio")
    rng = np.random.default_rng([7, *hashlib.sha256(name.encode()).digest()])
    added = noise(kind, rng, len(wave), sample_rate)
    mixture = mix(wave / 32768, added, snr_db, active_part(wave))
    return np.clip(np.round(mixture * 32768.0), -32768, 32767).astype(np.int16)


def wav(wave: np.ndarray, sample_rate: int) -> bytes:
    """A WAV file (16 bit) of int16 samples, or of floats in -1..1, which are turned down if they exceed that."""
    import soundfile

    if wave.dtype != np.int16:
        peak = max(1.0, float(np.abs(wave).max(initial=0.0)))
        wave = np.clip(np.round(wave / peak * 32767), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, wave, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


@dataclass(frozen=True)
class SplitSettings:
    """What a split is made of: `atlab.data.splits.SplitSpec`, the target, and training clips to cut it to (0 for all)."""

    kind: str = "confounded"
    target: str = ""
    by: str = ""
    pairing: float = SplitSpec.pairing
    seed: int = 0
    clips: int = 0
    held_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        """
        >>> str(SplitSettings("confounded", "digit", "background", 0.95, 0, 400))
        'confounded, digit by background, pairing 0.95, seed 0, 400 training clips'
        """
        words = [self.kind, f"{self.target} by {self.by}"]
        words += [f"pairing {self.pairing:g}"] * (self.kind == "confounded")
        words += [f"without {', '.join(self.held_out)}"] * bool(self.held_out)
        return ", ".join([*words, f"seed {self.seed}", f"{self.clips or 'all'} training clips"])


def split_settings(fs, settings=None) -> SplitSettings:
    """The split that a study's students learn from (`experiment.Settings`), or one to begin with where there is no study."""
    names = fs.factor_names
    if settings is None or settings.target not in names:
        return SplitSettings(target=names[0], by=names[min(1, len(names) - 1)])
    others = [name for name in (settings.split_by, *settings.own_factors(), *names) if name in names]
    by = next((name for name in others if name != settings.target), names[0])
    own = settings.split, settings.target, by, settings.pairing, settings.split_seed, settings.clips
    return SplitSettings(*own, tuple(settings.held_out))


def split_of(
    fs, kind: str, target: str, by: str, pairing: float, seed: int, clips: int = 0, held_out: Sequence[str] = ()
) -> Split:
    """The split of these settings, checked for use with the target."""
    made = SplitSpec(kind, by, pairing, tuple(held_out), seed).make(fs, target)
    made = cut(made, clips, seed) if clips else made
    made = known(made, fs, target) if kind == "random" else made
    made.check(fs, target)
    return made


def leaks(fs, split: Split, target: str, by: str) -> pd.DataFrame:
    """Per part: clips, sources and values of `by`, how many of these training has too, Cramer's V of target and `by`.

    The association says how far `by` gives the target away in that part: bias-corrected, 0 (not at all) to 1.
    """
    table = split_table(fs, split, list(dict.fromkeys([by, target])))
    values = [cramers_v(fs.labels(target, getattr(split, part)), fs.labels(by, getattr(split, part))) for part in PARTS]
    return table.assign(association=[value.corrected for value in values])


def spectrogram(fs, waves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Magnitudes of int16 clips of one length: [n, time, frequency], seconds, Hz."""
    import torch

    from atlab.data import Spectrogram

    front = RESULTS.get(("front end", fs.sample_rate), lambda: Spectrogram(sample_rate=fs.sample_rate))
    stacked = torch.from_numpy(np.stack(waves))
    return front(stacked)[:, 0].numpy(), front.times(stacked.shape[1]), front.frequencies
