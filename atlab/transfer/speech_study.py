"""Phones and emotions: primary networks of both tasks, and each transferred gradually to the other (Fayek et al. 2018, figure 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from atlab.errors import AtlabError, unknown
from atlab.settings import NETWORKS

TASKS = ("phone", "emotion")
MODELS = ("a", "b")
BASES = ("trained", "random")
ROLES = ("transfer", "primary")
WEIGHTS = (0.3, 1.0, 3.0)  # of the bigram; validation picks one for each network
EMOTION_SPEAKERS = 10  # IEMOCAP's number; eight test speakers in turn, two validate


@dataclass(frozen=True)
class SpeechSettings:
    """Everything that decides the numbers of a run.

    Attributes:
        data: where phones are learned (TIMIT, or the name of the embedded speech).
        emotion_data: where emotions are learned; if empty, other speakers of `data`.
        task: what is learned, "phone" or "emotion"; a transfer starts from the network of the other one.
        model: "a" or "b"; width: factor on its channels and hidden units.
        base: what a transfer starts from: the "trained" network, or the same with "random" weights.
        fold: number of the emotion task's test speaker (leave one speaker out).
        clips: training clips at most, validation in proportion, test at most as many; 0 for all.
        every: train on each so-manieth frame.
        held: numbers of held hidden layers l_c, separated by commas; all from 0 on if empty.
        output_epochs: epochs in which the output layer is tuned alone first.
        seed: of weights, order and dropout; primary networks have the same.
        role: "transfer", or "primary" for a network that is trained on its own task alone, in root/networks/.
    """

    data: str = "synthetic_speech"
    emotion_data: str = ""
    task: str = "emotion"
    model: str = "a"
    width: float = 1.0
    base: str = "trained"
    held: str = ""
    fold: int = 0
    clips: int = 0
    every: int = 1
    epochs: int = 50
    patience: int = 5
    output_epochs: int = 1
    batch_size: int = 256
    learning_rate: float = 5e-4
    seed: int = 0
    role: str = "transfer"

    def primary(self, task: str) -> SpeechSettings:
        """The network of a task alone, equal for all transfers that can share it."""
        alone = replace(self, task=task, base="trained", held="", output_epochs=1, role="primary")
        return replace(alone, fold=0) if task == "phone" else alone

    def required(self) -> list[SpeechSettings]:
        """The primary networks of both tasks: the other one's is copied, the own one's is what transfer is measured by."""
        if self.role == "primary":
            return []
        return [self.primary(task) for task in (_other(self.task), self.task)]

    def levels(self) -> dict[str, int]:
        """Name -> number of held layers of every transfer; AtlabError for a number that the model does not have."""
        from atlab.models.fayek import LAYERS

        every = {"0": 0} | {f"layer {n}": n for n in range(1, len(LAYERS[self.model]) + 1)}
        if not self.held:
            return every
        names = {str(n): name for name, n in every.items()}
        wanted = [part.strip() for part in self.held.split(",")]
        for number in wanted:
            if number not in names:
                raise unknown(f"number of held layers of model {self.model}:", number, names)
        return {names[number]: int(number) for number in wanted}

    def check(self) -> None:
        """AtlabError for a value that is not allowed."""
        for kind, value, allowed in (
            ("task", self.task, TASKS), ("model", self.model, MODELS), ("base", self.base, BASES), ("role", self.role, ROLES),
        ):  # fmt: skip
            if value not in allowed:
                raise unknown(kind, value, allowed)
        self.levels()
        for name, least in (("fold", 0), ("clips", 0), ("every", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise AtlabError(f"{name} must be at least {least}, found {getattr(self, name)}")


@dataclass(frozen=True)
class Task:
    """A task's frames and class numbers by part ("train", "validation", "test"), and how its errors are counted."""

    classes: list[str]
    frames: dict
    codes: dict[str, np.ndarray]
    measure: object  # (probabilities by part) -> (validation error, test error)


def from_parameters(parameters: Mapping) -> SpeechSettings:
    """The settings among a notebook's parameters; others (device, run_dir) are left aside."""
    known = {field.name for field in fields(SpeechSettings)}
    return SpeechSettings(**{name: value for name, value in parameters.items() if name in known})


def required_by(of: Mapping | SpeechSettings) -> list[SpeechSettings]:
    """What has to be trained before a notebook run with these parameters, or before another such requirement."""
    return (of if isinstance(of, SpeechSettings) else from_parameters(of)).required()


def train_required(need: SpeechSettings, root: str | Path, study: str) -> None:
    """Train one of `required_by` into root/networks/, or find it done; waits while another process trains it."""
    train(need, root, NETWORKS, progress=False)


def train(
    settings: SpeechSettings,
    root: str | Path = "runs",
    study: str = "gradual_transfer",
    progress: bool = True,
    device: str = "auto",
    run_dir: str | Path = "",
):
    """Train as the settings say into root/study/<id>/, or open the run if it is done: -> `runs.Run`.

    A transfer holds l_c = 0, 1, ... hidden layers, all in one run. Its result has `errors` and `validation_errors` by the
    name of l_c, `primary_error` of the network trained on the task alone, and counts; errors are phone error rates (39
    classes), or unweighted errors of utterances (1 - unweighted average recall, frame posteriors averaged). A primary
    network's result has its `error` and `validation_error`.
    """
    from atlab import runs

    if run_dir:
        root, study = Path(run_dir).parent.parent, Path(run_dir).parent.name
    settings.check()
    fs = _data(settings)
    make_split(fs, settings)
    networks = [train(need, root, NETWORKS, progress, device) for need in settings.required()]
    run = (
        runs.Run(run_dir)
        if run_dir
        else runs.open_run(root, study, asdict(settings), data_hash=fs.content_hash, wait=True)
    )
    if run.done:
        return run
    with run:
        (_train_primary if settings.role == "primary" else _transfer)(
            run, settings, fs, networks, progress, device
        )
    return run


def make_split(fs, s: SpeechSettings):
    """Training, validation and test clips of the settings' task; no speaker is on two sides.

    TIMIT's own parts for phones. Of other data the first ten speakers (at most half of them) say emotions, one testing and
    the last two validating, and the others phones, the last two testing and the two before validating, in neutral
    speech where clips have an emotion. AtlabError for a fold without a speaker, or too few speakers.
    """
    from atlab.data import Split, splits

    if s.task == "phone" and "official" in fs.factors:
        parts = [np.flatnonzero(fs.factors["official"] == part) for part in ("train", "validation", "test")]
    else:
        parts = _by_speaker(fs, s)
    split = Split(*parts, {"split": f"speech_study.{s.task}", "fold": s.fold})
    return splits.cut(split, s.clips, s.seed) if s.clips else split


def _by_speaker(fs, s: SpeechSettings) -> list[np.ndarray]:
    speakers, of = fs.classes("speaker"), fs.labels("speaker")
    first = len(speakers) if s.emotion_data else min(EMOTION_SPEAKERS, len(speakers) // 2)
    if s.task == "emotion":
        own, usable = speakers[:first], np.ones(len(fs), dtype=bool)
        folds = own[:-2]
        if s.fold >= len(folds):
            raise AtlabError(f"fold {s.fold} of {len(folds)}: {len(own)} speakers, of whom two validate")
        test, validation = [folds[s.fold]], own[-2:]
    else:
        own = speakers[0 if s.emotion_data else first :]
        usable = (
            fs.labels("emotion") == "neutral"
            if "emotion" in fs.factor_names
            else np.ones(len(fs), dtype=bool)
        )
        test, validation = own[-2:], own[-4:-2]
    train = [name for name in own if name not in (*test, *validation)]
    if not train:
        raise AtlabError(
            f"{len(own)} speakers are too few: two validate, one or two test, and none is left to learn from"
        )
    return [np.flatnonzero(np.isin(of, names) & usable) for names in (train, validation, test)]


def _data(s: SpeechSettings):
    from atlab.experiment import load_data

    return load_data(s.emotion_data if s.task == "emotion" and s.emotion_data else s.data)


def _task(fs, s: SpeechSettings) -> Task:
    from atlab.transfer.frames import features

    split = make_split(fs, s)
    frames = {name: features(fs, getattr(split, name)) for name in ("train", "validation", "test")}
    return (_phone_task if s.task == "phone" else _emotion_task)(fs, frames)


def _emotion_task(fs, frames: dict) -> Task:
    """Every frame has its utterance's emotion; an utterance has the emotion of the largest mean posterior."""
    classes = sorted(set(fs.labels("emotion", frames["train"].rows)))
    utterances = {name: fs.codes("emotion", classes)[part.rows] for name, part in frames.items()}
    codes = {name: utterances[name][part.clip] for name, part in frames.items()}

    def measure(probabilities: dict) -> tuple[float, float]:
        return tuple(
            unweighted_error(utterance_predictions(probabilities[name], frames[name].clip), utterances[name])
            for name in ("validation", "test")
        )

    return Task(classes, frames, codes, measure)


def utterance_predictions(probabilities: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Class of each utterance by the mean of its frames' posteriors [frames, K]; `clip` is each frame's utterance.

    >>> utterance_predictions(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1])).tolist()
    [0, 1]
    """
    sums = np.zeros((clip.max() + 1, probabilities.shape[1]))
    np.add.at(sums, clip, probabilities)
    return (sums / np.bincount(clip)[:, None]).argmax(1)


def unweighted_error(predictions: np.ndarray, codes: np.ndarray) -> float:
    """One minus the mean over classes of the share of their utterances that are right.

    >>> unweighted_error(np.array([0, 0, 1]), np.array([0, 1, 1]))
    0.25
    """
    return float(1 - np.mean([(predictions[codes == code] == code).mean() for code in np.unique(codes)]))


def _phone_task(fs, frames: dict) -> Task:
    """HMM states of training and validation frames by forced alignment; test frames need none."""
    import torch

    from atlab.transfer import decoder
    from atlab.transfer.alignment import STATES, align
    from atlab.transfer.phones import PHONES, fold, phones, segments

    texts = phones(fs)
    number = {name: code for code, name in enumerate(PHONES[48])}
    said = {
        name: [[number[p] for p in fold([p for _, _, p in segments(texts[row])], 48)] for row in part.rows]
        for name, part in frames.items()
    }
    both = _joined(frames["train"], frames["validation"])
    aligned = align(both, said["train"] + said["validation"])
    codes = dict(
        zip(("train", "validation"), np.split(aligned.states, [len(frames["train"].x)]), strict=True)
    )
    codes["test"] = np.zeros(len(frames["test"].x), dtype=np.int64)  # not looked at
    language, stay = decoder.bigram(said["train"]), torch.from_numpy(aligned.stay)

    def error(probabilities: dict, name: str, weight: float) -> float:
        scores = decoder.scaled_likelihoods(probabilities[name], codes["train"])
        found = decoder.decode(scores, frames[name].offsets, stay, language, weight)
        return decoder.phone_error_rate(said[name], found)

    def measure(probabilities: dict) -> tuple[float, float]:
        validation, weight = min((error(probabilities, "validation", weight), weight) for weight in WEIGHTS)
        return validation, error(probabilities, "test", weight)

    classes = [f"{name}/{state}" for name in PHONES[48] for state in range(STATES)]
    return Task(classes, frames, codes, measure)


def _joined(first, second):
    import torch

    from atlab.transfer.frames import Frames

    return Frames(
        torch.cat([first.x, second.x]),
        np.concatenate([first.rows, second.rows]),
        np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]),
        np.concatenate([first.first, second.first]),
    )


def _batches(task: Task, s: SpeechSettings, device) -> tuple:
    """Training and validation frames, and all frames of validation and test."""
    from atlab.transfer.frames import FrameBatches

    def part(name: str, every: int = 1, shuffle: bool = False) -> FrameBatches:
        return FrameBatches(
            task.frames[name], task.codes[name], every=every, batch_size=s.batch_size, shuffle=shuffle, seed=s.seed, device=device
        )  # fmt: skip

    return (
        part("train", s.every, True),
        part("validation", s.every),
        {n: part(n) for n in ("validation", "test")},
    )


def _errors(model, task: Task, whole: dict, progress: bool) -> tuple[float, float]:
    """Validation and test error of a network, over all frames."""
    from atlab import training

    probabilities = {}
    for name, batches in whole.items():
        found = training.evaluate(model, batches, progress=progress)
        probabilities[name] = np.full((len(task.frames[name].x), len(task.classes)), 1 / len(task.classes))
        probabilities[name][found.rows] = found.probabilities
    return task.measure(probabilities)


def _train_primary(run, s: SpeechSettings, fs, networks: list, progress: bool, device_name: str) -> None:
    from atlab import device as devices
    from atlab import models, training

    device = devices.choose(None if device_name == "auto" else device_name)
    task = _task(fs, s)
    train_part, validation, whole = _batches(task, s, device)
    model = _new_model(s, len(task.classes), s.seed)
    model.set_normalisation(*task.frames["train"].normalisation())
    history = training.fit(
        model, train_part, validation, epochs=s.epochs, patience=s.patience, learning_rate=s.learning_rate, seed=s.seed,
        device=device, checkpoint=run.checkpoint_path, progress=progress, description=f"{s.task} network, seed {s.seed}",
    )  # fmt: skip
    errors = _errors(model, task, whole, progress)
    models.save(model, run.model_path, classes=task.classes, task=s.task, data=fs.content_hash)
    run.save_history(history)
    parameters = sum(p.numel() for p in model.parameters())
    run.finish({"validation_error": errors[0], "error": errors[1], "epochs_run": len(history), "parameters": parameters,
                "train_frames": train_part.clips, "seconds": float(history["seconds"].sum())} | _counts(task))  # fmt: skip


def _transfer(run, s: SpeechSettings, fs, networks: list, progress: bool, device_name: str) -> None:
    from atlab import device as devices
    from atlab import models
    from atlab.transfer.gradual import gradual

    device = devices.choose(None if device_name == "auto" else device_name)
    task = _task(fs, s)
    train_part, validation, whole = _batches(task, s, device)
    base = (
        models.load(networks[0].model_path)
        if s.base == "trained"
        else _new_model(s, len(task.classes) + 1, s.seed + 1)
    )
    names = {held: name for name, held in s.levels().items()}
    rows, histories = {}, []
    for result in gradual(
        base, len(task.classes), train_part, validation, list(names), epochs=s.epochs, patience=s.patience,
        output_epochs=s.output_epochs, learning_rate=s.learning_rate, seed=s.seed, device=device,
        normalisation=task.frames["train"].normalisation(), progress=progress,
    ):  # fmt: skip
        held = names[result.held]
        rows[held] = (*_errors(result.model, task, whole, progress), len(result.history))
        histories.append(result.history.assign(held=result.held))
    run.save_history(pd.concat(histories, ignore_index=True))
    run.finish({
        "errors": {name: row[1] for name, row in rows.items()},
        "validation_errors": {name: row[0] for name, row in rows.items()},
        "epochs_run": {name: row[2] for name, row in rows.items()},
        "primary_error": networks[1].result()["error"],
        "seconds": float(sum(history["seconds"].sum() for history in histories)),
    } | _counts(task))  # fmt: skip


def _counts(task: Task) -> dict:
    return {f"{name}_clips": len(part) for name, part in task.frames.items()} | {"classes": len(task.classes)}


def _new_model(s: SpeechSettings, classes: int, seed: int):
    import torch

    from atlab import models

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return models.ARCHITECTURES[f"fayek_{s.model}"](classes, s.width)


def _other(task: str) -> str:
    return TASKS[1 - TASKS.index(task)]
