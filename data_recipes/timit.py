"""TIMIT: 630 speakers of American English read ten sentences each, with hand-labelled phones.

Licence: LDC user agreement. Access: Linguistic Data Consortium, LDC93S1; give the folder that holds `TRAIN/`
and `TEST/` (upper or lower case). Citation: Garofolo et al., "DARPA TIMIT Acoustic-Phonetic Continuous Speech
Corpus", NIST 1993.

Layout: `{TRAIN,TEST}/DR1..8/<speaker>/{SA,SI,SX}n.WAV` (NIST SPHERE, 16 kHz) with `.PHN` next to it: lines of
first sample, end sample and phone.

Protocol (Fayek et al. 2018, section 3): all 462 training speakers, the 50-speaker development set and the
24-speaker core test set, SA sentences excluded; 61 phones mapped to 48 for training and 39 for scoring (Lee
and Hon 1989, table I); frames of 25 ms every 10 ms under a Hamming window, 40 log mel filter-bank
coefficients.

One clip is one utterance, zero-padded to 8 s (the longest lasts 7.8 s). Its phones are kept as text in the
column `phones` ("0 2000 h#;2000 3600 sh"), from which `atlab.transfer.phones` computes the label of every frame.
Column official: train, validation (the development set) or test (the core test set).
"""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

from atlab.data.alphabet import FOLDING
from atlab.data.build import BrokenInput, Clip, build
from atlab.data.factorset import FactorSet
from atlab.errors import AtlabError
from atlab.system.foreign import read_text
from data_recipes import corpus
from data_recipes.audio import fit_length, read_audio, to_int16

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
        if "." in sentence:  # some copies of the corpus hold SA1.WAV.wav next to SA1.WAV
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
        segments = parse_phones(read_text(path.with_name(labels)))
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
