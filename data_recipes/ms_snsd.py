"""MS-SNSD, the Microsoft Scalable Noisy Speech Dataset: speech mixed with eleven types of noise.

Licence: MIT for the code; speech and noise under the licences listed in its repository (Edinburgh's CC BY 4.0
recordings, Freesound's CC0 among them). Access: the GitHub repository microsoft/MS-SNSD; give its folder,
which holds `clean_train/`, `noise_train/`, `clean_test/`, `noise_test/`. Citation: Reddy et al., "A Scalable
Noisy Speech Dataset and Online Subjective Test Framework", Interspeech 2019.

Protocol (Guizzo et al. 2021, section 4.1-4.2; task: noise type): both signals are set to -25 dBFS RMS, then
mixed at 0, 10, 20, 30, 40 dB SNR; 20 hours by default; cut in fragments of 1 s without overlap. The SNR is
that of the whole mixture, a fragment's own may differ. Every speech file is paired with one noise recording
and one stretch of it, types in turn, so the classes are balanced; speech files are used once until all are
used. Where a mixture would clip it is scaled down as a whole.

Leak: the published experiment splits the five SNRs of one speech+noise pair independently. Here `source` is
the pair, so no split by source separates it. `speech` and `noise_file` are extra columns for stricter
splits (`atlab.data.splits.disjoint(fs, by="noise_file")`).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atlab.data.build import Clip, build
from atlab.data.factorset import FactorSet
from atlab.errors import AtlabError, unknown
from data_recipes import corpus
from data_recipes.audio import read_audio, to_int16

NAME = "ms_snsd"
LICENCE = "MIT (code); recordings under the licences listed in the MS-SNSD repository"
CITATION = "Reddy et al. 2019, A Scalable Noisy Speech Dataset and Online Subjective Test Framework, Interspeech"
ACCESS = "free: the GitHub repository microsoft/MS-SNSD"
SIZE = "20 hours of 1 s fragments by default (about 72,000 clips, 2.3 GB)"
FACTORS = {
    "noise": "noise type (11)",
    "snr_db": "signal-to-noise ratio of the mixture in dB",
    "speech": "clean speech file",
    "noise_file": "noise recording",
}
NOISE_TYPES = (
    "AirConditioner",
    "AirportAnnouncements",
    "Babble",
    "CopyMachine",
    "Munching",
    "NeighborSpeaking",
    "ShuttingDoor",
    "SqueakyChair",
    "Typing",
    "VacuumCleaner",
    "WasherDryer",
)
SAMPLES = corpus.SAMPLE_RATE


def prepare(
    raw: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    hours: float = 20.0,
    snr_db: Sequence[float] = (0.0, 10.0, 20.0, 30.0, 40.0),
    part: str = "train",
    silence: float = corpus.SILENCE,
    seed: int = 0,
) -> FactorSet:
    """FactorSet of noisy speech, int16 [N, 16000] at 16 kHz.

    hours: total length of the fragments before silent ones are dropped; snr_db: the SNRs every pair is mixed
    at; part: "train" or "test" folders; silence: fragments not louder than this fraction of full scale are
    dropped (0 keeps them). Raises AtlabError for a missing or empty folder, a missing noise type, or unusable
    options.
    """
    raw = corpus.expect_folder(raw, "MS-SNSD folder")
    if part not in ("train", "test"):
        raise unknown("part", part, ("train", "test"))
    levels = sorted({corpus.number("snr_db", level, -60, 60) for level in snr_db})
    if not levels:
        raise AtlabError("snr_db is empty; allowed: one or more levels in dB")
    hours = corpus.number("hours", hours, 1 / 3600, 10_000)
    silence = corpus.number("silence", silence, 0, 1)
    kinds = corpus.noise_files(raw / f"noise_{part}")
    foreign = {kind: kinds.pop(kind) for kind in sorted(kinds.keys() - set(NOISE_TYPES))}
    missing = [kind for kind in NOISE_TYPES if kind not in kinds]
    if missing:
        raise AtlabError(
            f"no recording of {', '.join(missing)} in {raw / f'noise_{part}'}; expected files such as "
            f"{missing[0]}_1.wav"
        )
    clean = corpus.sounds(corpus.expect_folder(raw / f"clean_{part}", "folder of clean speech"))
    if not clean:
        raise AtlabError(f"no speech recording (.wav, .flac) in {raw / f'clean_{part}'}")
    items = _pairs(clean, kinds, hours * 3600, len(levels), seed)
    counts = corpus.compare(NAME, {"noise types": len(kinds)}, {"noise types": len(NOISE_TYPES)})
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
        "dropped": {"noise files of other types": sum(map(len, foreign.values()))},
        "parameters": {"hours": hours, "snr_db": levels, "part": part, "silence": silence},
    }
    convert = functools.partial(_convert, raw=raw, part=part, levels=levels, silence=silence, seed=seed)
    return build(out, items, convert, card=card, factors=list(FACTORS), workers=workers, title="noisy speech")


def _pairs(
    clean: list[Path], kinds: dict[str, list[Path]], seconds: float, levels: int, seed: int
) -> list[tuple[int, str, str]]:
    """Number, speech file and noise file of each pair until their fragments at every SNR fill the time.

    Speech in random order, each file once until all are used; noise types in turn, recordings of a type in
    turn.
    """
    import soundfile

    rng = np.random.default_rng(seed)
    types = sorted(kinds)
    orders = {kind: rng.permutation(len(kinds[kind])) for kind in types}
    items, filled = [], 0
    while filled < seconds:
        before = filled
        for k in rng.permutation(len(clean)):
            number, kind = len(items), types[len(items) % len(types)]
            noise = kinds[kind][orders[kind][number // len(types) % len(orders[kind])]]
            items.append((number, clean[k].name, noise.name))
            try:
                info = soundfile.info(clean[k])
                filled += int(info.frames / info.samplerate) * levels
            except soundfile.SoundFileError:
                pass  # unreadable: it stays an item, so that the build reports and counts it
            if filled >= seconds:
                break
        if filled == before:
            raise AtlabError(f"no speech file of at least 1 s in {clean[0].parent}")
    return items


def _convert(
    item: tuple[int, str, str], raw: Path, part: str, levels: Sequence[float], silence: float, seed: int
) -> tuple[list[Clip], dict[str, int]]:
    from atlab.data.noise import mix

    number, speech, noise = item
    wave = read_audio(raw / f"clean_{part}" / speech, corpus.SAMPLE_RATE)
    fragments = len(wave) // SAMPLES
    dropped: Counter[str] = Counter()
    if not np.any(wave):
        return [], {"silent": fragments * len(levels)}
    if len(wave) % SAMPLES:
        dropped["remainder under 1 s"] = len(levels)
    sound = corpus.noise_excerpt(raw / f"noise_{part}" / noise, len(wave), np.random.default_rng([seed, number]))
    if sound is None:
        return [], {"noise recording without sound": fragments * len(levels)}
    clips = []
    for level in levels:
        mixture = to_int16(corpus.within_full_scale(mix(corpus.at_level(wave), corpus.at_level(sound), level)))
        for k in range(fragments):
            fragment = mixture[k * SAMPLES : (k + 1) * SAMPLES]
            if np.abs(fragment.astype(np.int32)).max() <= silence * 32768 and silence > 0:
                dropped["silent"] += 1
                continue
            clips.append(
                Clip(
                    fragment,
                    {
                        "id": f"{number:06d}-{Path(speech).stem}+{Path(noise).stem}-{level:g}dB-{k}",
                        "source": f"{speech}+{noise}",
                        "duration": 1.0,
                        "noise": corpus.noise_type(noise),
                        "snr_db": level,
                        "speech": speech,
                        "noise_file": noise,
                    },
                )
            )
    return clips, dict(dropped)
