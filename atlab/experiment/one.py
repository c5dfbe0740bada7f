"""One training run from a data set to a run folder, and many of them side by side: what the notebooks call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from atlab.data.catalog import load_data
from atlab.errors import unknown
from atlab.experiment.settings import NETWORKS, NOISE, Settings, from_parameters


def open_data(settings: Settings):
    """The data set that the settings name, seen through the noise that they ask for."""
    from atlab.data import Noisy

    fs, snr_db = load_data(settings.data), NOISE[settings.noise]
    return fs if snr_db is None or "noise" in fs.factor_names else Noisy(fs, snr_db, seed=settings.split_seed)


def make_split(fs, settings: Settings):
    """The split that the settings name, checked for empty parts and unseen classes.

    A teacher's leaves out all clips that could test a student, however few of them `clips` lets it use.
    """
    from atlab.data import splits

    s = settings
    if s.split == "random":
        split = splits.random(fs, seed=s.split_seed)
    elif s.split == "disjoint":
        held_out = [value.strip() for value in s.held_out.split(",") if value.strip()] or None
        split = splits.disjoint(fs, s.split_factor(), seed=s.split_seed, test=held_out)
    else:
        split = splits.confounded(fs, s.target, s.split_factor(), p=s.pairing, seed=s.split_seed)
    if s.role == "teacher":
        split = splits.for_teacher(fs, split, seed=s.split_seed, clips=s.teacher_clips or None)
        split.check(fs, s.orthogonal)
    else:
        split = splits.cut(split, s.clips, s.split_seed) if s.clips else split
        split.check(fs, s.target)
    return split


def study_of(settings: Settings, study: str) -> str:
    """Where a run lives: networks of orthogonal factors serve all studies, from root/networks/."""
    return NETWORKS if settings.role == "teacher" else study


def required_by(of: Mapping | Settings) -> list[Settings]:
    """What has to be trained before a notebook run with these parameters, or before another such requirement."""
    return (of if isinstance(of, Settings) else from_parameters(of)).required()


def train_required(need: Settings, root: str | Path, study: str) -> None:
    """Train one of `required_by` into root/networks/, or find it done; waits while another process trains it."""
    train(need, root, NETWORKS, progress=False)


def train(
    settings: Settings,
    root: str | Path = "runs",
    study: str = "train",
    progress: bool = True,
    device: str = "auto",
    run_dir: str | Path = "",
):
    """Train as the settings say into root/study/<id>/, or open the run if it is done: -> `runs.Run`.

    A notebook that was handed a run folder passes it as `run_dir`: the run is written there. What the strategy requires is
    trained first, into root/networks/, if no run there has it. The run's result holds accuracy and loss on all parts,
    unweighted average recall on the test part, and clip counts; predictions.parquet the test predictions clip by clip.
    """
    from atlab import runs

    if run_dir:
        root, study = Path(run_dir).parent.parent, Path(run_dir).parent.name
    check_settings(settings)
    fs = open_data(settings)
    make_split(fs, settings)  # what cannot be trained is refused before its teacher is trained
    networks = [train(need, root, NETWORKS, progress, device) for need in settings.required()]
    folder = study_of(settings, study)
    run = (
        runs.Run(run_dir)
        if run_dir
        else runs.open_run(root, folder, asdict(settings), data_hash=fs.content_hash, wait=True)
    )
    if run.done:
        return run
    with run:
        _train_into(run, settings, fs, networks, progress, device)
    return run


def check_settings(s: Settings) -> None:
    """AtlabError for what the settings, the strategy or its loss would refuse, before anything is trained."""
    import torch

    from atlab import models, strategies

    if s.strategy not in strategies.STRATEGIES:
        raise unknown("strategy", s.strategy, strategies.STRATEGIES)
    s.check()
    if s.role == "student" and s.strategy != "baseline":
        with torch.random.fork_rng():
            tiny = models.vgg16(2, width=1 / 64)
        settings = loss_settings(s, codes=torch.tensor([0, 1]))
        strategies.apply(s.strategy, tiny, [tiny] * len(s.required()), settings).close()


def loss_settings(s: Settings, **more):
    """The anti-transfer settings that a strategy takes, as `Settings` name them."""
    from atlab.strategies import AtSettings

    return AtSettings(s.layer_names(), s.aggregation, s.similarity, s.beta, s.published, s.warm_up, s.start, **more)


def _train_into(run, settings: Settings, fs, networks: list, progress: bool, device_name: str) -> None:
    import torch

    from atlab import models, strategies, training
    from atlab.data import Batches, input_statistics
    from atlab.system import devices

    s, split, device = (
        settings,
        make_split(fs, settings),
        devices.choose(None if device_name == "auto" else device_name),
    )
    factor = s.orthogonal if s.role == "teacher" else s.target
    classes = sorted(set(fs.labels(factor, split.train)))
    codes = fs.codes(factor, classes)

    def batches(rows, shuffle=False):
        return Batches(fs, rows, codes, batch_size=s.batch_size, device=device, shuffle=shuffle, seed=s.seed)

    train_set, validation = batches(split.train, shuffle=True), batches(split.validation)
    mode = devices.precision(s.precision, device)
    with torch.random.fork_rng():
        torch.manual_seed(s.seed)
        model = models.vgg16(len(classes), s.width, in_channels=next(iter(validation.epoch(0))).x.shape[1]).to(device)
        model.set_normalisation(*input_statistics(batches(split.train)))
        taken = [models.load(network.model_path).to(device) for network in networks]
        with mode.autocast():
            settings = _at_settings(s, fs, split, run, [batches(split.train), validation], codes, mode)
            plan = strategies.apply(s.strategy, model, taken, settings)
    label = f"{s.role if s.role == 'teacher' else s.strategy}, seed {s.seed}"
    history = training.fit(
        model,
        train_set,
        validation,
        loss_terms=plan.loss_terms,
        epochs=s.epochs,
        patience=s.patience,
        learning_rate=s.learning_rate,
        seed=s.seed,
        device=device,
        precision=s.precision,
        checkpoint=run.checkpoint_path,
        progress=progress,
        description=label,
    )
    plan.close()
    parts = {
        name: training.evaluate(model, batches(getattr(split, name)), progress=progress)
        for name in ("train", "validation", "test")
    }
    test = parts["test"]
    table = pd.DataFrame({"row": test.rows, "code": test.codes, "prediction": test.predictions})
    table.to_parquet(run.path / "predictions.parquet")
    split.save(run.path / "split.json", fs)
    models.save(model, run.model_path, classes=[str(c) for c in classes], task=factor, data=fs.content_hash)
    run.save_history(history)
    run.finish(
        {
            **{f"{name}_accuracy": part.accuracy for name, part in parts.items()},
            **{f"{name}_loss": part.loss for name, part in parts.items()},
            **{f"{name}_clips": len(part.codes) for name, part in parts.items()},
            "test_unweighted_average_recall": test.unweighted_average_recall,
            "epochs_run": len(history),
        }
    )


def _at_settings(s: Settings, fs, split, run, batches: list, codes, mode):
    """The strategy's settings: teachers behind residuals and caches as asked for, labels for gradient reversal.

    Every teacher has a cache of its own, shared by all runs under the root that compare the same clips with it.
    """
    import torch

    from atlab.teachers.cached import cached_or_live
    from atlab.teachers.residual import ResidualTeacher

    if s.strategy == "gradient_reversal":
        factor = s.factors()[0]
        known = fs.codes(factor, sorted(set(fs.labels(factor, split.train))))
        return loss_settings(s, codes=torch.from_numpy(known))

    def wrap(teacher):
        if s.residual:
            teacher = ResidualTeacher(teacher, batches[0], torch.from_numpy(codes))
        if not s.cached or s.published or s.role == "teacher":
            return teacher
        key = [teacher.identity, *(b.identity for b in batches), s.aggregation, mode.name, mode.channels_last]
        folder = run.path.parent.parent / "caches" / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        return cached_or_live(teacher, batches, folder, s.aggregation, mode.channels_last)

    return loss_settings(s, wrap=wrap)
