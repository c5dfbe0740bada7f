"""How a run of `Settings` is learned: the network, its strategy with teachers behind residuals and caches, the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from atlab.experiment.acting import GROUPED, Clips, acted_on, uses
from atlab.experiment.settings import Settings, from_parameters
from atlab.experiment.skeleton import Job, learn
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
    """What is worth saying about a notebook run with these parameters before it begins."""
    s = from_parameters(of)
    values = ", ".join(f"{name} {shown(getattr(s, name))}" for name in s.without_effect())
    return [f"the strategy {s.strategy!r} does not use {values}"] if values else []


@learn.register
def _(s: Settings, job: Job) -> dict:
    import torch

    from atlab import models, strategies
    from atlab.data import input_statistics
    from atlab.system import devices

    task = job.task(s.task, s.batch_size, s.seed, s.least_batch())
    mode = devices.precision(s.precision, job.device)
    with torch.random.fork_rng():
        torch.manual_seed(s.seed)
        channels = next(iter(task.parts["validation"].epoch(0))).x.shape[1]
        model = network(s, len(task.classes), channels).to(job.device)
        model.set_normalisation(*input_statistics(task.parts["train"]))
        runs = iter(job.networks)
        files = [source if isinstance(source, Path) else next(runs).model_path for source in s.sources()]
        taken = [models.load(file).to(job.device) for file in files]
        parts = [task.parts["train"], task.parts["validation"]]
        clips = acted_on(s, job.fs, job.split.train, parts, job.device)
        caches = job.run.path.parent.parent / "caches"
        with mode.autocast():
            plan = strategies.apply(s.strategy, model, taken, strategy_settings(s, clips, task.codes, caches, mode))
    label = f"{s.role if s.role == 'teacher' else s.strategy}, seed {s.seed}"
    history = job.fit(
        s, model, task.learned, task.parts["validation"], **fit_arguments(s, plan, clips), description=label
    )
    plan.close()
    result = job.result(model, task.parts, history) | {"classes": len(task.classes), "uses": uses(s)}
    job.save_model(model, task.classes, task=s.task)
    found = _accuracies(s, job)
    return result | {"orthogonal_networks": found} if found else result


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


def fit_arguments(s: Settings, plan, clips: Clips) -> dict:
    """What `training.fit` is given of a plan's losses: terms act on the target's batches or on a second stream."""
    from atlab.training import Stream

    if s.clips_from == "target":
        return {"loss_terms": plan.loss_terms, "target_loss": plan.target_loss}
    return {"stream": Stream(clips.parts[0], plan.loss_terms, s.stream_statistics)}


def strategy_settings(s: Settings, clips: Clips, target_codes, caches: Path, mode):
    """The strategy's settings: what its loss compares with, behind residuals and caches as asked for; orthogonal labels.

    Every teacher has a cache of its own in `caches`, shared by all runs that compare the same clips with it. `target_codes`
    [N] are the target's class numbers.
    """
    import torch

    from atlab import teachers
    from atlab.losses.target import pairs

    codes = None if clips.codes is None else torch.from_numpy(clips.codes)

    def teacher(model, layers):
        if s.against == "predictions":
            return teachers.of_predictions(model, layers, clips.parts)
        if s.against == "labels":
            return teachers.of_labels(layers, codes)
        live = teachers.Teacher(model, layers)
        if s.against == "class_means":
            return teachers.of_class_means(live, clips.parts, codes)
        if s.residual:
            live = teachers.ResidualTeacher(live, clips.parts[0], torch.from_numpy(target_codes))
        if not s.cached or s.published or s.role == "teacher":
            return live
        key = [live.identity, *(b.identity for b in clips.parts), s.aggregation, mode.name, mode.channels_last]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        return teachers.cached_or_live(live, clips.parts, caches / name, s.aggregation, mode.channels_last)

    groups = None
    if s.strategy in GROUPED:
        groups = pairs(torch.from_numpy(target_codes), codes, clips.parts[0].rows)
    return s.loss_settings(teacher=teacher, codes=codes, groups=groups, train=clips.parts[0])
