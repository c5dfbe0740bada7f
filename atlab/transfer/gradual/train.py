"""Runs of gradual transfer: networks of tasks alone, shared by all that copy them, and their transfers level by level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from atlab.experiment.settings import NETWORKS

if TYPE_CHECKING:
    from torch import nn

BASES = ("trained", "random")
ROLES = ("transfer", "primary")


@dataclass(frozen=True)
class Prepared:
    """A task that is ready to be learned.

    Attributes:
        classes: names of the network's outputs.
        train, validation: sources of batches.
        normalisation: mean and standard deviation of the training inputs.
        errors: (network, progress) -> error on the validation part and on the test part.
        counts: what the result says of the data.
    """

    classes: list[str]
    train: object
    validation: object
    normalisation: tuple
    errors: Callable[[nn.Module, bool], tuple[float, float]]
    counts: dict[str, int]


class GradualSettings(Protocol):
    """What a study's settings (a frozen dataclass) have: numbers of the training, and what they are about."""

    epochs: int
    patience: int
    output_epochs: int
    learning_rate: float
    seed: int
    base: str
    role: str

    def check(self) -> None:
        """AtlabError for a value that is not allowed."""

    def required(self) -> list:
        """Settings of the primary networks: of the task that is copied from, and of the own task; none for a primary network."""

    def data_set(self):
        """The data set."""

    def split(self, fs):
        """Its parts; AtlabError if they cannot be had."""

    def prepare(self, fs, device) -> Prepared:
        """The task."""

    def network(self, classes: int, seed: int) -> nn.Module:
        """A new network."""

    def levels(self) -> dict[str, int]:
        """Name -> number of held stages, of every transfer."""


def train(
    settings: GradualSettings,
    root: str | Path = "runs",
    study: str = "gradual_transfer",
    progress: bool = True,
    device: str = "auto",
    run_dir: str | Path = "",
):
    """Train as the settings say into root/study/<id>/, or open the run if it is done: -> `runs.Run`.

    A transfer holds l_c = 0, 1, ... hidden layers, all in one run, from one start. Its result has `errors` and
    `validation_errors` by the name of l_c, `primary_error` of the network trained on the task alone, and counts. A primary
    network (root/networks/) has its `error` and `validation_error`, and its model file.
    """
    from atlab import runs

    if run_dir:
        root, study = Path(run_dir).parent.parent, Path(run_dir).parent.name
    settings.check()
    fs = settings.data_set()
    settings.split(fs)  # what cannot be trained is refused before its base network is trained
    networks = [train(need, root, NETWORKS, progress, device) for need in settings.required()]
    run = (
        runs.Run(run_dir)
        if run_dir
        else runs.open_run(root, study, asdict(settings), data_hash=fs.content_hash, wait=True)
    )
    if run.done:
        return run
    with run:
        (_train_primary if settings.role == "primary" else _transfer)(run, settings, fs, networks, progress, device)
    return run


def _train_primary(run, s: GradualSettings, fs, networks: list, progress: bool, device_name: str) -> None:
    from atlab import models, training

    device = _device(device_name)
    task = s.prepare(fs, device)
    model = s.network(len(task.classes), s.seed)
    model.set_normalisation(*task.normalisation)
    history = training.fit(
        model,
        task.train,
        task.validation,
        epochs=s.epochs,
        patience=s.patience,
        learning_rate=s.learning_rate,
        seed=s.seed,
        device=device,
        checkpoint=run.checkpoint_path,
        progress=progress,
        description=f"alone, seed {s.seed}",
    )
    validation, test = task.errors(model, progress)
    models.save(model, run.model_path, classes=task.classes, data=fs.content_hash)
    run.save_history(history)
    run.finish(
        {
            "validation_error": validation,
            "error": test,
            "epochs_run": len(history),
            "seconds": float(history["seconds"].sum()),
            "parameters": sum(p.numel() for p in model.parameters()),
            "classes": len(task.classes),
            **task.counts,
        }
    )


def _transfer(run, s: GradualSettings, fs, networks: list, progress: bool, device_name: str) -> None:
    from atlab import models
    from atlab.transfer.gradual.method import gradual

    device = _device(device_name)
    task = s.prepare(fs, device)
    classes, names = len(task.classes), {held: name for name, held in s.levels().items()}
    base = models.load(networks[0].model_path) if s.base == "trained" else s.network(classes + 1, s.seed + 1)
    validation, test, epochs, histories = {}, {}, {}, []
    for result in gradual(
        base,
        classes,
        task.train,
        task.validation,
        list(names),
        epochs=s.epochs,
        patience=s.patience,
        output_epochs=s.output_epochs,
        learning_rate=s.learning_rate,
        seed=s.seed,
        device=device,
        normalisation=task.normalisation,
        progress=progress,
    ):
        name = names[result.held]
        validation[name], test[name] = task.errors(result.model, progress)
        epochs[name] = len(result.history)
        histories.append(result.history.assign(held=result.held))
    history = pd.concat(histories, ignore_index=True)
    run.save_history(history)
    run.finish(
        {
            "errors": test,
            "validation_errors": validation,
            "epochs_run": epochs,
            "primary_error": networks[1].result()["error"],
            "seconds": float(history["seconds"].sum()),
            "classes": classes,
            **task.counts,
        }
    )


def new_network(architecture: str, classes: int, width: float, seed: int, **arguments) -> nn.Module:
    """A network with weights drawn from `seed`; PyTorch's random state is left as it was."""
    import torch

    from atlab.models import ARCHITECTURES

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture](classes, width, **arguments)


def _device(name: str):
    from atlab.system import devices

    return devices.choose(None if name == "auto" else name)
