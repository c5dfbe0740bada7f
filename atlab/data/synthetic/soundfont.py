"""Notes of sampled instruments from a SoundFont 2 file, in numpy.

What is read: regions (key and velocity ranges), tuning, loops, volume envelope, attenuation and the low-pass
cut-off with its velocity modulator. Left out, as single dry notes do not need them: LFOs, modulation
envelope, resonance, pan, chorus, reverb. Pitch may vary within a note, so that unsteady playing is made at
its source.
"""

from __future__ import annotations

import importlib.util
import itertools
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from atlab.errors import AtlabError

OVERSAMPLING = 3  # a 44.1 kHz sample read at 48 kHz does not alias; a polyphase filter then goes down to 16 kHz
ATTENUATION = 0.4  # the factor of the EMU hardware that sound fonts are tuned for
# Generator numbers of the SoundFont 2.04 specification, section 8.1.2.
START, END, LOOP_START, LOOP_END, START_COARSE, CUTOFF, END_COARSE = 0, 1, 2, 3, 4, 8, 12
DELAY, ATTACK, HOLD, DECAY, SUSTAIN, RELEASE, INSTRUMENT, KEYS, VELOCITIES = (33, 34, 35, 36, 37, 38, 41, 43, 44)
LOOP_START_COARSE, ATTENUATE, LOOP_END_COARSE, COARSE_TUNE, FINE_TUNE = 45, 48, 50, 51, 52
SAMPLE, MODE, SCALE, ROOT = 53, 54, 56, 58
EVERY_VALUE = 0x7F00
OPEN = 13500  # cut-off in cents above 8.176 Hz from which there is no filter


@dataclass(frozen=True)
class Region:
    """One sample and how it sounds for a range of keys and velocities (times in s, levels in dB)."""

    keys: tuple[int, int]
    velocities: tuple[int, int]
    start: int
    end: int
    loop: tuple[int, int] | None
    sample_rate: int
    root: int
    cents: int
    cents_per_key: int
    attenuation: float
    cutoff_cents: int
    delay: float
    attack: float
    hold: float
    decay: float
    sustain: float
    release: float

    def plays(self, key: int, velocity: int) -> bool:
        return self.keys[0] <= key <= self.keys[1] and self.velocities[0] <= velocity <= self.velocities[1]


def general_midi_path() -> Path:
    """Path of the General MIDI sound font TimGM6mb.sf2 (GPL-2, 128 instruments) that pretty_midi installs.

    Raises AtlabError if the package is not installed.

    >>> general_midi_path().name
    'TimGM6mb.sf2'
    """
    spec = importlib.util.find_spec("pretty_midi")
    for folder in spec.submodule_search_locations if spec else []:
        if (path := Path(folder) / "TimGM6mb.sf2").is_file():
            return path
    raise AtlabError(
        "the notes need the sound font TimGM6mb.sf2 that the package pretty_midi 0.2.11 ships; "
        "found none: install pretty_midi==0.2.11"
    )


@cache
def general_midi() -> SoundFont:
    """The sound font of `general_midi_path`, read once per process."""
    return SoundFont(general_midi_path())


class SoundFont:
    """A SoundFont 2 file: `presets` maps (bank, program) to a name, `note` plays one.

    Raises AtlabError for a file that is missing or not a SoundFont 2.

    >>> font = SoundFont(general_midi_path())
    >>> font.presets[0, 73]
    'Flute TB'
    >>> font.note(73, key=69, velocity=100, seconds=0.5).shape
    (8000,)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise AtlabError(f"no sound font at {self.path}")
        data = self.path.read_bytes()
        if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
            raise AtlabError(f"{self.path} is not a SoundFont 2 file: it does not begin with RIFF ... sfbk")
        try:
            self._parse(_chunks(data))
        except (KeyError, IndexError, struct.error) as error:
            raise AtlabError(f"{self.path} is a broken SoundFont 2 file: {error!r}") from error

    def _parse(self, chunks: dict[bytes, memoryview]) -> None:
        whole = len(chunks[b"smpl"]) // 2 * 2
        self._samples = np.frombuffer(chunks[b"smpl"][:whole], "<i2")
        self._headers = _records(chunks[b"shdr"], "<20sIIIIIBbHH")
        preset_zones = _zones(chunks[b"pbag"], chunks[b"pgen"])
        instrument_zones = _zones(chunks[b"ibag"], chunks[b"igen"])
        presets = _records(chunks[b"phdr"], "<20sHHHIII")
        instruments = _records(chunks[b"inst"], "<20sH")
        self.presets = {(p[2], p[1]): p[0].split(b"\0")[0].decode("latin-1").strip() for p in presets[:-1]}
        self._regions = {}
        for preset, following in itertools.pairwise(presets):
            pairs = []
            for outer in _with_global(preset_zones[preset[3] : following[3]], INSTRUMENT):
                number = outer[INSTRUMENT]
                inner = instrument_zones[instruments[number][1] : instruments[number + 1][1]]
                pairs += [(outer, zone) for zone in _with_global(inner, SAMPLE)]
            self._regions[preset[2], preset[1]] = [self._region(*pair) for pair in pairs]

    def _region(self, preset: dict[int, int], zone: dict[int, int]) -> Region:
        _, start, end, loop_start, loop_end, rate, root, correction, _, _ = self._headers[zone[SAMPLE]]

        def total(generator: int, default: int = 0) -> int:
            return zone.get(generator, default) + preset.get(generator, 0)

        def seconds(generator: int) -> float:
            return 2.0 ** (total(generator, -12000) / 1200)

        def both(generator: int) -> tuple[int, int]:
            ranges = [zone.get(generator, EVERY_VALUE) & 0xFFFF, preset.get(generator, EVERY_VALUE) & 0xFFFF]
            return max(r & 0xFF for r in ranges), min(r >> 8 for r in ranges)

        start += zone.get(START, 0) + 32768 * zone.get(START_COARSE, 0)
        end = min(end + zone.get(END, 0) + 32768 * zone.get(END_COARSE, 0), len(self._samples))
        loop_start += zone.get(LOOP_START, 0) + 32768 * zone.get(LOOP_START_COARSE, 0)
        loop_end += zone.get(LOOP_END, 0) + 32768 * zone.get(LOOP_END_COARSE, 0)
        looped = zone.get(MODE, 0) & 1 and start <= loop_start and loop_start + 8 < loop_end <= end
        return Region(
            keys=both(KEYS),
            velocities=both(VELOCITIES),
            start=start,
            end=end,
            loop=(loop_start - start, loop_end - start) if looped else None,
            sample_rate=rate,
            root=next((r for r in (zone.get(ROOT, -1), root) if 0 <= r <= 127), 60),
            cents=100 * total(COARSE_TUNE) + total(FINE_TUNE) + correction,
            cents_per_key=zone.get(SCALE, 100),
            attenuation=ATTENUATION * max(total(ATTENUATE), 0) / 10,
            cutoff_cents=total(CUTOFF, OPEN),
            delay=seconds(DELAY),
            attack=seconds(ATTACK),
            hold=seconds(HOLD),
            decay=seconds(DECAY),
            sustain=min(max(total(SUSTAIN), 0), 1440) / 10,
            release=seconds(RELEASE),
        )

    def regions(self, program: int, key: int, velocity: int, bank: int = 0) -> list[Region]:
        """The regions that a key sounds; none where the sound font has a gap (its alto sax lacks key 64).

        Raises AtlabError for a program that the sound font lacks.

        >>> len(general_midi().regions(73, 69, 100)), len(general_midi().regions(65, 64, 100))
        (1, 0)
        """
        if (bank, program) not in self._regions:
            raise AtlabError(
                f"{self.path.name} has no program {program} in bank {bank}; "
                f"it has {len(self.presets)} presets, e.g. {list(self.presets)[:3]}"
            )
        return [region for region in self._regions[bank, program] if region.plays(key, velocity)]

    def note(
        self,
        program: int,
        key: int,
        velocity: int,
        *,
        seconds: float = 1.0,
        held: float | None = None,
        sample_rate: int = 16000,
        cents: np.ndarray | None = None,
        bank: int = 0,
    ) -> np.ndarray:
        """One dry note: float32 [round(seconds * sample_rate)], about -1..1, silent where no region plays.

        program 0..127 of the bank, key and velocity 0..127 as in MIDI; the key is held for `held` seconds
        (default 80 %); cents is a detuning of shape [samples] that may vary within the note. Raises
        AtlabError for a program that the sound font lacks.
        """
        from scipy.signal import resample_poly

        samples = round(seconds * sample_rate)
        rate = sample_rate * OVERSAMPLING
        time = np.arange(samples * OVERSAMPLING) / rate
        detune = 0.0 if cents is None else np.interp(time, np.arange(samples) / sample_rate, cents)
        sound = np.zeros(len(time))
        for region in self.regions(program, key, velocity, bank):
            pitch = (key - region.root) * region.cents_per_key + region.cents + detune
            step = np.broadcast_to(region.sample_rate / rate * 2.0 ** (pitch / 1200), time.shape)
            tone = _read(self._samples[region.start : region.end], np.cumsum(step) - step[0], region.loop)
            tone = _low_pass(tone, region.cutoff_cents - 2400 * (127 - velocity) / 128, rate)
            sound += tone * _envelope(region, time, 0.8 * seconds if held is None else held)
        sound *= (velocity / 127) ** 2
        return resample_poly(sound, 1, OVERSAMPLING)[:samples].astype(np.float32)


def _chunks(data: bytes) -> dict[bytes, memoryview]:
    """The leaves of the RIFF tree by name; sizes beyond the file's end are cut by slicing."""
    view, found, stack = memoryview(data), {}, [(12, len(data))]
    while stack:
        offset, end = stack.pop()
        while offset + 8 <= end:
            name, size = struct.unpack_from("<4sI", data, offset)
            if name == b"LIST":
                stack.append((offset + 12, min(offset + 8 + size, end)))
            else:
                found[name] = view[offset + 8 : offset + 8 + size]
            offset += 8 + size + size % 2
    return found


def _records(chunk: memoryview, layout: str) -> list[tuple]:
    return list(struct.iter_unpack(layout, chunk[: len(chunk) // struct.calcsize(layout) * struct.calcsize(layout)]))


def _zones(bags: memoryview, generators: memoryview) -> list[dict[int, int]]:
    """Every zone's generators: {number: signed amount}."""
    starts = [bag[0] for bag in _records(bags, "<HH")]
    pairs = _records(generators, "<Hh")
    return [dict(pairs[a:b]) for a, b in itertools.pairwise(starts)]


def _with_global(zones: list[dict[int, int]], terminal: int) -> list[dict[int, int]]:
    """The zones that end in `terminal`, each over the defaults of a leading zone that does not."""
    shared = zones[0] if zones and terminal not in zones[0] else {}
    return [{**shared, **zone} for zone in zones if terminal in zone]


def _read(samples: np.ndarray, position: np.ndarray, loop: tuple[int, int] | None) -> np.ndarray:
    """Samples at fractional positions, linearly interpolated; the loop repeats, else silence follows."""
    if loop:
        start, end = loop
        position = np.where(position < end, position, start + (position - start) % (end - start))
    left = position.astype(np.int64)
    right = left + 1
    if loop:
        right[right >= loop[1]] = loop[0]
    fraction = position - left
    padded = np.append(samples, np.int16(0)).astype(np.float64) / 32768
    last = len(samples)
    return padded[np.minimum(left, last)] * (1 - fraction) + padded[np.minimum(right, last)] * fraction


def _low_pass(tone: np.ndarray, cutoff_cents: float, rate: int) -> np.ndarray:
    from scipy.signal import butter, sosfilt

    cutoff = 8.176 * 2.0 ** (cutoff_cents / 1200)
    open_wide = cutoff_cents >= OPEN or cutoff >= 0.45 * rate
    return tone if open_wide else sosfilt(butter(2, cutoff, fs=rate, output="sos"), tone)


def _envelope(region: Region, time: np.ndarray, held: float) -> np.ndarray:
    """Delay, attack (linear), hold, decay to the sustain level (linear in dB) and release from `held` on."""
    top = region.delay + max(region.attack, 0.001)
    decibels = -np.clip((time - top - region.hold) / max(region.decay, 0.001) * 100, 0, region.sustain)
    decibels -= np.maximum(time - held, 0) / max(region.release, 0.02) * 100 + region.attenuation
    return 10 ** (decibels / 20) * np.clip((time - region.delay) / max(region.attack, 0.001), 0, 1)
