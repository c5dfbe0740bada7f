"""LibriSpeech words: one-word excerpts of read audio books, cut by word alignments.

Licence: CC BY 4.0. Access: LibriSpeech is a free download from OpenSLR (resource 12); the alignments are the
release of CorentinJ/librispeech-alignments, made with the Montreal Forced Aligner. Give the folder that holds
`train-clean-100/` (or another part); the alignments lie next to the sound files or in a folder of the same
layout (`alignments`). Citation: Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio
books", ICASSP 2015.

Layout: `<part>/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac` and, in the same folder of the
alignments, `<speaker>-<chapter>.alignment.txt`; each line holds an utterance, a quoted comma list of words
(empty = silence) and a quoted comma list of their end times in seconds. A word begins where the entry before
it ends.

Protocol (Guizzo et al. 2021, section 4.1-4.2): the 1,000 most frequent words of 40 speakers, zero-padded to 4
s. The paper does not name its speakers: here they are those with the most aligned words. Words of the same
utterance share their source. Ties in frequency are broken alphabetically.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from pathlib import Path

from tqdm.auto import tqdm

from atlab.data.build import BrokenInput, Clip, build
from atlab.data.factorset import FactorSet
from atlab.errors import AtlabError
from atlab.system.foreign import read_text
from data_recipes import corpus
from data_recipes.audio import fit_length, read_audio, to_int16

NAME = "librispeech_words"
LICENCE = "CC BY 4.0"
CITATION = "Panayotov et al. 2015, LibriSpeech: an ASR corpus based on public domain audio books, ICASSP"
ACCESS = "free download: OpenSLR resource 12; word alignments: GitHub CorentinJ/librispeech-alignments"
SIZE = "about 100 hours of zero-padded 4 s clips (11 GB) from train-clean-100"
FACTORS = {"word": "the spoken word, lower case", "speaker": "reader number", "chapter": "chapter number"}
PUBLISHED = {  # utterances and speakers of the parts (Panayotov et al. 2015, table 1; corpus README)
    "dev-clean": {"utterances": 2703, "speakers": 40},
    "test-clean": {"utterances": 2620, "speakers": 40},
    "dev-other": {"utterances": 2864, "speakers": 33},
    "test-other": {"utterances": 2939, "speakers": 33},
    "train-clean-100": {"utterances": 28539, "speakers": 251},
    "train-clean-360": {"utterances": 104014, "speakers": 921},
    "train-other-500": {"utterances": 148688, "speakers": 1166},
}
SAMPLES = 4 * corpus.SAMPLE_RATE
SHORTEST = 0.05  # seconds: shorter ones are errors of the alignment
Word = tuple[str, float, float]  # word, start and end in seconds


def prepare(
    raw: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    part: str = "train-clean-100",
    words: int = 1000,
    speakers: int = 40,
    alignments: str | Path | None = None,
    silence: float = corpus.SILENCE,
) -> FactorSet:
    """FactorSet of single words, int16 [N, 64000] at 16 kHz.

    part: folder of the corpus; words: number of most frequent words kept; speakers: number of speakers kept;
    alignments: root of the alignment files where they are not next to the sound files; silence: words not
    louder than this fraction of full scale are dropped (0 keeps them). Raises AtlabError for a missing
    folder, no alignment at all, or an alignment that cannot be read (file and line named).
    """
    raw = corpus.expect_folder(raw, "LibriSpeech folder")
    words, speakers = corpus.whole_number("words", words), corpus.whole_number("speakers", speakers)
    silence = corpus.number("silence", silence, 0, 1)
    folder = corpus.expect_folder(raw / part, f"LibriSpeech part {part!r}")
    aligned_root = corpus.expect_folder(Path(alignments or raw) / part, "folder of word alignments")
    utterances, found, dropped = _utterances(folder, aligned_root)
    counts = corpus.compare(NAME, found, PUBLISHED.get(part, {}))
    chosen = _most_common(
        Counter({name: sum(len(u[3]) for u in group) for name, group in utterances.items()}), speakers
    )
    spoken = Counter(word for name in chosen for u in utterances[name] for word, _, _ in u[3])
    vocabulary = set(_most_common(spoken, words))
    items = []
    for name in sorted(chosen):
        for speaker, chapter, utterance, said in utterances[name]:
            kept = [(k, *word) for k, word in enumerate(said) if word[0] in vocabulary]
            if kept:
                items.append((speaker, chapter, utterance, kept))
    dropped["rare word"] = sum(spoken.values()) - sum(len(item[3]) for item in items)
    dropped["speaker not drawn"] = sum(len(u[3]) for n, g in utterances.items() if n not in chosen for u in g)
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
        "parameters": {"part": part, "words": words, "speakers": speakers, "silence": silence},
    }
    convert = functools.partial(_convert, folder=folder, silence=silence)
    return build(out, items, convert, card=card, factors=list(FACTORS), workers=workers, title="LibriSpeech words")


def parse_alignment(line: str) -> tuple[str, list[Word]]:
    """Utterance and (word, start, end) of one alignment line, silences left out; ValueError if it is
    malformed.

    >>> parse_alignment('84-121123-0000 ",GO,,ON" "0.5,0.75,1.0,1.5"')
    ('84-121123-0000', [('go', 0.5, 0.75), ('on', 1.0, 1.5)])
    """
    utterance, words, ends = line.split()
    if not all(len(part) > 1 and part[0] == part[-1] == '"' for part in (words, ends)):
        raise ValueError("lists are not quoted")
    names, times = words[1:-1].split(","), [float(end) for end in ends[1:-1].split(",")]
    if len(names) != len(times):
        raise ValueError(f"{len(names)} words but {len(times)} end times")
    starts = [0.0, *times[:-1]]
    if not all(start <= end < math.inf for start, end in zip(starts, times, strict=True)):
        raise ValueError("end times decrease, or are missing")
    return utterance, [
        (name.lower(), start, end) for name, start, end in zip(names, starts, times, strict=True) if name
    ]


def _utterances(folder: Path, aligned_root: Path) -> tuple[dict[str, list], dict[str, int], Counter]:
    """Aligned utterances (speaker, chapter, utterance, words) by speaker, counts of the part, drops."""
    chapters = sorted(p for p in folder.glob("*/*") if p.is_dir())
    by_speaker: dict[str, list] = {}
    found, dropped = Counter(), Counter()
    found["speakers"] = len({chapter.parent.name for chapter in chapters})
    for chapter in tqdm(chapters, desc="reading alignments", unit="chapter", delay=2):
        speaker, stem = chapter.parent.name, f"{chapter.parent.name}-{chapter.name}"
        names = [path.stem for path in corpus.sounds(chapter, ".flac")]
        found["utterances"] += len(names)
        aligned = _read_alignments(aligned_root / speaker / chapter.name / f"{stem}.alignment.txt")
        for name in names:
            if name in aligned:
                by_speaker.setdefault(speaker, []).append((speaker, chapter.name, name, aligned[name]))
            else:
                dropped["utterance without alignment"] += 1
    if not by_speaker:
        raise AtlabError(
            f"no word alignment found: expected {aligned_root}/<speaker>/<chapter>/"
            "<speaker>-<chapter>.alignment.txt with a line for each sound file"
        )
    return by_speaker, dict(found), dropped


def _read_alignments(path: Path) -> dict[str, list[Word]]:
    if not path.exists():  # the release lacks a few: their utterances are counted as dropped
        return {}
    aligned = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            try:
                utterance, words = parse_alignment(line)
            except ValueError as error:
                raise AtlabError(f'{path}, line {number}: {error}; expected: utterance "word,word" "end,end"') from None
            if aligned.setdefault(utterance, words) is not words:
                raise AtlabError(f"{path}, line {number}: the utterance {utterance!r} is repeated")
    return aligned


def _most_common(counter: Counter, number: int) -> list[str]:
    return sorted(counter, key=lambda name: (-counter[name], name))[:number]


def _convert(item: tuple[str, str, str, list], folder: Path, silence: float) -> tuple[list[Clip], dict[str, int]]:
    speaker, chapter, utterance, words = item
    wave = read_audio(folder / speaker / chapter / f"{utterance}.flac", corpus.SAMPLE_RATE)
    last = max(start for _, _, start, _ in words)
    if last * corpus.SAMPLE_RATE >= len(wave):
        raise BrokenInput(f"{utterance}.flac ends before its word at {last:.2f} s")
    clips, dropped = [], Counter()
    for k, word, start, end in words:
        part = wave[round(start * corpus.SAMPLE_RATE) : round(end * corpus.SAMPLE_RATE)]
        if len(part) < SHORTEST * corpus.SAMPLE_RATE:
            dropped["word under 0.05 s"] += 1
        elif len(part) > SAMPLES:
            dropped["word over 4 s"] += 1
        elif corpus.is_silent(part, silence):
            dropped["silent"] += 1
        else:
            clips.append(
                Clip(
                    to_int16(fit_length(part, SAMPLES)),
                    {
                        "id": f"{utterance}-{k:03d}-{word}",
                        "source": f"{speaker}/{chapter}/{utterance}.flac",
                        "duration": len(part) / corpus.SAMPLE_RATE,
                        "word": word,
                        "speaker": speaker,
                        "chapter": chapter,
                    },
                )
            )
    return clips, dict(dropped)
