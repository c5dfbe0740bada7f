"""TIMIT: 630 speakers of American English read ten sentences each, with hand-labelled phones.

Licence: LDC user agreement. Access: Linguistic Data Consortium, LDC93S1; give the folder that holds `TRAIN/`
and `TEST/` (upper or lower case). Citation: Garofolo et al., "DARPA TIMIT Acoustic-Phonetic Continuous Speech
Corpus", NIST 1993.

Layout: `{TRAIN,TEST}/DR1..8/<speaker>/{SA,SI,SX}n.WAV` (NIST SPHERE, 16 kHz) with `.PHN` beside it: lines of
first sample, end sample and phone.

Protocol (Fayek et al. 2018, section 3): all 462 training speakers, the 50-speaker development set and the
24-speaker core test set, SA sentences excluded; 61 phones mapped to 48 for training and 39 for scoring (Lee
and Hon 1989, table I); frames of 25 ms every 10 ms under a Hamming window, 40 log mel filter-bank
coefficients.

One clip is one utterance, zero-padded to 8 s (the longest lasts 7.8 s). Its phones are kept as text in the
column `phones` ("0 2000 h#;2000 3600 sh"), from which `frame_labels` computes the label of every frame for
61, 48 or 39 phones and any number of HMM-like states: labels and sound cannot fall apart, no second file is
needed. For frame classification `Frames(fs)` is a view in which every row is a frame with its neighbours, and
`filterbank` turns its waveforms into [frames, 40].
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlab.data.build import BrokenInput, Clip, build
from atlab.data.factorset import FactorSet
from atlab.data.mel import FRAME, STRIDE
from atlab.data.splits import Split
from atlab.errors import AtlabError, unknown
from atlab.transfer.phones.alphabet import FOLDING, PHONES, TO_39
from data_recipes import corpus
from data_recipes.audio import fit_length, read_audio, to_int16

if TYPE_CHECKING:
    import pandas

NAME = "timit"
LICENCE = "LDC user agreement (LDC93S1)"
CITATION = "Garofolo et al. 1993, DARPA TIMIT Acoustic-Phonetic Continuous Speech Corpus, NIST"
ACCESS = "by licence: Linguistic Data Consortium, LDC93S1"
SIZE = "6,300 utterances; 4,288 used (1.1 GB)"
FACTORS = {
    "speaker": "speaker (536 used of 630)",
    "gender": "F or M",
    "dialect": "dialect region DR1 to DR8",
    "sentence": "SI (diverse) or SX (compact)",
    "official": "train (462 speakers), validation (50), test (24, core)",
}
PUBLISHED = {
    "train speakers": 462,
    "validation speakers": 50,
    "test speakers": 24,
    "train utterances": 3696,
    "validation utterances": 400,
    "test utterances": 192,
}
CORE_TEST = (
    "MDAB0",
    "MWBT0",
    "FELC0",
    "MTAS1",
    "MWEW0",
    "FPAS0",
    "MJMP0",
    "MLNT0",
    "FPKT0",
    "MLLL0",
    "MTLS0",
    "FJLM0",
    "MBPM0",
    "MKLT0",
    "FNLP0",
    "MCMJ0",
    "MJDH0",
    "FMGD0",
    "MGRT0",
    "MNJM0",
    "FDHC0",
    "MJLN0",
    "MPAM0",
    "FMLD0",
)
DEVELOPMENT = (
    "FAKS0",
    "FDAC1",
    "FJEM0",
    "MGWT0",
    "MJAR0",
    "MMDB1",
    "MMDM2",
    "MPDF0",
    "FCMH0",
    "FKMS0",
    "MBDG0",
    "MBWM0",
    "MCSH0",
    "FADG0",
    "FDMS0",
    "FEDW0",
    "MGJF0",
    "MGLB0",
    "MRTK0",
    "MTAA0",
    "MTDT0",
    "MTHC0",
    "MWJG0",
    "FNMR0",
    "FREW0",
    "FSEM0",
    "MBNS0",
    "MMJR0",
    "MDLS0",
    "MDLF0",
    "MDVC0",
    "MERS0",
    "FMAH0",
    "FDRW0",
    "MRCS0",
    "MRJM4",
    "FCAL1",
    "MMWH0",
    "FJSJ0",
    "MAJC0",
    "MJSW0",
    "MREB0",
    "FGJD0",
    "FJMG0",
    "MROA0",
    "MTEB0",
    "MJFC0",
    "MRJR0",
    "FMML0",
    "MRWS1",
)

FOLDING[39] = {phone: TO_39.get(folded, folded) for phone, folded in FOLDING[48].items()}

SAMPLES = 8 * corpus.SAMPLE_RATE


def prepare(raw: str | Path, out: str | Path, *, workers: int | None = None) -> FactorSet:
    """FactorSet of TIMIT utterances, int16 [N, 128000] at 16 kHz, phones in the column `phones`.

    Raises AtlabError for a missing folder or .PHN file.
    """
    root = _root(corpus.expect_folder(raw, "TIMIT folder"))
    items, dropped, found = [], Counter(), Counter()
    speakers: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for region, speaker, sentence, sound, labels in _utterances(root):
        part = _part(sound.relative_to(root).parts[0], speaker)
        if "." in sentence:  # some copies of the corpus hold SA1.WAV.wav beside SA1.WAV
            dropped["converted copy of an utterance"] += 1
        elif sentence.startswith("SA"):
            dropped["SA sentence"] += 1
        elif part is None:
            dropped["test speaker outside the development and core sets"] += 1
        else:
            items.append((part, region, speaker, sentence, str(sound.relative_to(root)), labels.name))
            found[f"{part} utterances"] += 1
            speakers[part].add(speaker)
    found.update({f"{part} speakers": len(names) for part, names in speakers.items()})
    counts = corpus.compare(NAME, found, PUBLISHED)
    card = {
        "name": NAME,
        "kind": "audio",
        "licence": LICENCE,
        "citation": CITATION,
        "recipe": NAME,
        "recipe_version": 1,
        "seed": 0,
        "sample_rate": corpus.SAMPLE_RATE,
        "published_clips": counts,
        "dropped": {reason: count for reason, count in dropped.items() if count},
        "parameters": {},
    }
    convert = functools.partial(_convert, root=root)
    return build(out, items, convert, card=card, factors=list(FACTORS), workers=workers, title="TIMIT")


def official_split(fs: FactorSet | Frames) -> Split:
    """462 training, 50 development and 24 core test speakers, of utterances or of their frames."""
    official = fs.labels("official")
    rows = [np.flatnonzero(official == part) for part in ("train", "validation", "test")]
    return Split(*rows, {"split": "timit.official"})


def parse_phones(text: str) -> list[tuple[int, int, str]]:
    """(first sample, end sample, phone) of a .PHN file's lines; ValueError if one is malformed.

    >>> parse_phones("0 2000 h#\\n2000 3600 sh\\n")
    [(0, 2000, 'h#'), (2000, 3600, 'sh')]
    """
    segments = []
    for line in text.splitlines():
        if line.strip():
            first, end, phone = line.split()
            if phone not in FOLDING[61] or not 0 <= int(first) <= int(end):
                raise ValueError(f"unusable phone line {line!r}")
            segments.append((int(first), int(end), phone))
    if not segments:
        raise ValueError("no phone")
    return segments


def frame_labels(fs: FactorSet, rows: Sequence[int] | None = None, *, phones: int = 48, states: int = 1) -> np.ndarray:
    """Class of every frame, int16 [rows, 798]: the phone at the frame's centre sample; -1 for padding and q.

    phones: 61, 48 or 39; with states > 1 every phone segment is cut in that many equal parts and the class is
    phone * states + part (48 phones x 3 states are the 144 classes of Fayek et al. 2018, with uniform instead
    of aligned states). The names are PHONES[phones]. Raises AtlabError for another number of phones.
    """
    if phones not in FOLDING:
        raise unknown("number of phones", phones, FOLDING)
    states = corpus.whole_number("states", states)
    code = {name: k for k, name in enumerate(PHONES[phones])}
    texts = fs.factors["phones"] if rows is None else fs.factors["phones"].iloc[np.asarray(rows)]
    centres = np.arange(1 + (SAMPLES - FRAME) // STRIDE) * STRIDE + FRAME // 2
    labels = np.full((len(texts), len(centres)), -1, dtype=np.int16)
    for row, text in zip(labels, texts, strict=True):
        for first, end, phone in parse_phones(text.replace(";", "\n")):
            inside = slice(*np.searchsorted(centres, (first, end)))
            if phone in FOLDING[phones]:
                part = (centres[inside] - first) * states // max(end - first, 1)
                row[inside] = code[FOLDING[phones][phone]] * states + part
    return labels


class Frames:
    """A view of a TIMIT FactorSet in which every row is one labelled frame in the middle of its neighbours.

    It has the interface of a FactorSet: `read(rows)` gives int16 [rows, (context - 1) * 160 + 400], which
    `filterbank` turns into [rows, context, 40]; beyond the ends of an utterance there are zeros. The factor
    `phone` (with states > 1: "sh/0") comes beside the utterance's own, id is "<utterance>@<frame>". Frames of
    padding and of the glottal stop are left out. Raises AtlabError for an even context or an unknown number
    of phones.
    """

    def __init__(self, fs: FactorSet, phones: int = 48, states: int = 1, context: int = 15) -> None:
        context = corpus.whole_number("context", context)
        if context % 2 == 0:
            raise AtlabError(f"context is {context}; allowed: an odd number of frames")
        labels = frame_labels(fs, phones=phones, states=states)
        self._fs, self._context = fs, context
        self._utterance, self._frame = (index.astype(np.int32) for index in np.nonzero(labels >= 0))
        self._codes = labels[self._utterance, self._frame].astype(np.int64)
        names = PHONES[phones]
        self._names = list(names) if states == 1 else [f"{name}/{s}" for name in names for s in range(states)]
        self._view = f"frames-{phones}-{states}-{context}"
        self.path, self.kind, self.sample_rate = fs.path, fs.kind, fs.sample_rate

    def __len__(self) -> int:
        return len(self._codes)

    @functools.cached_property
    def card(self) -> dict:
        card = dict(self._fs.card)
        return card | {
            "name": f"{card['name']}-{self._view}",
            "clips": len(self),
            "content_hash": self.content_hash,
            "shape": [(self._context - 1) * STRIDE + FRAME],
            "factors": {**card["factors"], "phone": len(self.classes("phone"))},
        }

    @functools.cached_property
    def content_hash(self) -> str:
        import hashlib

        return hashlib.sha256(f"{self._fs.content_hash} {self._view}".encode()).hexdigest()

    @property
    def factor_names(self) -> list[str]:
        return [*self._fs.factor_names, "phone"]

    @functools.cached_property
    def factors(self) -> pandas.DataFrame:
        """One row per frame: the utterance's columns (without `phones`), id, duration of a frame, phone."""
        table = self._fs.factors.drop(columns="phones").iloc[self._utterance].reset_index(drop=True)
        table["id"] = table["id"] + "@" + self._frame.astype(str)
        table["duration"] = FRAME / corpus.SAMPLE_RATE
        table["phone"] = np.asarray(self._names, dtype=object)[self._codes]
        return table

    def labels(self, factor: str, rows: Sequence[int] | None = None) -> np.ndarray:
        """Values of a factor, one per frame."""
        if factor == "phone":
            values = np.asarray(self._names, dtype=object)[self._codes]
        else:
            values = self._fs.labels(factor)[self._utterance]
        return values if rows is None else values[np.asarray(rows)]

    def classes(self, factor: str) -> list:
        """Sorted values of a factor that occur."""
        if factor == "phone":
            return sorted(self._names[code] for code in np.unique(self._codes))
        return self._fs.classes(factor)

    def codes(self, factor: str, classes: Sequence | None = None) -> np.ndarray:
        """int64 class numbers of a factor, one per frame; -1 where `classes` leaves a value out."""
        if factor != "phone":
            return self._fs.codes(factor, classes)[self._utterance]
        classes = self.classes("phone") if classes is None else list(classes)
        number = {name: k for k, name in enumerate(classes)}
        codes = np.array([number.get(name, -1) for name in self._names], dtype=np.int64)[self._codes]
        if not (codes >= 0).any():
            raise AtlabError(
                f"factor 'phone' has none of the classes {classes[:8]}; it has {self.classes('phone')[:8]}"
            )
        return codes

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Waves of frames and their neighbours, int16 [rows, (context - 1) * 160 + 400]."""
        rows = np.asarray(rows)
        length = (self._context - 1) * STRIDE + FRAME
        margin = self._context // 2 * STRIDE
        waves = np.zeros((len(rows), length), dtype=np.int16)
        utterances, where = np.unique(self._utterance[rows], return_inverse=True)
        for start in range(0, len(utterances), 64):  # a shuffled batch touches many utterances: memory stays flat
            block = self._fs.read(utterances[start : start + 64])
            for k in np.flatnonzero((where >= start) & (where < start + 64)):
                first = int(self._frame[rows[k]]) * STRIDE - margin
                part = block[where[k] - start, max(first, 0) : first + length]
                waves[k, max(-first, 0) : max(-first, 0) + len(part)] = part
        return waves


def _root(raw: Path) -> Path:
    """The folder with TRAIN and TEST: the one given or its TIMIT folder."""
    for folder in (raw, *(p for p in sorted(raw.iterdir()) if p.is_dir() and p.name.upper() == "TIMIT")):
        if {"TRAIN", "TEST"} <= {p.name.upper() for p in folder.iterdir()}:
            return folder
    raise AtlabError(f"TIMIT folders not found: expected {raw / 'TRAIN'} and {raw / 'TEST'}")


def _utterances(root: Path) -> list[tuple[str, str, str, Path, Path]]:
    """(region, speaker, sentence, sound file, .PHN file) of every utterance, sorted by path."""
    found = []
    for sound in sorted(p for p in root.glob("*/*/*/*") if p.suffix.upper() == ".WAV" and p.name[0] != "."):
        _, region, speaker, _ = (part.upper() for part in sound.relative_to(root).parts)
        labels = sound.with_suffix(".phn" if sound.suffix.islower() else ".PHN")
        if "." not in sound.stem:
            corpus.expect(labels, "phone labels")
        found.append((region, speaker, sound.stem.upper(), sound, labels))
    return found


def _part(folder: str, speaker: str) -> str | None:
    if folder.upper() == "TRAIN":
        return "train"
    return "validation" if speaker in DEVELOPMENT else "test" if speaker in CORE_TEST else None


def _convert(item: tuple[str, str, str, str, str, str], root: Path) -> tuple[list[Clip], dict[str, int]]:
    part, region, speaker, sentence, name, labels = item
    path = root / name
    wave = read_audio(path, corpus.SAMPLE_RATE)
    try:
        segments = parse_phones(path.with_name(labels).read_text(encoding="ascii"))
    except ValueError as error:
        raise BrokenInput(f"{path.with_name(labels)}: {error}") from None
    if len(wave) > SAMPLES:
        return [], {"utterance over 8 s": 1}
    row = {
        "id": f"{speaker}-{sentence}",
        "source": Path(name).as_posix(),
        "duration": len(wave) / corpus.SAMPLE_RATE,
        "speaker": speaker,
        "gender": speaker[0],
        "dialect": region,
        "sentence": sentence[:2],
        "official": part,
        "phones": ";".join(f"{first} {end} {phone}" for first, end, phone in segments),
    }
    return [Clip(to_int16(fit_length(wave, SAMPLES)), row)], {}
