"""eSpeak NG through ctypes: words in voices that are described by numbers.

eSpeak NG is GPL-3 software inside the `espeakng-loader` wheel. It is a run-time part of the renderer
only: it is loaded in the renderer's worker processes, never in the user's own.
"""

from __future__ import annotations

import _ctypes
import ctypes
import importlib.metadata
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atlab.errors import AtlabError

SYNCHRONOUS = 2  # sound through the callback, without a thread; 25 times faster than mode 1
DONT_EXIT = 0x8000
PHONEME_EVENTS = 0x0001
PHONEME = 7  # kind of event
CHARS_UTF8 = 1
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; a list of them ends with one of kind 0."""

    _fields_ = [
        ("kind", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """A speaker: accent, pitch range (Hz), formants in percent of the accent's own, and colour of the voice.

    >>> plain = Voice("low", "en-us", (80, 120), ((100, 100, 100),) * 9, 100, 100, 100, roughness=0, breath=0)
    >>> plain.text().split("\\n")[1:4]
    ['name low', 'pitch 80 120', 'roughness 0']
    """

    name: str
    accent: str
    pitch: tuple[int, int]
    formants: tuple[tuple[int, int, int], ...]  # frequency, strength, width of formants 0 to 8
    voicing: int  # percent
    consonants: int  # percent
    speed: int  # percent
    roughness: int  # 0 to 7
    breath: int  # 0 to 10

    def text(self) -> str:
        """The voice-variant file that eSpeak NG reads."""
        lines = ["language variant", f"name {self.name}", f"pitch {self.pitch[0]} {self.pitch[1]}"]
        lines += [f"roughness {self.roughness}", f"voicing {self.voicing}", f"speed {self.speed}"]
        lines += [f"consonants {self.consonants} {self.consonants}"]
        lines += ["breath " + " ".join([str(self.breath)] * 8)] if self.breath else []
        lines += [f"formant {n} {f} {strength} {width}" for n, (f, strength, width) in enumerate(self.formants)]
        return "\n".join(lines) + "\n"


def installed_version() -> str:
    """The wheel's version, found without loading it; AtlabError that says what to install if missing."""
    try:
        return importlib.metadata.version("espeakng-loader")
    except importlib.metadata.PackageNotFoundError:
        raise AtlabError("synthetic speech needs eSpeak NG: pip install espeakng-loader") from None


def data_folder(folder: str | Path, voices: Iterable[Voice]) -> Path:
    """A private data folder for the engine: links to the wheel's files, and the voices as variants."""
    import espeakng_loader

    theirs, ours = Path(espeakng_loader.get_data_path()), Path(folder) / "espeak-ng-data"
    (ours / "voices" / "!v").mkdir(parents=True)
    for name in ("phondata", "phonindex", "phontab", "intonations", "en_dict", "lang"):
        (ours / name).symlink_to(theirs / name)
    for voice in voices:
        (ours / "voices" / "!v" / voice.name).write_text(voice.text())
    return ours


class Engine:
    """A freshly loaded eSpeak NG; `say` returns a word's samples, `close` unloads it.

    The engine keeps state (the phase of the flutter, trills, breath), so what it says depends on what it
    said before. Loading takes a millisecond: for the same bytes each time, have a fresh engine say a
    fixed list of words. One at a time per process. With `phonemes`, the attribute `phonemes` holds
    those of the word said last: (eSpeak NG's name, first sample), a pause being "_" or "_:". The sound is the same.

    Raises AtlabError if the wheel is missing, the engine does not start, or does not know a voice.
    """

    def __init__(self, data: str | Path, phonemes: bool = False) -> None:
        installed_version()
        import espeakng_loader

        self._library = library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,  # text
            ctypes.c_size_t,  # bytes, with the terminating zero
            ctypes.c_uint,  # position
            ctypes.c_int,  # kind of position: 1, characters
            ctypes.c_uint,  # end position
            ctypes.c_uint,  # flags
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
        options = DONT_EXIT | (PHONEME_EVENTS if phonemes else 0)
        self.sample_rate = library.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), options)
        if self.sample_rate <= 0:
            self.close()
            raise AtlabError(f"eSpeak NG did not start with the data in {data} (code {self.sample_rate})")
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._pieces: list[bytes] = []
        self.phonemes: list[tuple[str, int]] = []
        self._callback = _Callback(self._take)  # kept, or the engine would call freed memory
        library.espeak_SetSynthCallback(self._callback)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unload the library, and with it its state."""
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def _take(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        event = ctypes.cast(events, ctypes.POINTER(_Event))
        for number in itertools.count() if events else ():
            if not event[number].kind:
                break
            if event[number].kind == PHONEME:
                self.phonemes.append((event[number].id.string.decode(), event[number].sample))
        return 0

    def say(
        self, word: str, voice: Voice, rate: int = 175, pitch: int = 50, pitch_range: int = 50, volume: int = 100
    ) -> np.ndarray:
        """int16 samples [T] at `sample_rate`.

        The rate is in words a minute (80 to 450), the others run from 0 to 100, volume to 200; values
        beyond are set to the nearest allowed one.
        """
        name = f"{voice.accent}+{voice.name}"
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise AtlabError(f"eSpeak NG does not know the voice {name!r}")
        limits = ((RATE, rate, 80, 450), (PITCH, pitch, 0, 100), (RANGE, pitch_range, 0, 100), (VOLUME, volume, 0, 200))
        for parameter, value, low, high in limits:
            self._library.espeak_SetParameter(parameter, min(max(int(value), low), high), 0)
        self._pieces.clear()
        self.phonemes.clear()
        text = word.encode() + b"\0"
        code = self._library.espeak_Synth(text, len(text), 0, 1, 0, CHARS_UTF8, None, None)
        if code != 0:
            raise AtlabError(f"eSpeak NG could not say {word!r} (code {code})")
        return np.frombuffer(b"".join(self._pieces), dtype="<i2")
