"""Phones and emotions as tasks of an acoustic model: the target of each frame, and how errors are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from atlab import training
from atlab.data.alphabet import PHONES
from atlab.errors import AtlabError
from atlab.transfer.gradual.train import Prepared
from atlab.transfer.phones import decoder
from atlab.transfer.phones.alignment import STATES, align
from atlab.transfer.phones.frames import FrameBatches, Frames
from atlab.transfer.phones.transcripts import fold, phones, segments

WEIGHTS = (0.3, 1.0, 3.0)  # of the bigram; validation picks one for each network


@dataclass(frozen=True)
class Task:
    """Frames and class numbers by part ("train", "validation", "test"); `measure` of frame posteriors by part: (validation error, test error)."""

    classes: list[str]
    frames: dict[str, Frames]
    codes: dict[str, np.ndarray]
    measure: Callable[[dict[str, np.ndarray]], tuple[float, float]]

    def prepared(self, every: int, batch_size: int, seed: int, device) -> Prepared:
        """Batches for training (each `every`-th frame), and errors over all frames."""

        def part(name: str, every: int = 1, shuffle: bool = False) -> FrameBatches:
            options = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed, "device": device}
            return FrameBatches(self.frames[name], self.codes[name], every=every, **options)

        whole = {name: part(name) for name in ("validation", "test")}

        def errors(model: nn.Module, progress: bool) -> tuple[float, float]:
            posteriors = {}
            for name, batches in whole.items():
                found = training.evaluate(model, batches, progress=progress)
                shape = len(self.frames[name].x), len(self.classes)
                posteriors[name] = np.full(shape, 1 / shape[1])  # of frames without a class
                posteriors[name][found.rows] = found.probabilities
            return self.measure(posteriors)

        learned = part("train", every, shuffle=True)
        counts = {f"{name}_clips": len(frames) for name, frames in self.frames.items()}
        return Prepared(
            self.classes,
            learned,
            part("validation", every),
            self.frames["train"].normalisation(),
            errors,
            counts | {"train_frames": learned.clips},
        )


def emotion_task(fs, frames: dict[str, Frames]) -> Task:
    """Every frame has its utterance's emotion; an utterance has the emotion of the largest mean posterior; unweighted error.

    AtlabError for clips that are parts of one recording: an utterance is judged as a whole.
    """
    sources = fs.factors["source"].to_numpy()[np.concatenate([part.rows for part in frames.values()])]
    if parts := len(sources) - len(set(sources)):
        raise AtlabError(
            f"emotions are judged by whole utterances, and {parts} clips are further parts of a recording: prepare the data "
            "with clips as long as the longest utterance (of IEMOCAP, seconds=35)"
        )
    classes = sorted(set(fs.labels("emotion", frames["train"].rows)))
    utterances = {name: fs.codes("emotion", classes)[part.rows] for name, part in frames.items()}
    codes = {name: utterances[name][part.clip] for name, part in frames.items()}

    def measure(posteriors: dict[str, np.ndarray]) -> tuple[float, float]:
        validation, test = (
            unweighted_error(utterance_predictions(posteriors[name], frames[name].clip), utterances[name])
            for name in ("validation", "test")
        )
        return validation, test

    return Task(classes, frames, codes, measure)


def utterance_predictions(posteriors: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Class of each utterance by the mean of its frames' posteriors [frames, K]; `clip` is each frame's utterance.

    >>> utterance_predictions(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1])).tolist()
    [0, 1]
    """
    sums = np.zeros((clip.max() + 1, posteriors.shape[1]))
    np.add.at(sums, clip, posteriors)
    return (sums / np.bincount(clip)[:, None]).argmax(1)


def unweighted_error(predictions: np.ndarray, codes: np.ndarray) -> float:
    """One minus the mean over classes of the share of their utterances that are right.

    >>> unweighted_error(np.array([0, 0, 1]), np.array([0, 1, 1]))
    0.25
    """
    return float(1 - np.mean([(predictions[codes == code] == code).mean() for code in np.unique(codes)]))


def phone_task(fs, frames: dict[str, Frames]) -> Task:
    """HMM states of training and validation frames by forced alignment (test frames need none); phone error rate.

    Training and validation frames are aligned together, from their transcripts alone; the bigram and the prior
    of the states are the training part's, and the bigram's weight is the best of three on the validation part.
    """
    texts = phones(fs)
    number = {name: code for code, name in enumerate(PHONES[48])}
    said = {
        name: [[number[p] for p in fold([p for _, _, p in segments(texts[row])], 48)] for row in part.rows]
        for name, part in frames.items()
    }
    aligned = align(joined(frames["train"], frames["validation"]), said["train"] + said["validation"])
    first, second = np.split(aligned.states, [len(frames["train"].x)])
    codes = {"train": first, "validation": second, "test": np.zeros(len(frames["test"].x), dtype=np.int64)}
    language, stay = decoder.bigram(said["train"]), torch.from_numpy(aligned.stay)

    def error(posteriors: np.ndarray, name: str, weight: float) -> float:
        scores = decoder.scaled_likelihoods(posteriors, codes["train"])
        found = decoder.decode(scores, frames[name].offsets, stay, language, weight)
        return decoder.phone_error_rate(said[name], found)

    def measure(posteriors: dict[str, np.ndarray]) -> tuple[float, float]:
        best, weight = min((error(posteriors["validation"], "validation", weight), weight) for weight in WEIGHTS)
        return best, error(posteriors["test"], "test", weight)

    classes = [f"{name}/{state}" for name in PHONES[48] for state in range(STATES)]
    return Task(classes, frames, codes, measure)


def joined(first: Frames, second: Frames) -> Frames:
    """The clips of both, one after the other."""
    return Frames(
        torch.cat([first.x, second.x]),
        np.concatenate([first.rows, second.rows]),
        np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]),
        np.concatenate([first.first, second.first]),
    )
