"""Who says which phone when: phones of utterances in TIMIT's alphabet, with exact boundaries for the embedded speech."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from atlab.data import FactorSet
from atlab.data.alphabet import FOLDING, PHONES
from atlab.data.synthetic.speech import SAMPLE_RATE, SECONDS, draw_voices, say_all, start_worker
from atlab.errors import AtlabError, unknown
from atlab.system.files import write_atomic

__all__ = ["FOLDING", "PHONES", "Segment", "fold", "phones", "segments", "table_path"]

Segment = tuple[int, int, str]  # first sample, end sample, phone
SILENCE = "h#"  # TIMIT's name for the pause at both ends of an utterance
# The phonemes that eSpeak NG was heard to use for English in the accents of the embedded speech, as TIMIT's 61 phones.
TIMIT = {
    **{name: name for name in ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"]},
    "h": "hh",
    "j": "y",
    "N": "ng",
    "D": "dh",
    "T": "th",
    "S": "sh",
    "Z": "zh",
    "tS": "ch",
    "dZ": "jh",
    "t#": "dx",
    "t2": "t",
    "t[": "t",
    "?": "q",
    "n-": "en",
    "w#": "w",
    "IR": "er",
    "VR": "er",
    "O2": "ao",
    "a": "ae",
    "aa": "ae",
    "A:": "aa",
    "A@": "aa",
    "0": "aa",
    "O:": "ao",
    "O@": "ao",
    "o@": "ao",
    "E": "eh",
    "e@": "eh",
    "3:": "er",
    "3": "axr",
    "V": "ah",
    "@": "ax",
    "@L": "el",
    "a#": "ax",
    "I": "ih",
    "I2": "ix",
    "I#": "ix",
    "i": "iy",
    "i:": "iy",
    "i@": "iy",
    "i@3": "iy",
    "U": "uh",
    "U@": "uh",
    "u:": "uw",
    "eI": "ey",
    "aI": "ay",
    "aI2": "ay",
    "aI3": "ay",
    "aI@": "ay",
    "OI": "oy",
    "aU": "aw",
    "oU": "ow",
}


def phones(fs: FactorSet, workers: int | None = None) -> list[str]:
    """The phones of every clip as text, "0 2000 h#;2000 3600 sh": first sample, end sample, one of TIMIT's 61 phones.

    TIMIT's clips have them as a column. Embedded speech is rendered again with the engine's own events, compared with
    the clips bit for bit, and the result is kept as `phones.parquet` in the data set's folder, next to the files that its
    content hash covers. Boundaries are then exact to the sample: a phone begins where the engine begins to produce it.

    Args:
        workers: processes for the rendering; all cores if None.

    Raises:
        AtlabError: a data set without known phones; another version of the engine than the one that rendered
            the clips; a phoneme without a counterpart among TIMIT's phones.

    >>> import atlab, tempfile
    >>> out = tempfile.mkdtemp() + "/speech"
    >>> fs = atlab.data.synthetic_speech(out, words="two", speakers=1, emotions=1, repetitions=1, workers=1)
    >>> [phone for _, _, phone in segments(phones(fs, workers=1)[0])]
    ['h#', 't', 'uw', 'h#']
    """
    if "phones" in fs.factors:
        return fs.factors["phones"].tolist()
    if fs.card.get("recipe") != "synthetic_speech":
        raise AtlabError(
            f"the data set {fs.card.get('name')!r} says nothing about phones; TIMIT and synthetic_speech do"
        )
    path = table_path(fs)
    if not path.exists():
        table = pd.DataFrame({"id": fs.factors["id"], "phones": _rendered(fs, workers)})
        try:
            write_atomic(path, table.to_parquet())
        except OSError:  # a data set that only others may write to: rendered again next time
            return table["phones"].tolist()
    return pd.read_parquet(path)["phones"].tolist()


def table_path(fs: FactorSet) -> Path:
    """Where the phones of an embedded data set are kept; the name tells the clips that they belong to."""
    return fs.path / f"phones-{fs.content_hash[:16]}.parquet"


def segments(text: str) -> list[Segment]:
    """(first sample, end sample, phone) of one clip's phones.

    >>> segments("0 2000 h#;2000 3600 sh")
    [(0, 2000, 'h#'), (2000, 3600, 'sh')]
    """
    parts = (part.split() for part in text.split(";"))
    return [(int(first), int(end), phone) for first, end, phone in parts]


def fold(names: list[str], size: int) -> list[str]:
    """61 or 48 phones as 48 or 39 (Lee & Hon 1989, table I); those left out (the glottal stop) are dropped.

    AtlabError for an unknown phone or number of phones.

    >>> fold(["h#", "z", "ix", "q", "axr"], 48), fold(["sil", "zh", "vcl"], 39)
    (['sil', 'z', 'ix', 'er'], ['sil', 'sh', 'sil'])
    """
    if size not in FOLDING:
        raise unknown("number of phones", size, FOLDING)
    folding = FOLDING[size] | {
        FOLDING[48][name]: folded for name, folded in FOLDING[size].items() if name in FOLDING[48]
    }
    for name in names:
        if name not in folding and name not in FOLDING[61]:
            raise unknown("phone", name, FOLDING[61])
    return [folding[name] for name in names if name in folding]


def _rendered(fs: FactorSet, workers: int | None) -> list[str]:
    """Phones of all clips, in the data set's order, from a rendering that is compared with them."""
    import os

    from atlab.system.processes import pool

    made = fs.card["parameters"]
    speakers, emotions = made["speakers"], sorted(set(fs.labels("emotion")))
    items = [(speaker, emotion) for speaker in range(speakers) for emotion in emotions]
    work = partial(_say_item, words=made["words"], repetitions=made["repetitions"], seed=fs.card["seed"])
    voices = draw_voices(speakers, fs.card["seed"])
    found: dict[str, tuple[str, str]] = {}
    with pool(workers or os.cpu_count() or 1, start_worker, (voices,)) as processes:
        for part in tqdm(
            processes.map(work, items), total=len(items), desc="phones of the speech", unit="voice", delay=2
        ):
            found.update(part)
    texts = []
    for row, name in enumerate(fs.factors["id"]):
        text, digest = found.get(name, ("", ""))
        if digest != hashlib.sha256(fs.read([row])[0].tobytes()).hexdigest():
            raise AtlabError(
                f"the clip {name} of {fs.path} is not what this engine says now ({made.get('engine')} rendered it): "
                "render the data set again to know its phones"
            )
        texts.append(text)
    return texts


def _say_item(item, words, repetitions: int, seed: int) -> dict[str, tuple[str, str]]:
    """In a worker: clip's name -> (phones, SHA-256 of the clip)."""
    return {
        said.name: (_text(said), hashlib.sha256(said.clip.tobytes()).hexdigest())
        for said in say_all(item, words, repetitions, seed, phonemes=True)
    }


def _text(said) -> str:
    """The phonemes of a rendered word between silences, as TIMIT writes them; those of no length are left out."""
    total = int(SECONDS * SAMPLE_RATE)
    end = min(said.onset + said.length, total)
    starts = [(_timit(name), min(max(first, said.onset), end)) for name, first in said.phonemes]
    starts = [(SILENCE, 0), *starts, (SILENCE, end)]
    merged: list[list] = []
    for (phone, first), (_, stop) in zip(starts, [*starts[1:], ("", total)], strict=True):
        if phone == SILENCE and merged and merged[-1][2] == SILENCE:
            merged[-1][1] = stop
        elif stop > first:
            merged.append([first, stop, phone])
    return ";".join(f"{first} {stop} {phone}" for first, stop, phone in merged)


def _timit(name: str) -> str:
    """eSpeak NG's name (with its stress marks) as TIMIT's."""
    plain = name.lstrip("',%=|")
    if plain.startswith("_"):
        return SILENCE
    if plain not in TIMIT:
        raise unknown("phoneme of eSpeak NG", plain, TIMIT)
    return TIMIT[plain]
