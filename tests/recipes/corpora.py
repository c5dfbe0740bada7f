"""Tiny speech corpora in the official on-disk layouts, odd cases included; nothing here is real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def sound(seconds: float, seed: int = 0, peak: float = 0.5, rate: int = RATE) -> np.ndarray:
    """float64 [samples]: a few random partials under a slow tremolo, scaled to `peak`."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    partials = [
        np.sin(2 * np.pi * f * time + p)
        for f, p in zip(rng.uniform(100, 3000, 5), rng.uniform(0, 6.28, 5), strict=True)
    ]
    wave = np.sum(partials, axis=0) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return wave * (peak / max(np.abs(wave).max(initial=0.0), 1e-9))


def write(path: Path, wave: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    """A sound file; folders are made, the format follows the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype=subtype)
    return path


def announcing(path: Path, samples: int) -> Path:
    """A FLAC file whose header announces so many samples (its last 36 bits before the checksum)."""
    content = bytearray(path.read_bytes())
    field = int.from_bytes(content[18:26], "big") >> 36 << 36
    content[18:26] = (field | samples).to_bytes(8, "big")
    path.write_bytes(content)
    return path


def write_sphere(path: Path, wave: np.ndarray) -> Path:
    """A NIST SPHERE file as TIMIT has them: 1,024 bytes of header, then 16-bit little-endian samples."""
    samples = np.round(wave * 32767).astype("<i2")
    header = (
        "NIST_1A\n   1024\n"
        "database_id -s5 TIMIT\nchannel_count -i 1\n"
        f"sample_count -i {len(samples)}\nsample_rate -i {RATE}\n"
        "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16\nend_head\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode().ljust(1024) + samples.tobytes())
    return path


def damage(path: Path, how: str) -> None:
    """Spoil a sound file: 'truncated' (inside its header), 'zero-length', 'text', 'no samples'."""
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[:30])
    elif how == "zero-length":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("404: not found\n")
    elif how == "no samples":
        soundfile.write(path, np.zeros(0), RATE)
    else:
        raise ValueError(how)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, to show that a recipe writes nothing into the raw folder."""
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


GSC_SPEAKERS = ("004ae714", "0a2b400e", "1b4c9b89", "3a3ee7ed", "7ff4fc72", "c1d39ce8")


def speech_commands(root: Path, words=("zero", "one", "two", "bed"), repeats: int = 2, strangers: int = 0) -> Path:
    """Google Speech Commands v2: every speaker says every word `repeats` times; speaker 5 tests, 4 validates.

    `strangers` further speakers have a single clip each; of ten, one tests and one validates.

    Odd cases: zero/c1d39ce8_nohash_7.wav is silent, one/c1d39ce8_nohash_7.wav lasts 0.4 s,
    two/readme_copy.wav has no speaker hash.
    """
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for w, word in enumerate(words):
        for s, speaker in enumerate(GSC_SPEAKERS):
            for n in range(repeats):
                name = f"{word}/{speaker}_nohash_{n}.wav"
                write(root / name, sound(1.0, seed=100 * w + 10 * s + n))
                if s >= 4:
                    lists["testing_list.txt" if s == 5 else "validation_list.txt"].append(name)
    for n in range(strangers):
        name = f"{words[n % len(words)]}/{n:08x}_nohash_0.wav"
        write(root / name, sound(1.0, seed=5000 + n))
        if n // len(words) % 10 < 2:
            lists["testing_list.txt" if n // len(words) % 10 else "validation_list.txt"].append(name)
    write(root / "zero/c1d39ce8_nohash_7.wav", sound(1.0, peak=0.03))
    write(root / "one/c1d39ce8_nohash_7.wav", sound(0.4, seed=7))
    lists["testing_list.txt"] += ["zero/c1d39ce8_nohash_7.wav", "one/c1d39ce8_nohash_7.wav"]
    write(root / "two/readme_copy.wav", sound(1.0, seed=8))
    for k, name in enumerate(("running_tap", "white_noise")):
        write(root / "_background_noise_" / f"{name}.wav", sound(3.0, seed=900 + k))
    for name, entries in lists.items():
        (root / name).write_text("\n".join(entries) + "\n")
    (root / "LICENSE").write_text("CC BY 4.0\n")
    return root


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


def ms_snsd(root: Path, speech: int = 12, seconds: float = 3.3) -> Path:
    """MS-SNSD: 11 noise types x 2 files, one type outside the eleven, `speech` clean files.

    Odd cases: a ShuttingDoor noise that is digital silence but for one slam, a noise shorter than the speech,
    a stereo noise, a 24-bit clean file at 48 kHz, a silent clean file.
    """
    for k, kind in enumerate(NOISE_TYPES):
        for n in (1, 2):
            write(root / "noise_train" / f"{kind}_{n}.wav", sound(6.0, seed=50 + 2 * k + n))
    door = np.zeros(8 * RATE)
    door[6 * RATE : 6 * RATE + 4000] = sound(0.25, seed=3)
    write(root / "noise_train" / "ShuttingDoor_1.wav", door)
    write(root / "noise_train" / "Typing_1.wav", sound(1.2, seed=4))
    write(root / "noise_train" / "Babble_1.wav", np.stack([sound(6, seed=5), sound(6, seed=6)], axis=1))
    write(root / "noise_train" / "Cafe_1.wav", sound(6.0, seed=7))
    for k in range(speech - 2):
        write(root / "clean_train" / f"clnsp{k + 1}.wav", sound(seconds, seed=200 + k))
    write(root / "clean_train" / f"clnsp{speech - 1}.wav", sound(seconds, seed=300, rate=48_000), 48_000, "PCM_24")
    write(root / "clean_train" / f"clnsp{speech}.wav", np.zeros(round(seconds * RATE)))
    return root


LIBRI_LINES = {
    # speaker, chapter, utterance: words with their end times; an empty word is silence
    ("84", "121123", 0): [("", 0.3), ("THE", 0.6), ("CAT", 1.0), ("SAT", 1.5), ("", 1.8), ("THE", 2.1), ("", 2.4)],
    ("84", "121123", 1): [("THE", 0.4), ("CAT'S", 1.0), ("", 1.2), ("SUPERCALIFRAGILISTIC", 6.0), ("", 6.2)],
    ("84", "121550", 0): [("", 0.2), ("CAT", 0.7), ("AND", 0.72), ("DOG", 1.3), ("", 1.4)],
    ("174", "50561", 0): [("", 0.1), ("THE", 0.5), ("DOG", 1.0), ("THE", 1.4), ("CAT", 1.9), ("", 2.0)],
    ("251", "118436", 0): [("", 0.5), ("THE", 1.0), ("", 1.2)],
}


def librispeech(root: Path, split: str = "dev-clean", lines=LIBRI_LINES) -> Path:
    """LibriSpeech with word alignments next to the .trans.txt files.

    Odd cases: empty words, an apostrophe, a word of 4.8 s, one of 20 ms, 'SAT' recorded silent; utterance
    84-121123-0002 has no alignment line and chapter 174/84280 no alignment file.
    """
    for (speaker, chapter, number), words in lines.items():
        folder, name = root / split / speaker / chapter, f"{speaker}-{chapter}-{number:04d}"
        wave = sound(words[-1][1], seed=int(chapter) + number)
        if number == 0 and chapter == "121123":
            wave[RATE : round(1.5 * RATE)] *= 0.02
        write(folder / f"{name}.flac", wave)
        with open(folder / f"{speaker}-{chapter}.trans.txt", "a") as file:
            file.write(f"{name} {' '.join(word for word, _ in words if word)}\n")
        with open(folder / f"{speaker}-{chapter}.alignment.txt", "a") as file:
            file.write(f'{name} "{",".join(w for w, _ in words)}" "{",".join(f"{t:.3f}" for _, t in words)}"\n')
    for name, folder in (("84-121123-0002", "84/121123"), ("174-84280-0000", "174/84280")):
        write(root / split / folder / f"{name}.flac", sound(1.0, seed=1))
        with open(root / split / folder / f"{name[:-5]}.trans.txt", "a") as file:
            file.write(f"{name} THE DOG\n")
    return root


def iemocap(root: Path, sessions=(1, 2, 3, 4, 5)) -> Path:
    """IEMOCAP: a dialog of improvisation and a scripted one a session, both actors speak in each.

    Utterances (seconds, emotion) cycle through every label incl. exc, fru, xxx. Odd cases: a quiet utterance,
    one of 0.5 s, one that exists without a label line, `_M`/`_F` speakers that differ from the dialog's
    prefix, the macOS `._` twin files of the release.
    """
    plan = [
        ("F000", 4.0, "neu"),
        ("M000", 5.0, "ang"),
        ("F001", 9.0, "hap"),
        ("M001", 2.0, "sad"),
        ("F002", 3.0, "exc"),
        ("M002", 3.0, "fru"),
        ("F003", 1.0, "xxx"),
        ("M003", 0.5, "neu"),
    ]
    for session in sessions:
        base = root / f"Session{session}"
        for dialog in (f"Ses{session:02d}F_impro01", f"Ses{session:02d}M_script01_1"):
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"]
            for k, (turn, seconds, emotion) in enumerate(plan):
                name = f"{dialog}_{turn}"
                quiet = session == 1 and "impro" in dialog and turn == "M001"
                write(
                    base / "sentences/wav" / dialog / f"{name}.wav",
                    sound(seconds, seed=1000 * session + k, peak=0.04 if quiet else 0.5),
                )
                lines += [
                    f"[{k}.0000 - {k + seconds:.4f}]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n",
                    "C-E2:\tNeutral;\t()\nC-F1:\tval 3; act 2; dom  2;\t()\n\n",
                ]
            write(base / "sentences/wav" / dialog / f"{dialog}_MXX0.wav", sound(1.0))
            (base / "sentences/wav" / dialog / f"._{dialog}_F000.wav").write_bytes(b"\0\5\x16\7")
            labels = base / "dialog/EmoEvaluation" / f"{dialog}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text("".join(lines))
            (labels.parent / f"._{dialog}.txt").write_bytes(b"\0\5\x16\7")
    return root


TIMIT_SPEAKERS = (  # part, dialect region, speaker
    ("TRAIN", "DR1", "FCJF0"),
    ("TRAIN", "DR1", "MCPM0"),
    ("TRAIN", "DR2", "FAEM0"),
    ("TEST", "DR1", "FAKS0"),
    ("TEST", "DR1", "MDAB0"),
    ("TEST", "DR2", "FPAS0"),
    ("TEST", "DR1", "FJEM0"),
    ("TEST", "DR1", "MSTK0"),
)  # MSTK0 is in neither the development nor the core test set
TIMIT_PHONES = (
    ("h#", 2000),
    ("sh", 3600),
    ("iy", 5200),
    ("bcl", 6000),
    ("b", 6200),
    ("q", 7000),
    ("ax-h", 8200),
    ("zh", 9800),
    ("eng", 12000),
    ("h#", 16000),
)


def timit(root: Path, lower: bool = False) -> Path:
    """TIMIT: two SA, one SI and two SX sentences per speaker, with .PHN, .WRD, .TXT next to the SPHERE file."""
    for s, (part, region, speaker) in enumerate(TIMIT_SPEAKERS):
        for k, sentence in enumerate(("SA1", "SA2", f"SI{600 + s}", f"SX{10 + s}", f"SX{100 + s}")):
            stem = "/".join((part, region, speaker, sentence))
            stem = stem.lower() if lower else stem
            suffixes = [x.lower() if lower else x for x in (".WAV", ".PHN", ".WRD", ".TXT")]
            length = 16000 + 1600 * k
            write_sphere(root / f"{stem}{suffixes[0]}", sound(length / RATE, seed=10 * s + k))
            ends = [end for _, end in TIMIT_PHONES[:-1]] + [length]
            starts = [0, *ends[:-1]]
            (root / f"{stem}{suffixes[1]}").write_text(
                "".join(f"{a} {b} {phone}\n" for a, b, (phone, _) in zip(starts, ends, TIMIT_PHONES, strict=True))
            )
            (root / f"{stem}{suffixes[2]}").write_text(f"2000 {length} she\n")
            (root / f"{stem}{suffixes[3]}").write_text(f"0 {length} She had.\n")
    return root


FSDD_SPEAKERS, FSDD_TAKES = ("george", "jackson", "théo"), 12


def fsdd(folder: Path, digits=range(10), speakers=FSDD_SPEAKERS, takes: int = FSDD_TAKES) -> Path:
    """The Free Spoken Digit Dataset, `folder` being its recordings, at 8 kHz; recordings last 0.2 to 0.7 s."""
    for digit in digits:
        for s, speaker in enumerate(speakers):
            for take in range(takes):
                wave = sound(0.2 + 0.05 * ((digit + take) % 11), seed=1000 * digit + 100 * s + take, rate=8000)
                write(folder / f"{digit}_{speaker}_{take}.wav", wave, 8000)
    return folder.parent
