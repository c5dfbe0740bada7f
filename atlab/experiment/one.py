"""How a run of `Settings` is learned: the network, its strategy with teachers behind residuals and caches, the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from atlab.experiment.settings import Settings, from_parameters
from atlab.experiment.skeleton import Job, Task, learn
from atlab.labels import shown


def required_by(of: Mapping | Settings) -> list[Settings]:
    """What has to be trained before a notebook run with these parameters, or before another such requirement.

    Parameters are checked, against the data set too if it is there, so that a sweep is refused before its first kernel.
    """
    if isinstance(of, Mapping):
        of = from_parameters(of)
        of.check_values()
        of.check_data()
    return of.required()


def remarks(of: Mapping) -> list[str]:
    """What is worth saying of a notebook run with these parameters before it begins."""
    s = from_parameters(of)
    values = ", ".join(f"{name} {shown(getattr(s, name))}" for name in s.without_effect())
    return [f"the strategy {s.strategy!r} does not use {values}"] if values else []


@learn.register
def _(s: Settings, job: Job) -> dict:
    import torch

    from atlab import models, strategies
    from atlab.data import input_statistics
    from atlab.system import devices

    task = job.task(s.task, s.batch_size, s.seed, s.batch_norm)
    mode = devices.precision(s.precision, job.device)
    with torch.random.fork_rng():
        torch.manual_seed(s.seed)
        channels = next(iter(task.parts["validation"].epoch(0))).x.shape[1]
        model = network(s, len(task.classes), channels).to(job.device)
        model.set_normalisation(*input_statistics(task.parts["train"]))
        runs = iter(job.networks)
        files = [source if isinstance(source, Path) else next(runs).model_path for source in s.sources()]
        taken = [models.load(file).to(job.device) for file in files]
        with mode.autocast():
            plan = strategies.apply(s.strategy, model, taken, _strategy_settings(s, job, task, mode))
    label = f"{s.role if s.role == 'teacher' else s.strategy}, seed {s.seed}"
    history = job.fit(s, model, task.learned, task.parts["validation"], loss_terms=plan.loss_terms, description=label)
    plan.close()
    result = job.result(model, task.parts, history) | {"classes": len(task.classes)}
    job.save_model(model, task.classes, task=s.task)
    return result | {"orthogonal_networks": _accuracies(s, job)} if job.networks else result


def _accuracies(s: Settings, job: Job) -> dict[str, dict[str, float]]:
    """Of every network that was trained for the run: its accuracy on clips that it was not trained on, and that of guessing."""
    found = {}
    for need, run in zip(s.required(), job.networks, strict=True):
        if need.role == "teacher":
            name = need.task if need.target != need.task else f"{need.task}@{need.data}"
            found[name] = {"test_accuracy": run.result()["test_accuracy"], "chance": 1 / run.result()["classes"]}
    return found


def network(s: Settings, classes: int, channels: int):
    """A new network of the settings' form, its weights drawn from PyTorch's random state."""
    from atlab import models

    return models.vgg16(classes, s.width, in_channels=channels, batch_norm=s.batch_norm, head=s.head)


def _strategy_settings(s: Settings, job: Job, task: Task, mode):
    """The strategy's settings: teachers behind residuals and caches as asked for, labels for gradient reversal.

    Every teacher has a cache of its own, shared by all runs under the root that compare the same clips with it.
    """
    import torch

    from atlab.teachers.cached import cached_or_live
    from atlab.teachers.residual import ResidualTeacher

    if s.strategy == "gradient_reversal":
        factor = s.orthogonal[0]
        known = job.fs.codes(factor, sorted(set(job.fs.labels(factor, job.split.train))))
        return s.loss_settings(codes=torch.from_numpy(known))
    batches = [task.parts["train"], task.parts["validation"]]

    def wrap(teacher):
        if s.residual:
            teacher = ResidualTeacher(teacher, batches[0], torch.from_numpy(task.codes))
        if not s.cached or s.published or s.role == "teacher":
            return teacher
        key = [teacher.identity, *(b.identity for b in batches), s.aggregation, mode.name, mode.channels_last]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        return cached_or_live(
            teacher, batches, job.run.path.parent.parent / "caches" / name, s.aggregation, mode.channels_last
        )

    return s.loss_settings(wrap=wrap)
