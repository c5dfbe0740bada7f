"""How runs of gradual transfer are learned: networks of tasks alone, and their transfers level by level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from atlab.experiment.skeleton import Job

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
    """What a study's settings have beside those of every run (`experiment.skeleton.RunSettings`)."""

    epochs: int
    patience: int
    output_epochs: int
    learning_rate: float
    seed: int
    base: str
    role: str

    def prepare(self, job: Job) -> Prepared:
        """The task."""

    def network(self, classes: int, seed: int) -> nn.Module:
        """A new network."""

    def levels(self) -> dict[str, int]:
        """Name -> number of held stages, of every transfer."""


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
    base = models.load(job.networks[0].model_path) if s.base == "trained" else s.network(classes + 1, s.seed + 1)
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
        "primary_error": job.networks[1].result()["error"],
        "seconds": float(history["seconds"].sum()),
        "classes": classes,
        **task.counts,
    }


def new_network(architecture: str, classes: int, width: float, seed: int, **arguments) -> nn.Module:
    """A network with weights drawn from `seed`; PyTorch's random state is left as it was."""
    import torch

    from atlab.models import ARCHITECTURES

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture](classes, width, **arguments)
