"""IEMOCAP: emotional speech of ten actors in five dyadic sessions, improvised and scripted.

Licence: for research after an agreement with USC SAIL. Access: request form on the site of SAIL, University
of Southern California; give the unpacked `IEMOCAP_full_release` folder with `Session1/` to `Session5/`.
Citation: Busso et al., "IEMOCAP: interactive emotional dyadic motion capture database", LREC 42(4), 2008.

Layout: `SessionN/sentences/wav/<dialog>/<utterance>.wav`, labels in
`SessionN/dialog/EmoEvaluation/<dialog>.txt`. The speaker of an utterance is its session plus the letter of
its own turn (`_F012`, `_M012`), not the dialog's prefix (`Ses01F_...` says who wore the markers): ten
speakers, where the anti-transfer paper's five are the sessions.

Protocols: neutral, angry, happy, sad. Guizzo et al. 2021 drop `exc` (excitement="drop"); Fayek et al. 2018
count it as happiness (excitement="merge"; 5,531 utterances). Segments of 4 s (target) or 1 s (orthogonal
task) with 50 % overlap cover each utterance; the last one, or an utterance that is shorter, is zero-padded.
Segments of one utterance share their source.

Splits: "random" (by utterance) and "official": sessions 1-3 to train, 4 to validate, 5 to test (the published class split).
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path

from atlab.data.build import Clip, build
from atlab.data.factorset import FactorSet
from atlab.errors import AtlabError, unknown
from data_recipes import corpus
from data_recipes.audio import fit_length, read_audio, to_int16

NAME = "iemocap"
LICENCE = "research only, by agreement with USC SAIL"
CITATION = "Busso et al. 2008, IEMOCAP: interactive emotional dyadic motion capture database, LREC 42(4)"
ACCESS = "on request: Signal Analysis and Interpretation Laboratory, University of Southern California"
SIZE = "12 hours, 10,039 utterances (4,490 of the four emotions, 5,531 with excitement)"
FACTORS = {
    "emotion": "neu, ang, hap, sad",
    "speaker": "actor (10): session and the letter of the utterance's turn",
    "session": "Ses01 to Ses05 (the published code's five speakers)",
    "gender": "F or M",
    "scripted": "script or impro",
}
PUBLISHED = {
    "neu": 1708,
    "ang": 1103,
    "hap": 595,
    "sad": 1084,
    "exc": 1041,
    "fru": 1849,
    "sur": 107,
    "fea": 40,
    "dis": 2,
    "oth": 3,
    "xxx": 2507,
}  # 10,039 utterances
EMOTIONS = ("neu", "ang", "hap", "sad")
OFFICIAL = {"Ses04": "validation", "Ses05": "test"}  # the others train
SPEAKERS = tuple(f"Ses{n:02d}{letter}" for n in range(1, 6) for letter in "FM")
_UTTERANCE = re.compile(r"(Ses0[1-5])[FM]_(impro|script)\w*_([FM])\w{3}")
_LABEL = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t")


def prepare(
    raw: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    seconds: float = 4.0,
    excitement: str = "drop",
    silence: float = corpus.SILENCE,
) -> FactorSet:
    """FactorSet of IEMOCAP segments, int16 [N, 16000 * seconds] at 16 kHz.

    seconds: length of a segment (the papers use 4 and 1), half of it overlaps the next; excitement: "drop" or
    "merge" (into hap); silence: segments not louder than this fraction of full scale are dropped (0 keeps
    them). Raises AtlabError for a missing session or label file and for unknown options.
    """
    raw = corpus.expect_folder(raw, "IEMOCAP folder")
    if excitement not in ("drop", "merge"):
        raise unknown("treatment of excitement", excitement, ("drop", "merge"))
    seconds, silence = corpus.number("seconds", seconds, 0.1, 60), corpus.number("silence", silence, 0, 1)
    found, dropped, items = Counter(), Counter(), []
    for number in range(1, 6):
        for path, label in _utterances(corpus.expect_folder(raw / f"Session{number}", "IEMOCAP session"), dropped):
            found[label] += 1
            emotion = "hap" if label == "exc" and excitement == "merge" else label
            if emotion in EMOTIONS:
                items.append((path.relative_to(raw).as_posix(), emotion))
            else:
                dropped[f"emotion {label}"] += 1
    counts = corpus.compare(NAME, found, PUBLISHED)
    card = {
        "name": NAME,
        "kind": "audio",
        "licence": LICENCE,
        "citation": CITATION,
        "recipe": NAME,
        "recipe_version": 2,
        "seed": 0,
        "sample_rate": corpus.SAMPLE_RATE,
        "published_clips": counts,
        "dropped": {reason: count for reason, count in dropped.items() if count},
        "parameters": {"seconds": seconds, "overlap": 0.5, "excitement": excitement, "silence": silence},
    }
    convert = functools.partial(_convert, raw=raw, length=round(seconds * corpus.SAMPLE_RATE), silence=silence)
    return build(out, items, convert, card=card, factors=list(FACTORS), workers=workers, title="IEMOCAP")


def _utterances(session: Path, dropped: Counter) -> list[tuple[Path, str]]:
    """(sound file, emotion) of every labelled utterance; sound files without a label line are counted."""
    waves = corpus.expect_folder(session / "sentences" / "wav", "folder of utterances")
    labelled = []
    for dialog in sorted(p for p in waves.iterdir() if p.is_dir() and not p.name.startswith(".")):
        labels = _labels(corpus.expect_file(session / "dialog" / "EmoEvaluation" / f"{dialog.name}.txt", "label file"))
        paths = {path.stem: path for path in corpus.sounds(dialog, ".wav")}
        dropped["no emotion label"] += len(paths.keys() - labels.keys())
        dropped["label without sound file"] += len(labels.keys() - paths.keys())
        labelled += [(path, labels[name]) for name, path in paths.items() if name in labels]
    return labelled


def _labels(path: Path) -> dict[str, str]:
    """Emotion of each utterance in an EmoEvaluation file."""
    lines, labels = path.read_text(encoding="utf-8", errors="replace").splitlines(), {}
    for match in filter(None, map(_LABEL.match, lines)):
        if labels.setdefault(match[1], match[2]) != match[2]:
            raise AtlabError(f"{path} labels {match[1]} twice, {labels[match[1]]} and {match[2]}; expected one label")
    if not labels:
        raise AtlabError(
            f"no label line in {path}; expected lines such as "
            "'[6.2901 - 8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5, 2.5, 2.5]'"
        )
    wrong = [name for name in labels if not _UTTERANCE.fullmatch(name)]
    if wrong:
        raise AtlabError(f"utterance name {wrong[0]!r} in {path}; expected names such as Ses01F_impro01_F000")
    return labels


def _convert(item: tuple[str, str], raw: Path, length: int, silence: float) -> tuple[list[Clip], dict[str, int]]:
    name, emotion = item
    wave = read_audio(raw / name, corpus.SAMPLE_RATE)
    utterance = Path(name).stem
    session, scripted, letter = _UTTERANCE.fullmatch(utterance).groups()
    clips, dropped = [], Counter()
    for k, start in enumerate(corpus.segment_starts(len(wave), length, length // 2)):
        part = wave[start : start + length]
        if corpus.is_silent(part, silence):
            dropped["silent"] += 1
            continue
        clips.append(
            Clip(
                to_int16(fit_length(part, length)),
                {
                    "id": f"{utterance}-{k:02d}",
                    "source": name,
                    "duration": len(part) / corpus.SAMPLE_RATE,
                    "emotion": emotion,
                    "speaker": session + letter,
                    "session": session,
                    "official": OFFICIAL.get(session, "train"),
                    "gender": letter,
                    "scripted": scripted,
                },
            )
        )
    return clips, dict(dropped)
