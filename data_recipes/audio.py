"""Sound files as float32 waveforms at one rate: read whole, checked, mixed to mono, resampled once."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np

from atlab.data.build import BrokenInput
from atlab.errors import AtlabError

ZERO_CROSSINGS = 32
STOPBAND = 80.0  # dB
RATES = (1_000, 384_000)  # Hz; a header that says otherwise is corrupt
LONGEST = 1 << 30  # samples of all channels that a header may announce: two hours of stereo at 48 kHz are 7e8
FLOATS = ("FLOAT", "DOUBLE")  # forms that can hold more than full scale
CANCELLED = 0.01  # of the loudest channel: -40 dB


def read_audio(path: str | Path, sample_rate: int = 16_000) -> np.ndarray:
    """A sound file (wav, flac, NIST SPHERE, ogg, aiff; any bit depth) as float32 [T] in [-1, 1] at
    `sample_rate`.

    Channels are averaged. Raises BrokenInput for a file that cannot be decoded, is cut off before its header
    says it ends, holds no sample, NaN or floats beyond full scale, whose channels cancel each other out, that announces more than
    2^30 samples, or names a rate outside 1 to 384 kHz.

    >>> import soundfile, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "stereo.wav"
    >>> soundfile.write(path, np.zeros((8000, 2)), 8000, subtype="PCM_24")
    >>> read_audio(path).shape
    (16000,)
    """
    import soundfile

    path = Path(path)
    if not path.is_file():  # a named pipe would wait for ever
        raise BrokenInput(f"{path}: is not a regular file")
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames * file.channels > LONGEST:
                raise BrokenInput(f"{path}: announces {file.frames:,} samples, more than a sound file may have")
            rate, missing = file.samplerate, missing_bytes(path, file)
            wave = file.read(dtype="float32", always_2d=True)
            announced, subtype = file.frames, file.subtype
    except (OSError, RuntimeError, ValueError) as error:  # soundfile's own are RuntimeErrors, some ValueErrors
        raise BrokenInput(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    if missing > 0 or len(wave) < announced:
        raise BrokenInput(
            f"{path}: truncated, {missing or announced - len(wave)} {'bytes' if missing else 'samples'} are missing"
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise BrokenInput(f"{path}: names a rate of {rate} Hz")
    if not len(wave):
        raise BrokenInput(f"{path}: holds no sample")
    if not np.isfinite(wave).all():
        raise BrokenInput(f"{path}: holds samples that are not numbers")
    if subtype in FLOATS and (peak := float(np.abs(wave).max())) > 1.0:
        raise BrokenInput(
            f"{path}: holds floats up to {peak:.4g}, beyond full scale: scale it to -1 to 1, or it would be clipped"
        )
    mono = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1)
    if np.abs(mono).max() < CANCELLED * np.abs(wave).max():
        raise BrokenInput(f"{path}: has channels that cancel each other out when they are averaged: choose one of them")
    return resample(mono, rate, sample_rate)


def resample(wave: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Polyphase resampling of a waveform [T] to float32 [ceil(T * to / rate)].

    The filter is a Kaiser-windowed sinc of 32 zero crossings on either side: flat (0.01 dB) up to 84 % of the lower
    Nyquist frequency, -80 dB from that frequency on.
    """
    if rate == to:
        return wave.astype(np.float32, copy=False)
    from scipy.signal import resample_poly  # it takes two seconds to import

    divisor = math.gcd(rate, to)
    up, down = to // divisor, rate // divisor
    return resample_poly(wave, up, down, window=_filter(max(up, down))).astype(np.float32)


def fit_length(wave: np.ndarray, samples: int) -> np.ndarray:
    """The first `samples` of a waveform [T], zero-padded at the end where it is shorter.

    >>> fit_length(np.ones(3), 5).tolist(), fit_length(np.arange(9), 2).tolist()
    ([1.0, 1.0, 1.0, 0.0, 0.0], [0, 1])
    """
    return wave[:samples] if len(wave) >= samples else np.pad(wave, (0, samples - len(wave)))


def to_int16(wave: np.ndarray) -> np.ndarray:
    """Float waveform in [-1, 1] as int16, rounded; 1.0 and more become 32767.

    Raises AtlabError for integers, whose scale is not known, and for values that are not numbers.

    >>> to_int16(np.array([-1.0, 0.0, 0.5, 1.0])).tolist()
    [-32768, 0, 16384, 32767]
    """
    if wave.dtype.kind != "f" or np.isnan(wave).any():
        found = "values that are not numbers" if wave.dtype.kind == "f" else str(wave.dtype)
        raise AtlabError(f"expected a waveform of floats in [-1, 1], got {found}")
    scaled = np.multiply(wave, 32768.0)  # exact in either precision, and so is the rounding
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -32768, 32767, out=scaled).astype(np.int16)


@functools.lru_cache(maxsize=8)
def _filter(factor: int) -> np.ndarray:
    from scipy.signal import firwin, kaiser_beta

    taps = 2 * ZERO_CROSSINGS * factor + 1
    return firwin(taps, 0.92 / factor, window=("kaiser", kaiser_beta(STOPBAND))).astype(np.float32)


def missing_bytes(path: Path, file: object) -> int:
    """Bytes that a wav, aiff or SPHERE file lacks by its own header; libsndfile reads on silently."""
    if file.format in ("WAV", "WAVEX", "AIFF"):
        return _missing_of_chunks(path)
    if file.format == "NIST":
        return _missing_of_sphere(path)
    return 0


def _missing_of_chunks(path: Path) -> int:
    size = path.stat().st_size
    with open(path, "rb") as file:
        order = "little" if file.read(12)[:4] == b"RIFF" else "big"  # RIFX and the FORM of aiff are big
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[4:], order)
            if head[:4] in (b"data", b"SSND"):
                # Recorders that stream leave the length open: nothing is known to be missing then.
                return 0 if length >= 0x7FFF0000 else max(0, file.tell() + length - size)
            file.seek(length + length % 2, 1)
    return 0


def _missing_of_sphere(path: Path) -> int:
    with open(path, "rb") as file:
        lines = file.read(1024).decode("latin-1").splitlines()
    fields = {words[0]: words[2] for words in (line.split() for line in lines) if len(words) == 3}
    try:
        samples, channels, width = (int(fields[key]) for key in ("sample_count", "channel_count", "sample_n_bytes"))
        header = int(lines[1])
    except (KeyError, ValueError, IndexError):
        return 0
    return max(0, header + samples * channels * width - path.stat().st_size)
