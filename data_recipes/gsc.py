"""Google Speech Commands v2: spoken words by more than 2,600 speakers, one second each.

Licence: CC BY 4.0. Access: free download from the TensorFlow datasets storage
(`speech_commands_v0.02.tar.gz`, 2.3 GB); unpack it and give the folder that holds `zero/`, `one/`,
`_background_noise_/`, `validation_list.txt`, `testing_list.txt`. Citation: P. Warden, "Speech Commands: A
Dataset for Limited-Vocabulary Speech Recognition", 2018.

Protocol (Guizzo et al. 2021, section 4.1-4.2): the ten digits, 1,000 random clips per word, 1 s at 16 kHz, in
three conditions: no noise, low noise, high noise. The levels printed there (-40..-20 and -10..0 dBFS) are
SNRs of 20..40 and 0..10 dB, in five steps; the published mixer takes one square root too many, which makes them
10..20 and 0..5 dB. All four exist here as *true* SNRs: noise="low", "high", "published_low",
"published_high". As in the mixer of MS-SNSD, speech is set to -25 dBFS RMS before noise is added;
noise="none" leaves the clips as they are. The noise comes from a folder of MS-SNSD (`noise_raw`), else from
the corpus's own `_background_noise_`, else it is synthesised; the card says which.

Splits: column official (the two lists of the corpus; speakers are disjoint), `atlab.data.splits.random` (the
paper's: by clip, speakers overlap), `atlab.data.splits.disjoint(fs, by="speaker")`.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atlab.data.build import Clip, build
from atlab.data.factorset import FactorSet
from atlab.errors import AtlabError, unknown
from atlab.system.foreign import read_text
from data_recipes import corpus
from data_recipes.audio import fit_length, read_audio, to_int16

NAME = "gsc"
LICENCE = "CC BY 4.0"
CITATION = "Warden 2018, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv:1804.03209"
ACCESS = "free download: speech_commands_v0.02.tar.gz from the TensorFlow datasets storage"
SIZE = "105,829 clips of 1 s (2.3 GB); 10,000 with the paper's protocol"
FACTORS = {
    "word": "the spoken word",
    "speaker": "8-digit hash of the speaker",
    "official": "part of the corpus's own split: train, validation, test",
    "noise": "noise type (where noise was mixed)",
    "snr_db": "signal-to-noise ratio in dB (where noise was mixed)",
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PUBLISHED = {  # files per word, v0.02 (Warden 2018, table 1); 105,829 together
    "backward": 1664,
    "bed": 2014,
    "bird": 2064,
    "cat": 2031,
    "dog": 2128,
    "down": 3917,
    "eight": 3787,
    "five": 4052,
    "follow": 1579,
    "forward": 1557,
    "four": 3728,
    "go": 3880,
    "happy": 2054,
    "house": 2113,
    "learn": 1575,
    "left": 3801,
    "marvin": 2100,
    "nine": 3934,
    "no": 3941,
    "off": 3745,
    "on": 3845,
    "one": 3890,
    "right": 3778,
    "seven": 3998,
    "sheila": 2022,
    "six": 3860,
    "stop": 3872,
    "three": 3727,
    "tree": 1759,
    "two": 3880,
    "up": 3723,
    "visual": 1592,
    "wow": 2123,
    "yes": 4044,
    "zero": 4052,
}
NOISE_LEVELS = {  # true SNR in dB, five steps
    "none": (),
    "low": (20.0, 25.0, 30.0, 35.0, 40.0),
    "high": (0.0, 2.5, 5.0, 7.5, 10.0),
    "published_low": (10.0, 12.5, 15.0, 17.5, 20.0),
    "published_high": (0.0, 1.25, 2.5, 3.75, 5.0),
}
SAMPLES = corpus.SAMPLE_RATE
_FILE = re.compile(r"([0-9a-f]{8})_nohash_\d+\.wav", re.IGNORECASE)
_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
LISTED = {"validation_list.txt": 9981, "testing_list.txt": 11_005}  # files that v0.02's lists name


def prepare(
    raw: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    words: Sequence[str] | str = DIGITS,
    per_word: int | str = 1000,
    noise: str = "none",
    noise_raw: str | Path | None = None,
    silence: float = corpus.SILENCE,
    seed: int = 0,
) -> FactorSet:
    """FactorSet of Speech Commands, int16 [N, 16000] at 16 kHz.

    words: names of word folders, "digits" or "all"; per_word: random clips per word, or "all"; noise: a key of
    NOISE_LEVELS; noise_raw: folder with MS-SNSD's noise files; silence: clips not louder than this fraction
    of full scale are dropped (0 keeps them). Raises AtlabError for a missing folder or list, an unknown word
    or noise level.
    """
    raw = corpus.expect_folder(raw, "Speech Commands folder")
    if noise not in NOISE_LEVELS:
        raise unknown("noise level", noise, NOISE_LEVELS)
    if noise_raw is not None and noise == "none":
        raise AtlabError('noise_raw is given but noise="none": choose low, high, published_low or published_high')
    silence = corpus.number("silence", silence, 0, 1)
    if per_word != "all":
        per_word = corpus.whole_number("per_word", per_word)
    listed = _official_lists(raw)
    words = _words(raw, words)
    files, dropped = {}, Counter()
    for word in words:
        found = corpus.sounds(raw / word, ".wav")
        files[word] = [path for path in found if _FILE.fullmatch(path.name)]
        dropped["no speaker hash in file name"] += len(found) - len(files[word])
    counts = corpus.compare(
        NAME,
        {word: len(found) for word, found in files.items()}
        | {n: list(listed.values()).count(p) for p, n in _LISTS.items()},
        {word: PUBLISHED[word] for word in words if word in PUBLISHED} | LISTED,
    )
    items = [
        (word, path.name, listed.get(f"{word}/{path.name}", "train"))
        for word in words
        for path in _choose(files[word], per_word, seed, word)
    ]
    dropped["not drawn"] = sum(map(len, files.values())) - len(items)
    kinds, origin = _noises(raw, noise, noise_raw)
    convert = functools.partial(_convert, raw=raw, noise=noise, kinds=kinds, silence=silence, seed=seed)
    card = {
        "name": NAME,
        "kind": "audio",
        "licence": LICENCE,
        "citation": CITATION,
        "recipe": NAME,
        "recipe_version": 1,
        "seed": seed,
        "sample_rate": corpus.SAMPLE_RATE,
        "published_clips": counts,
        "dropped": {reason: count for reason, count in dropped.items() if count},
        "parameters": {
            "words": list(words),
            "per_word": per_word,
            "noise": noise,
            "noise_source": origin,
            "noise_files": sorted(path.name for paths in (kinds or {}).values() for path in paths),
            "snr_db": list(NOISE_LEVELS[noise]),
            "silence": silence,
        },
    }
    factors = [name for name in FACTORS if noise != "none" or name not in ("noise", "snr_db")]
    return build(out, items, convert, card=card, factors=factors, workers=workers, title="Speech Commands")


def _official_lists(raw: Path) -> dict[str, str]:
    """Part of the official split by "word/file.wav"; files in neither list belong to train."""
    listed = {}
    for part, name in _LISTS.items():
        text = read_text(corpus.expect(raw / name, "list of the official split"))
        for line in filter(None, map(str.strip, text.splitlines())):
            if not re.fullmatch(rf"\w+/{_FILE.pattern}", line, re.IGNORECASE):
                raise AtlabError(
                    f"{raw / name} has the line {line[:80]!r}; expected files such as yes/004ae714_nohash_0.wav"
                )
            if listed.setdefault(line, part) != part:
                raise AtlabError(f"{line!r} is in two lists of the official split of {raw}; expected it in one")
        if part not in listed.values():
            raise AtlabError(f"{raw / name} names no file; expected lines such as yes/004ae714_nohash_0.wav")
    return listed


def _words(raw: Path, words: Sequence[str] | str) -> list[str]:
    there = sorted(p.name for p in raw.iterdir() if p.is_dir() and not p.name.startswith(("_", ".")))
    if isinstance(words, str):
        words = {"digits": DIGITS, "all": there}.get(words) or [word.strip() for word in words.split(",")]
    words = list(dict.fromkeys(words))
    for word in words:
        if word not in there:
            if word in PUBLISHED:
                corpus.expect(raw / word, f"folder of the word {word!r}")
            raise unknown("word", word, there)
    return words


def _choose(files: list[Path], per_word: int | str, seed: int, word: str) -> list[Path]:
    if per_word == "all" or len(files) <= per_word:
        return files
    rng = np.random.default_rng([seed, zlib.crc32(word.encode())])
    return [files[k] for k in np.sort(rng.permutation(len(files))[:per_word])]


def _noises(raw: Path, noise: str, noise_raw: str | Path | None) -> tuple[dict[str, list[Path]] | None, str]:
    """Noise files by type and where they come from; None where noise is synthesised."""
    if noise == "none":
        return None, "none"
    if noise_raw is not None:
        return corpus.noise_files(Path(noise_raw)), "noise_raw"
    if (raw / "_background_noise_").is_dir():
        return corpus.noise_files(raw / "_background_noise_"), "_background_noise_"
    return None, "synthesised"


def _convert(
    item: tuple[str, str, str], raw: Path, noise: str, kinds: dict[str, list[Path]] | None, silence: float, seed: int
) -> tuple[list[Clip], dict[str, int]]:
    word, name, official = item
    wave = read_audio(raw / word / name, corpus.SAMPLE_RATE)
    if corpus.is_silent(wave, silence) or (noise != "none" and not np.any(wave)):
        return [], {"silent": 1}
    row = {
        "id": f"{word}/{Path(name).stem}",
        "source": f"{word}/{name}",
        "duration": len(wave) / SAMPLES,
        "word": word,
        "speaker": _FILE.fullmatch(name)[1].lower(),
        "official": official,
    }
    wave = fit_length(wave, SAMPLES)
    if noise != "none":
        rng = np.random.default_rng([seed, zlib.crc32(row["source"].encode())])
        row["noise"], row["snr_db"], wave = _noisy(wave, NOISE_LEVELS[noise], kinds, rng)
        if wave is None:
            return [], {"noise recording without sound": 1}
    return [Clip(to_int16(wave), row)], {}


def _noisy(
    wave: np.ndarray, levels: Sequence[float], kinds: dict[str, list[Path]] | None, rng: np.random.Generator
) -> tuple[str, float, np.ndarray | None]:
    """Noise type, SNR and mixture of one clip; every draw comes from the clip's own generator."""
    from atlab.data.noise import KINDS, mix
    from atlab.data.noise import noise as synthesise

    names = sorted(kinds) if kinds else list(KINDS)
    kind, snr_db = names[rng.integers(len(names))], float(levels[rng.integers(len(levels))])
    if kinds:
        path = kinds[kind][rng.integers(len(kinds[kind]))]
        sound = corpus.noise_excerpt(path, len(wave), rng)
    else:
        sound = synthesise(kind, rng, len(wave), corpus.SAMPLE_RATE)
    if sound is None:
        return kind, snr_db, None
    return kind, snr_db, corpus.within_full_scale(mix(corpus.at_level(wave), sound, snr_db))
