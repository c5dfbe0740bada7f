"""What there is to explore: data sets, studies and the networks in them, under names that a person can read."""

from __future__ import annotations

import difflib
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlab.data.catalog import data_set_folder, data_sets, load_data
from atlab.data.splits import Split
from atlab.errors import AtlabError, unknown
from atlab.explore.cache import MODELS, RESULTS
from atlab.explore.naming import TOLD, arm_name, unique
from atlab.explore.widgets.shown import Shown
from atlab.labels import NAMES, listed, natural
from atlab.system.home import find

if TYPE_CHECKING:
    import pandas as pd

RUNS = "runs"  # below the project's folder: where studies are found


@dataclass(frozen=True)
class Network:
    """A trained network of a study: its label, model file, strategy (or treatment), seed, layers and validation accuracy.

    Networks of one `arm` differ in their seed only.
    """

    label: str
    path: Path
    strategy: str
    role: str
    seed: int
    id: str
    arm: str
    layers: tuple[str, ...]
    validation: float


def open_data(data: str | Path):
    """`atlab.data.catalog.load_data`, kept open while the set's card is unchanged."""
    folder = data_set_folder(data)
    if folder is None:
        return load_data(data)
    return RESULTS.get(("data", str(folder.resolve()), _stamp(folder / "card.json")), lambda: load_data(folder))


def row_of(fs, clip: str) -> int:
    """Row of a clip by its id; AtlabError if the data set has no such clip."""
    ids = RESULTS.get(("ids", fs.content_hash), lambda: {name: row for row, name in enumerate(fs.factors["id"])})
    if clip not in ids:
        near = difflib.get_close_matches(clip, ids, n=3, cutoff=0.3) if len(ids) <= 20_000 else []
        hint = f"; nearest: {', '.join(map(repr, near))}" if near else ""
        raise AtlabError(
            f"there is no clip {clip!r} in {fs.card['name']} ({len(fs)} clips): it belongs to another data set{hint}"
        )
    return ids[clip]


def finished() -> list[str]:
    """Studies of the project with a finished run, the latest first; a folder that only serves others is not among them.

    Studies that left no network (the records of notebooks, for example) come last.
    """
    from atlab.experiment.skeleton import NETWORKS

    latest: dict[str, tuple[bool, float]] = {}
    for done in find(RUNS).glob("*/*/done"):
        name, trained = done.parent.parent.name, (done.parent / "model.safetensors").exists()
        before = latest.get(name, (False, 0.0))
        latest[name] = (before[0] or trained, max(before[1], done.stat().st_mtime))
    latest.pop(NETWORKS, None)
    return [f"{RUNS}/{name}" for name in sorted(latest, key=lambda name: (not latest[name][0], -latest[name][1], name))]


def settle(state) -> tuple[Any, Shown]:
    """A state with its study, the newest finished one where it names none, and the studies to choose from.

    AtlabError if there is no finished study.
    """
    known = finished()
    study = state.study or next(iter(known), "")
    if not study:
        raise AtlabError("there is no finished study yet: the page “Home” trains a small one")
    there = [study] if find(study).is_dir() else []
    offered = Shown(choices={"study": list(dict.fromkeys([*known, *there]))}, resolved={"study": study})
    return replace(state, study=study), offered


def study_table(study: str) -> pd.DataFrame:
    """The finished runs of a study (`runs.table`), each computation once (`analysis.study.once`).

    AtlabError, in words, if there is no such study or none is finished.
    """

    folder = find(study)
    if not study or not folder.is_dir():
        known = ", ".join(finished()) or "none here yet; explore.demo_study() trains a small one"
        raise AtlabError(f"there is no study folder {study!r}; studies: {known}")
    table = RESULTS.get(("study", *study_stamp(folder)), lambda: _once(folder))
    if table.empty:
        raise AtlabError(f"the study {study} has no finished run yet: an explorer shows runs that are done")
    return table


def _once(folder: Path) -> pd.DataFrame:
    from atlab import runs
    from atlab.analysis.study import once

    table = runs.table(folder)
    given = (name for path in table.get("path", []) for name in runs.Run(path).parameters)
    return once(table, list(dict.fromkeys(given)))


def study_stamp(folder: Path) -> Hashable:
    """Changes when a run of the study is finished or removed."""
    return str(folder.resolve()), tuple(sorted((done.parent.name, _stamp(done)) for done in folder.glob("*/done")))


def settings_of(study: str):
    """The settings of a study's first student (or of its first run): its data, split, target and noise."""
    from atlab.experiment.settings import from_parameters

    table = study_table(study)
    students = table[table["role"] == "student"] if "role" in table else table
    first = (students if len(students) else table).iloc[0]
    from atlab import runs

    return from_parameters(runs.Run(first["path"]).parameters)


def study_data(study: str, data: str = ""):
    """The data set of a study as its students saw it (with noise if they did), or another one by name."""
    if data:
        return open_data(data)
    settings = settings_of(study)
    fs = open_data(settings.data)
    key = ("noisy", fs.content_hash, settings.noise, settings.split_seed)
    return RESULTS.get(key, lambda: settings.seen(fs))


def data_options(data: str) -> list[tuple[str, str]]:
    """Data sets to choose from, the study's own first."""
    names = [name for name in dict.fromkeys([data, *data_sets()]) if name]
    return [("the study's", ""), *((name, name) for name in names)]


def networks(study: str) -> dict[str, Network]:
    """The networks of a study by label: orthogonal ones first, then students by strategy and seed.

    Orthogonal networks are found in the study and in `networks/` next to it, those that its students were trained with.
    """
    from atlab.experiment.skeleton import NETWORKS

    table = study_table(study)
    beside = find(study).parent / NETWORKS
    key = ("networks", *study_stamp(find(study)), study_stamp(beside) if beside.is_dir() else None)
    return RESULTS.get(key, lambda: _networks(table, beside))


def _networks(table: pd.DataFrame, beside: Path) -> dict[str, Network]:
    from dataclasses import asdict

    from atlab import runs
    from atlab.experiment.settings import from_parameters

    found = [runs.Run(path) for path in table["path"]]
    if "strategy" in table and beside.is_dir() and not table["path"].str.startswith(str(beside)).any():
        students = [from_parameters(run.parameters) for run in found]
        wanted = [asdict(need) for s in students for need in required(s) if need.role == "teacher"]
        found += [
            run
            for run in map(runs.Run, runs.table(beside)["path"])
            if asdict(from_parameters(run.parameters)) in wanted
        ]
    found = [run for run in found if run.model_path.exists()]
    if not found:
        raise AtlabError("the finished runs of this study left no network (model.safetensors)")
    parameters = [run.parameters for run in found]
    varying = {n for n in TOLD if len({str(p.get(n)) for p in parameters if p.get("role") != "teacher"}) > 1}
    arms = [arm_name(p, varying) for p in parameters]
    labels = unique(
        [
            arm if p.get("role") == "teacher" else f"{arm} seed {p.get('seed', 0)}"
            for arm, p in zip(arms, parameters, strict=True)
        ],
        [run.id for run in found],
    )
    entries = [
        Network(
            label,
            run.model_path,
            str(p.get("strategy", p.get("treatment", ""))),
            str(p.get("role", "student")),
            int(p.get("seed", 0)),
            run.id,
            arm,
            listed(p.get("layers", "")),
            float(run.result().get("validation_accuracy") or 0.0),
        )
        for label, run, p, arm in zip(labels, found, parameters, arms, strict=True)
    ]
    order = list(NAMES)
    entries.sort(
        key=lambda e: (
            e.role != "teacher",
            order.index(e.strategy) if e.strategy in order else 99,
            e.seed,
            natural(e.label),
        )
    )
    return {entry.label: entry for entry in entries}


def required(settings) -> list:
    """Every run that these settings take networks of, and the runs that those take them of, in an order to train them in."""
    found = [need for first in settings.required() for need in (*required(first), first)]
    return list(dict.fromkeys(found))


def first_choice(found: dict[str, Network], network: str = "") -> tuple[str, ...]:
    """Labels to begin with: the AT that validation likes best, the baseline of its seed, `network` if it is another one, an orthogonal network.

    With `network`, the baseline is of its seed. Where there are fewer than two of these, the first of every other strategy follows.
    """
    students = [n for n in found.values() if n.role != "teacher"]
    firsts: dict[str, str] = {}
    for n in students:
        firsts.setdefault(n.strategy, n.label)
    at = [n for n in students if n.strategy in ("at", "dual_at")]
    best = max(at, key=lambda n: n.validation, default=None)
    looked_at = found[network] if network in found and found[network].role != "teacher" else best
    baselines = [n for n in students if n.strategy == "baseline"]
    baselines.sort(key=lambda n: looked_at is None or n.seed != looked_at.seed)
    chosen = [n.label for n in baselines[:1]]
    chosen += [best.label] if best else []
    chosen += [network] if network in found else []
    chosen += [n.label for n in found.values() if n.role == "teacher"][:1]
    return tuple(dict.fromkeys(chosen if len(chosen) > 1 else [*chosen, *firsts.values()]))[:4]


def model(study: str, name: str):
    """A network by label, run id or model file: -> (label, network in evaluation mode). Kept while its file is unchanged.

    AtlabError if it is not there.
    """
    from atlab import models

    path, label = find(name), name
    if path.suffix == ".safetensors":
        label = path.parent.name if path.name == "model.safetensors" else path.stem
    else:
        known = networks(study)
        entry = known.get(name) or next((n for n in known.values() if n.id == name), None)
        if entry is None:
            raise unknown("network", name, known)
        path, label = entry.path, entry.label
    if not path.exists():
        raise AtlabError(f"the model file of {label!r} is gone: {path}")
    return label, MODELS.get((str(path.resolve()), _stamp(path)), lambda: models.load(path))


def unheard(study: str, name: str, fs) -> np.ndarray:
    """Rows of the clips that a network was tested on; all rows of a data set that its split does not fit."""
    known = networks(study)
    try:
        return Split.load(known[name].path.parent / "split.json", fs).test if name in known else np.arange(len(fs))
    except AtlabError:
        return np.arange(len(fs))


def layers_of(net) -> list[str]:
    """Layers to choose from: the tap points after the non-linearities, or every named module."""
    points = [name for name in getattr(net, "tap_points", {}) if not name.endswith(".pre")]
    return points or [name for name, _ in net.named_modules() if name]


def knows(net, fs) -> bool:
    """Whether a network was trained on this data set, or on the clean clips or a noisy view of it.

    A network of noise counts as one that was: it hears clips with noise mixed in, and its classes are not the data's.
    """
    if net.card.get("task") == "noise":
        return True
    noise = fs.card.get("noise")
    clean = noise.get("of") if isinstance(noise, dict) else None
    return net.card.get("data") in (fs.content_hash, clean)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
