"""One training run from a data set to a run folder, and many of them side by side: what the notebooks call."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from atlab.errors import AtlabError, unknown
from atlab.workers import pool as workers_pool

SPLITS = ("random", "disjoint", "confounded")
EMBEDDED = ("synthetic_speech", "synthetic_notes")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run; the defaults are the paper's where it states one (section 4.2).

    Attributes:
        data: a data set's folder, or the name of an embedded one ("synthetic_speech").
        target, orthogonal: the factors that are learned and that should not matter.
        split: "random" by source file, "disjoint" in the orthogonal factor, or "confounded" with it.
        pairing: share of training clips whose orthogonal value is the one paired with their class (confounded).
        held_out: values of the orthogonal factor kept for the test, separated by commas (disjoint).
        strategy: a name in `strategies.STRATEGIES`.
        layers: anti-transfer layers, separated by commas; aggregation, similarity, beta, published: the loss.
        width: of VGG16; 1.0 is the paper's.
        teacher_seed: seed of the orthogonal network, shared by all student seeds.
        teacher_clips: clips for training and testing it, drawn from those outside the target's test; 0 for all.
        cached: read the teacher's targets from a cache instead of running it.
        role: "student", or "teacher" for a network of the orthogonal factor, trained on no test clip.
    """

    data: str = "synthetic_speech"
    target: str = "word"
    orthogonal: str = "speaker"
    split: str = "confounded"
    pairing: float = 0.9
    held_out: str = ""
    split_seed: int = 0
    strategy: str = "at"
    layers: str = "conv5"
    aggregation: str = "gram"
    similarity: str = "squared_cosine"
    beta: float = 1.0
    published: bool = False
    width: float = 1.0
    epochs: int = 50
    patience: int = 5
    batch_size: int = 13
    learning_rate: float = 5e-4
    seed: int = 0
    teacher_seed: int = 0
    teacher_clips: int = 0
    cached: bool = True
    precision: str = "auto"
    role: str = "student"

    def layer_names(self) -> list[str]:
        """The anti-transfer layers one by one."""
        return [layer.strip() for layer in self.layers.split(",") if layer.strip()]

    def teacher(self) -> Settings:
        """The settings of the orthogonal network: equal for all students that can share it."""
        return replace(
            Settings(),
            **{k: getattr(self, k) for k in ("data", "target", "orthogonal", "split", "pairing", "held_out", "split_seed", "width",
                                             "epochs", "patience", "batch_size", "teacher_clips", "learning_rate", "precision")},
            role="teacher", strategy="baseline", seed=self.teacher_seed,
        )  # fmt: skip


def load_data(data: str | Path):
    """Open a data set's folder; an embedded one is rendered into data/<name> on first use.

    Raises AtlabError if there is no such data set, with the ways to get one.
    """
    from atlab.data import FactorSet

    if (Path(data) / "card.json").exists():
        return FactorSet.open(data)
    if str(data) in EMBEDDED:
        import data_recipes

        return data_recipes.get(str(data)).prepare(None, data_folder() / str(data))
    if (data_folder() / str(data) / "card.json").exists():
        return FactorSet.open(data_folder() / str(data))
    raise AtlabError(
        f"no data set at {str(data)!r}: give the folder that `atlab data prepare` wrote (it holds card.json), "
        f"or one of the embedded ones: {', '.join(EMBEDDED)}"
    )


def data_folder() -> Path:
    """Where prepared data sets live: $ATLAB_DATA, or data/ in the current folder."""
    return Path(os.environ.get("ATLAB_DATA", "data"))


def make_split(fs, settings: Settings):
    """The split that the settings name, checked for empty parts and unseen classes."""
    from atlab.data import splits

    s = settings
    if s.split == "random":
        split = splits.random(fs, seed=s.split_seed)
    elif s.split == "disjoint":
        held_out = [value.strip() for value in s.held_out.split(",") if value.strip()] or None
        split = splits.disjoint(fs, s.orthogonal, seed=s.split_seed, test=held_out)
    elif s.split == "confounded":
        split = splits.confounded(fs, s.target, s.orthogonal, p=s.pairing, seed=s.split_seed)
    else:
        raise unknown("split", s.split, SPLITS)
    if s.role == "teacher":
        split = splits.for_teacher(fs, split, seed=s.split_seed, clips=s.teacher_clips or None)
        split.check(fs, s.orthogonal)
    else:
        split.check(fs, s.target)
    return split


def train(
    settings: Settings,
    root: str | Path = "runs",
    study: str = "train",
    progress: bool = True,
    device: str = "auto",
    run_dir: str | Path = "",
):
    """Train as the settings say into root/study/<id>/, or open the run if it is done: -> `runs.Run`.

    A notebook that was handed a run folder passes it as `run_dir`: the run is written there, its teacher beside it.

    The network of the orthogonal factor is trained first if the strategy needs it and no run has it. The run's
    result holds accuracy and loss on all parts, unweighted average recall on the test part, and clip counts;
    predictions.parquet the test predictions clip by clip.
    """
    from atlab import runs, strategies

    if settings.strategy not in strategies.STRATEGIES:
        raise unknown("strategy", settings.strategy, strategies.STRATEGIES)
    if run_dir:
        root, study = Path(run_dir).parent.parent, Path(run_dir).parent.name
    _check_loss(settings)
    fs = load_data(settings.data)
    make_split(fs, settings)  # what cannot be trained is refused before its teacher is trained
    orthogonal = []
    if settings.strategy != "baseline":
        teacher = train(settings.teacher(), root, study, progress, device)
        orthogonal.append(teacher)
    run = (
        runs.Run(run_dir)
        if run_dir
        else runs.open_run(root, study, asdict(settings), data_hash=fs.content_hash, wait=True)
    )
    if run.done:
        return run
    with run:
        _train_into(run, settings, fs, orthogonal, progress, device)
    return run


def _check_loss(s: Settings) -> None:
    """AtlabError for layers, aggregation, similarity or beta that the loss would refuse."""
    from atlab import models, strategies

    if s.strategy == "at":
        tiny = models.vgg16(2, width=1 / 64)
        settings = strategies.AtSettings(s.layer_names(), s.aggregation, s.similarity, s.beta, s.published)
        strategies.apply("at", tiny, [tiny], settings).close()


def _train_into(run, settings: Settings, fs, orthogonal: list, progress: bool, device_name: str) -> None:
    import torch

    from atlab import device as devices
    from atlab import models, strategies, training
    from atlab.data import Batches, input_statistics

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
    with torch.random.fork_rng():
        torch.manual_seed(s.seed)
        model = models.vgg16(
            len(classes), s.width, in_channels=next(iter(validation.epoch(0))).x.shape[1]
        ).to(device)
    model.set_normalisation(*input_statistics(batches(split.train)))
    teachers = [models.load(t.model_path).to(device) for t in orthogonal]
    mode = devices.precision(s.precision, device)
    with mode.autocast():
        settings = _at_settings(s, run, [batches(split.train), validation], teachers, mode.channels_last)
        plan = strategies.apply(s.strategy, model, teachers, settings)
    label = f"{s.role if s.role == 'teacher' else s.strategy}, seed {s.seed}"
    history = training.fit(
        model, train_set, validation, loss_terms=plan.loss_terms, epochs=s.epochs, patience=s.patience,
        learning_rate=s.learning_rate, seed=s.seed, device=device, precision=s.precision,
        checkpoint=run.checkpoint_path, progress=progress, description=label,
    )  # fmt: skip
    plan.close()
    parts = {
        name: training.evaluate(model, batches(getattr(split, name)))
        for name in ("train", "validation", "test")
    }
    test = parts["test"]
    table = pd.DataFrame({"row": test.rows, "code": test.codes, "prediction": test.predictions})
    table.to_parquet(run.path / "predictions.parquet")
    split.save(run.path / "split.json", fs)
    models.save(model, run.model_path, classes=[str(c) for c in classes], task=factor, data=fs.content_hash)
    run.save_history(history)
    run.finish({
        **{f"{name}_accuracy": part.accuracy for name, part in parts.items()},
        **{f"{name}_loss": part.loss for name, part in parts.items()},
        **{f"{name}_clips": len(part.codes) for name, part in parts.items()},
        "test_unweighted_average_recall": test.unweighted_average_recall,
        "epochs_run": int(len(history)),
    })  # fmt: skip


def _at_settings(s: Settings, run, batches: list, teachers: list, channels_last: bool):
    """Anti-transfer settings, with the cache of teacher targets shared by the study's runs if asked for."""
    from atlab import models
    from atlab.cached_teacher import CachedTeacher
    from atlab.strategies import AtSettings

    layers = s.layer_names()
    settings = AtSettings(layers, s.aggregation, s.similarity, s.beta, s.published)
    if not s.cached or s.published or s.strategy != "at":
        return settings
    key = [models.weights_hash(t) for t in teachers] + [b.identity for b in batches] + [layers, s.aggregation]
    folder = run.path.parent / "caches" / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return replace(
        settings, wrap=lambda teacher: CachedTeacher(teacher, batches, folder, s.aggregation, channels_last)
    )


def train_many(
    settings: Iterable[Settings],
    root: str | Path = "runs",
    study: str = "train",
    workers: int = 2,
    device: str = "auto",
) -> pd.DataFrame:
    """Train all settings in parallel processes, one thread each; done ones are only read: -> table of their runs.

    Orthogonal networks are trained first, each once. A progress bar counts runs and shows the time left.
    """
    from tqdm.auto import tqdm

    wanted = list(settings)
    load_data(wanted[0].data)  # rendered here once, with all cores, before workers ask for it
    teachers = list(dict.fromkeys(s.teacher() for s in wanted if s.strategy != "baseline"))
    rows = {}
    with (
        tqdm(total=len(teachers) + len(wanted), desc=study, unit="run") as bar,
        workers_pool(workers, _one_thread) as pool,
    ):
        # Baselines need no teacher and fill the workers while it trains.
        stages = [
            teachers + [s for s in wanted if s.strategy == "baseline"],
            [s for s in wanted if s.strategy != "baseline"],
        ]
        for stage in stages:
            jobs = {pool.submit(_job, s, str(root), study, device): s for s in stage}
            try:
                for job in as_completed(jobs):
                    rows[jobs[job]] = {**asdict(jobs[job]), **job.result()}
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return pd.DataFrame([rows[s] for s in wanted])


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _job(settings: Settings, root: str, study: str, device: str) -> dict:
    run = train(settings, root, study, progress=False, device=device)
    return {"run": str(run.path), **run.result()}
