"""Tiny corpora with labels in their file names, in the official layouts; each returns the labels of every recording."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np

from tests.recipes.corpora import sound, write

Table = dict[str, dict[str, object]]  # clip id -> labels


def arabic_speech_commands(root: Path, words=("one", "stop"), speakers: int = 6, takes: int = 2) -> Table:
    """Speakers 1-4 train, the one before the last validates, the last tests; also background noise and a stray file."""
    table: Table = {}
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for word, number, take in product(words, range(1, speakers + 1), range(1, takes + 1)):
        speaker, name = f"{number:08d}", f"{word}/{number:08d}_NO_{take:02d}.wav"
        write(root / "dataset" / name, sound(1.0, seed=number * 100 + take))
        part = "test" if number == speakers else "validation" if number == speakers - 1 else "train"
        parts[part].append(f"./{name},{word}\n")
        table[f"{word}-{speaker}-{take:02d}"] = {"word": word, "speaker": speaker, "take": take, "official": part}
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        (root / f"{name}.csv").write_text("file,class\n" + "".join(parts[part]))
    write(root / "background_noise" / "rain.wav", sound(2.0))
    return table


def audiomnist(root: Path, speakers: int = 3, takes: int = 2, rate: int = 48_000) -> Table:
    """Speaker 02 is female; recordings last 0.6 s at 48 kHz."""
    table, meta = {}, {}
    for number in range(1, speakers + 1):
        speaker, sex = f"{number:02d}", "female" if number == 2 else "male"
        meta[speaker] = {"accent": "German" if number == 1 else "Levant", "age": "30", "gender": sex}
        for digit, take in product(range(10), range(takes)):
            name = f"{digit}_{speaker}_{take}.wav"
            write(root / "data" / speaker / name, sound(0.6, seed=digit, rate=rate), rate)
            word = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[digit]
            labels = {"word": word, "speaker": speaker, "sex": sex, "accent": meta[speaker]["accent"].lower()}
            table[f"{digit}-{speaker}-{take}"] = {**labels, "take": take}
    (root / "data" / "audioMNIST_meta.txt").write_text(json.dumps(meta))
    return table


RAVDESS_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def ravdess(root: Path, actors=(1, 2, 7), seconds: float = 0.6, rate: int = 48_000) -> Table:
    """Every emotion but strong neutral; also a song, a video's sound and the twin of macOS. Actor 02 is stereo."""
    table: Table = {}
    for actor, (e, emotion), intensity, sentence, repetition in product(
        actors, enumerate(RAVDESS_EMOTIONS, 1), (1, 2), (1, 2), (1, 2)
    ):
        if emotion == "neutral" and intensity == 2:
            continue
        name = f"03-01-{e:02d}-{intensity:02d}-{sentence:02d}-{repetition:02d}-{actor:02d}"
        wave = 0.05 * sound(seconds, seed=100 * e + 10 * intensity + sentence, rate=rate)
        write(root / f"Actor_{actor:02d}" / f"{name}.wav", np.stack([wave, wave], 1) if actor == 2 else wave, rate)
        table[name] = {
            "emotion": emotion,
            "speaker": f"{actor:02d}",
            "sentence": "kids" if sentence == 1 else "dogs",
            "intensity": "normal" if intensity == 1 else "strong",
            "sex": "female" if actor == 2 else "male",
            "repetition": repetition,
        }
    for name in ("03-02-02-01-01-01-01", "01-01-02-01-01-01-01"):
        write(root / "Actor_01" / f"{name}.wav", sound(seconds, rate=rate), rate)
    (root / "Actor_01" / "._03-01-01-01-01-01-01.wav").write_bytes(b"\0\5\x16\7")
    return table


def crema_d(root: Path, actors=(1001, 1064)) -> Table:
    """Two sentences; IEO in three levels. Odd: a silent file, the file of all emotions, an unknown emotion, level X."""
    emotions = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
    levels = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
    table: Table = {}
    for actor, sentence, emotion, level in product(actors, ("IEO", "DFA"), emotions, levels):
        if (level == "XX") == (sentence == "IEO" and emotion != "NEU"):
            continue
        name = f"{actor}_{sentence}_{emotion}_{level}"
        write(root / "AudioWAV" / f"{name}.wav", sound(0.5, seed=actor))
        labels = {"emotion": emotions[emotion], "speaker": str(actor), "sentence": sentence, "level": levels[level]}
        table[name.replace("_", "-")] = labels
    del table["1064-IEO-DIS-MD"]
    write(root / "AudioWAV/1001_IEO_JOY_XX.wav", sound(0.5))
    write(root / "AudioWAV/1001_ITS_SAD_XX.wav", np.full(8000, 1e-4))
    write(root / "AudioWAV/1001_ITS_SAD_X.wav", sound(0.5))
    table["1001-ITS-SAD-X"] = {"emotion": "sadness", "speaker": "1001", "sentence": "ITS", "level": "unspecified"}
    return table


def emodb(root: Path) -> Table:
    """Every emotion of two sentences by four speakers, less what listeners did not recognise; one third version."""
    german = {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "T": "sadness",
        "N": "neutral",
    }
    table: Table = {}
    for speaker, sentence, letter in product(("03", "08", "15", "16"), ("a01", "b10"), german):
        if speaker == "16" and letter == "E":
            continue
        for version in "abc" if letter == "W" else "a":
            write(root / "wav" / f"{speaker}{sentence}{letter}{version}.wav", sound(0.4, seed=int(speaker)))
            sex = "female" if speaker in ("08", "16") else "male"
            labels = {"emotion": german[letter], "speaker": speaker, "sentence": sentence, "sex": sex}
            table[f"{speaker}-{sentence}-{letter}-{version}"] = labels
    write(root / "wav" / "03x01Fa.wav", sound(0.4))
    return table


def tess(root: Path, words=("back", "bite"), rate: int = 24_414) -> Table:
    """Both actresses, all emotions; the misnamed OA_bite_neutral, and a second copy of the younger one's files."""
    emotions = {"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness"}
    emotions |= {"neutral": "neutral", "ps": "surprise", "sad": "sadness"}
    table: Table = {}
    for speaker, word, emotion in product(("OAF", "YAF"), words, emotions):
        name = f"{'OA' if (speaker, word, emotion) == ('OAF', 'bite', 'neutral') else speaker}_{word}_{emotion}.wav"
        wave = sound(0.5, seed=len(word), rate=rate)
        write(root / f"{speaker}_{emotion}" / name, wave, rate)
        if speaker == "YAF":
            write(root / "copy" / f"{speaker}_{emotion}" / name, wave, rate)
        table[f"{speaker[:2]}-{word}-{emotion}"] = {"emotion": emotions[emotion], "word": word, "speaker": speaker}
    return table


def esc50(root: Path, rate: int = 44_100) -> Table:
    """Eleven classes x 5 folds x 2 takes of one recording; `audio/` and `meta/esc50.csv`."""
    table, rows = {}, ["filename,fold,target,category,esc10,src_file,take"]
    for number, fold, take in product(range(11), range(1, 6), "AB"):
        name, recording = f"{fold}-{1000 * fold + number}-{take}-{number}", 1000 * fold + number
        write(root / "audio" / f"{name}.wav", sound(0.5, seed=recording, rate=rate), rate)
        rows.append(f"{name}.wav,{fold},{number},class_{number},False,{recording},{take}")
        table[name] = {"source": str(recording), "noise": f"class_{number}", "fold": fold}
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return table


def esc10(root: Path, rate: int = 44_100) -> Table:
    """Two classes x 5 folds x 2 takes of one recording, as ogg in folders of the classes."""
    table: Table = {}
    for (number, name), fold, take in product(enumerate(("Dog bark", "Rain"), 1), range(1, 6), "AB"):
        recording = 1000 * fold + number
        path = root / f"{number:03d} - {name}" / f"{fold}-{recording}-{take}.ogg"
        write(path, sound(0.5, seed=recording, rate=rate), rate, subtype="VORBIS")
        labels = {"source": str(recording), "noise": name.lower().replace(" ", "_"), "fold": fold}
        table[f"{name}-{fold}-{recording}-{take}"] = labels
    return table
