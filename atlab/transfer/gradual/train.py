"""How runs of gradual transfer are learned: networks of tasks alone, and their transfers level by level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from atlab.errors import AtlabError, unknown
from atlab.experiment.skeleton import Job, learn
from atlab.training.optimizers import OPTIMIZERS

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
        counts: what the result says about the data.
    """

    classes: list[str]
    train: object
    validation: object
    normalisation: tuple
    errors: Callable[[nn.Module, bool], tuple[float, float]]
    counts: dict[str, int]


@dataclass(frozen=True)
class GradualSettings(ABC):
    """What the settings of both studies share.

    Attributes:
        data: a data set's folder, or the name of an embedded one.
        width: factor on the network's channels; 1.0 is the paper's.
        base: what a transfer starts from: the "trained" network of another task, or the same with "random" weights.
        clips: training clips at most, validation in proportion, test at most as many; 0 for all.
        epochs, patience, batch_size, learning_rate, optimizer: see `training.fit`.
        output_epochs: epochs in which the output layer is tuned alone first.
        seed: of weights, order and dropout; primary networks have the same.
        role: "transfer", or "primary" for a network that is trained on its own task alone, in root/networks/.
    """

    STUDY: ClassVar[str] = "gradual_transfer"

    data: str = ""
    width: float = 0.125
    base: str = "trained"
    clips: int = 0
    epochs: int = 50
    patience: int = 5
    output_epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    seed: int = 0
    role: str = "transfer"

    @abstractmethod
    def primaries(self) -> list[GradualSettings]:
        """The networks of single tasks: the one that is copied, if it is not a file, and the one transfer is measured by."""

    def model_path(self) -> Path | None:
        """The model file that is copied, if one is named."""
        return None

    @abstractmethod
    def prepare(self, job: Job) -> Prepared:
        """The task."""

    @abstractmethod
    def network(self, classes: int, seed: int) -> nn.Module:
        """A new network."""

    @abstractmethod
    def levels(self) -> dict[str, int]:
        """Name -> number of held stages, of every transfer."""

    def required(self) -> list[GradualSettings]:
        """The primary networks of a transfer."""
        return [] if self.role == "primary" else self.primaries()

    def check(self) -> None:
        """AtlabError for a value that is not allowed."""
        for kind, value, allowed in (("optimizer", self.optimizer, OPTIMIZERS), ("role", self.role, ROLES)):
            if value not in allowed:
                raise unknown(kind, value, allowed)
        for name, least in (("clips", 0), ("batch_size", 2), ("epochs", 1), ("output_epochs", 1)):
            if getattr(self, name) < least:
                raise AtlabError(f"{name} must be at least {least}, found {getattr(self, name)}")


def learn_gradual(s: GradualSettings, job: Job) -> dict:
    """Learn a primary network, or all transfers of a task in one run: -> its result.

    A transfer holds l_c = 0, 1, ... hidden layers, all from one start. Its result has `errors` and `validation_errors` by the
    name of l_c, `primary_error` of the network trained on the task alone, and counts. A primary network (root/networks/)
    has its `error` and `validation_error`, and its model file.
    """
    return (_primary if s.role == "primary" else _transfer)(s, job, s.prepare(job))


def _primary(s: GradualSettings, job: Job, task: Prepared) -> dict:
    model = s.network(len(task.classes), s.seed)
    model.set_normalisation(*task.normalisation)
    history = job.fit(s, model, task.train, task.validation, description=f"alone, seed {s.seed}")
    validation, test = task.errors(model, job.progress)
    job.save_model(model, task.classes)
    job.run.save_history(history)
    return {
        "validation_error": validation,
        "error": test,
        "epochs_run": len(history),
        "seconds": float(history["seconds"].sum()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "classes": len(task.classes),
        **task.counts,
    }


def _transfer(s: GradualSettings, job: Job, task: Prepared) -> dict:
    from atlab import models
    from atlab.transfer.gradual.method import gradual

    classes, names = len(task.classes), {held: name for name, held in s.levels().items()}
    base = s.network(classes + 1, s.seed + 1)
    if s.base != "random":
        base = _same_kind(models.load(s.model_path() or job.networks[0].model_path), base)
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
        optimizer=s.optimizer,
        seed=s.seed,
        device=job.device,
        normalisation=task.normalisation,
        progress=job.progress,
    ):
        name = names[result.held]
        validation[name], test[name] = task.errors(result.model, job.progress)
        epochs[name] = len(result.history)
        histories.append(result.history.assign(held=result.held))
    history = pd.concat(histories, ignore_index=True)
    job.run.save_history(history)
    return {
        "errors": test,
        "validation_errors": validation,
        "epochs_run": epochs,
        "primary_error": job.networks[-1].result()["error"],
        "seconds": float(history["seconds"].sum()),
        "classes": classes,
        **task.counts,
    }


def _same_kind(found: nn.Module, new: nn.Module) -> nn.Module:
    """The network that is copied; AtlabError if it is of another architecture or width than the settings say."""
    kinds = [f"{model.architecture} of width {model.arguments['width']:g}" for model in (found, new)]
    if kinds[0] != kinds[1]:
        raise AtlabError(f"the copied network is a {kinds[0]}; expected a {kinds[1]}")
    return found


learn.register(GradualSettings, learn_gradual)


def new_network(architecture: str, classes: int, width: float, seed: int, **arguments) -> nn.Module:
    """A network with weights drawn from `seed`; PyTorch's random state is left as it was."""
    import torch

    from atlab.models import ARCHITECTURES

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture](classes, width, **arguments)
