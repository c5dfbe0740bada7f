"""What is in a study's folder: finished, unfinished and failed runs, what varies among them, how to get them again."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from atlab import analysis, runs
from atlab.analysis.grouping import blanked
from atlab.data.catalog import is_there
from atlab.errors import AtlabError, unknown
from atlab.experiment.settings import Settings
from atlab.labels import shown
from atlab.runs import grid, notebooks, parameters
from atlab.system.home import find, home, in_home, packaged_notebooks

DEFAULTS = {field.name: shown(field.default) for field in fields(Settings)}
UNITS = ("seed", "split_seed", "teacher_seed")  # repetitions: what an interval is over


@dataclass(frozen=True)
class Study:
    """A study's folder; `table` holds the finished runs (`runs.table`), `failed` a message for each failed one."""

    folder: Path
    table: pd.DataFrame
    parameters: list[str]
    unfinished: list[runs.Run]
    failed: dict[str, str]

    @functools.cached_property
    def varying(self) -> list[str]:
        """The parameters with several values among the finished runs."""
        return [name for name in self.parameters if self.table[name].astype(str).nunique() > 1]

    @property
    def units(self) -> list[str]:
        """The parameters that repetitions differ in."""
        return [name for name in UNITS if name in self.varying] or [name for name in UNITS[:1] if name in self.table]

    @property
    def asked_for(self) -> pd.DataFrame:
        """The finished runs without the first stages that runs of a sweep required, which no notebook executed."""
        executed = self.table["path"].map(lambda path: (Path(path) / "out.ipynb").exists())
        return self.table[executed] if executed.any() else self.table

    @property
    def title(self) -> str:
        return self.folder.name


def read(study: str | Path, root: str | Path = "runs") -> Study:
    """The study ROOT/STUDY, or of a folder; AtlabError if there is none (with the nearest), or it holds no run."""
    root = in_home(root)
    folder = next((path for path in (root / study, find(study)) if path.is_dir()), None)
    if folder is None:
        known = sorted(path.name for path in root.glob("*") if path.is_dir())
        raise unknown(f"study in {root}", study, known)
    everything = [runs.Run(path.parent) for path in sorted(folder.glob("*/params.json"))]
    if not everything:
        raise AtlabError(f"{folder} holds no runs")
    table = runs.table(folder)
    left = [run for run in everything if not run.done]
    failed = {run.id: _message(run) for run in left if (run.path / "out.failed.ipynb").exists()}
    parameters = [
        name for name in dict.fromkeys(name for run in everything for name in run.parameters) if name in table
    ]
    return Study(folder.resolve(), table, parameters, [run for run in left if run.id not in failed], failed)


def _message(run: runs.Run) -> str:
    """The error of a failed run, as its executed notebook shows it."""
    cells = json.loads((run.path / "out.failed.ipynb").read_text(encoding="utf-8"))["cells"]
    errors = [out for cell in cells for out in cell.get("outputs", []) if out.get("output_type") == "error"]
    return f"{errors[-1]['ename']}: {errors[-1]['evalue']}" if errors else "no error in its notebook: its kernel died"


def once(table: pd.DataFrame, parameters: Sequence[str]) -> pd.DataFrame:
    """The runs without those that agree with an earlier one in all that their strategy reads: these computed the same again.

    A baseline that a sweep repeats for every layer of anti-transfer is one baseline.

    >>> table = pd.DataFrame({"strategy": ["baseline", "baseline", "at", "at"], "layers": ["conv1", "conv5"] * 2})
    >>> list(once(table, ["strategy", "layers"]).index)
    [0, 2, 3]
    """
    if "strategy" not in parameters or "strategy" not in table:
        return table
    read = blanked(table)[[name for name in parameters if name in table]]
    return table[~read.astype(str).duplicated().to_numpy()]


def comparable(study: Study) -> Iterator[tuple[str, pd.DataFrame, list[str], list[str]]]:
    """The parts of a study that can be compared with a baseline: name, runs, columns that tell arms apart, notes.

    Runs belong to a part if they are tested alike (`analysis.conditions`), and where baselines differ in a parameter (a
    learning rate), if they share its value. Arms that lack repetitions of the baseline are left out, with a note. Of runs
    that computed the same (`once`), the first counts.
    """
    runs_of = once(study.asked_for, study.parameters)
    if not {"strategy", "test_accuracy", "train_accuracy"} <= set(study.table) or not study.units:
        return
    table = runs_of.assign(seed=runs_of[study.units].astype(str).agg(" ".join, axis=1))
    conditional = (*analysis.CONDITIONS, *study.units, "seed")
    varying = [c for c in study.parameters if table[c].astype(str).nunique() > 1]
    always = ["strategy", "orthogonal", "layers"]
    more = [c for c in varying if c not in (*conditional, *always)]
    for name, part in analysis.conditions(table).items():
        baselines = analysis.arms(part).query("strategy == 'baseline'")
        apart = [c for c in _telling(part, more) if baselines[c].astype(str).nunique() > 1]
        for values, alike in part.groupby(apart) if apart else [((), part)]:
            by = [*always, *_telling(alike, more)]
            title = ", ".join(filter(None, (name, *(f"{c} {v}" for c, v in zip(apart, values, strict=True)))))
            seeds = set(alike.loc[alike["strategy"] == "baseline", "seed"])
            if len(seeds) < 2:
                yield title, alike.iloc[:0], by, ["fewer than two repetitions of a baseline are finished"]
                continue
            arms = analysis.arms(alike)
            sizes = arms.assign(shared=arms["seed"].isin(seeds)).groupby(by, sort=False)["shared"].sum()
            short = sizes[sizes < len(seeds)]
            notes = [
                f"{analysis.label(by, key)}: {count} of {len(seeds)} repetitions are finished"
                for key, count in short.items()
            ]
            keys = pd.MultiIndex.from_frame(arms[by])
            yield title, alike[~keys.isin(short.index) & alike["seed"].isin(seeds).to_numpy()], by, notes


def _telling(part: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """The columns that tell arms of a part apart."""
    read = blanked(part).astype(str)
    found = [c for c in columns if read[c].nunique() > 1]
    rest = ["strategy", "orthogonal", "layers", *(c for c in found if c != "noise_from")]
    # The source of noise is not read where the noise network's data bring their own.
    alone = "noise_from" in found and len(read[[*rest, "noise_from"]].drop_duplicates()) > len(
        read[rest].drop_duplicates()
    )
    return [c for c in found if c != "noise_from" or alone]


def commands(study: Study) -> list[str]:
    """The command lines that compute the study's runs: the grids that hold them, and one line per run that is in none.

    A grid is found where `atlab sweep` finds it; a run's notebook is named as it was executed.
    """
    left = {run.id: run for run in (runs.Run(path) for path in study.table["path"])}
    lines = []
    for path in grids():
        for scale in grid.scales(path) if grid.study(path) == study.title else ():
            opened = grid.load(path, scale)
            if all(map(is_there, _data_sets(opened))):
                places = notebooks.places(opened.notebook, opened.jobs, study.folder.parent, opened.study)
                found = [place.name for place in places if place.name in set(study.table["id"])]
                if found:
                    lines.append(
                        f"atlab sweep {path.stem} --scale {scale}  # {len(found)} of its {len(places)} runs are finished here"
                    )
                    left = {key: run for key, run in left.items() if key not in found}
    asked_for = set(study.asked_for["id"])
    return lines + [_command(run, study.title) for key, run in left.items() if key in asked_for]


def _data_sets(opened: grid.Grid) -> set[str]:
    """The names of data sets in a grid's runs: a report renders none to see whether its runs are done."""
    defaults = parameters.defaults(opened.notebook)
    texts = {
        text
        for job in opened.jobs
        for value in {**defaults, **job}.values()
        for text in (value if isinstance(value, tuple) else [value])
    }
    return {text.rpartition("@")[2] for text in texts if isinstance(text, str)}


def grids() -> list[Path]:
    """The grids of the project's folder, the packaged ones where it has none."""
    folders = (folder / "experiments/grids" for folder in (home() / "notebooks", packaged_notebooks()))
    return next((found for folder in folders if (found := sorted(folder.glob("*.yaml")))), [])


def _command(run: runs.Run, study: str) -> str:
    """`atlab run` with the parameters that differ from a training run's defaults."""
    notebook = "notebooks/experiments/train.ipynb"
    if run.notebook_path.exists():
        executed = json.loads(run.notebook_path.read_text(encoding="utf-8"))["metadata"].get("papermill", {})
        parts = Path(executed.get("input_path") or notebook).parts
        notebook = str(Path(*parts[parts.index("notebooks") :])) if "notebooks" in parts else parts[-1]
    given = [
        f"-p {name} {shlex.quote(str(shown(value)))}"
        for name, value in run.parameters.items()
        if DEFAULTS.get(name, "auto") != shown(value)
    ]
    return " ".join(["atlab run", notebook, f"--study {study}", *given])


def seconds(study: Study) -> float:
    """Time that the finished runs' notebooks took, one after the other."""
    total = 0.0
    for path in study.table["path"]:
        if (Path(path) / "out.ipynb").exists():
            executed = json.loads((Path(path) / "out.ipynb").read_text(encoding="utf-8"))["metadata"].get(
                "papermill", {}
            )
            total += executed.get("duration") or 0.0
    return total


def versions(study: Study) -> list[str]:
    """Versions that the finished runs were made with (atlab, Python), as their folders say."""
    found: dict[str, None] = {}
    for path in study.table["path"]:
        found[f"atlab {json.loads((Path(path) / 'params.json').read_text()).get('atlab', '?')}"] = None
        if (Path(path) / "out.ipynb").exists():
            info = json.loads((Path(path) / "out.ipynb").read_text(encoding="utf-8"))["metadata"].get(
                "language_info", {}
            )
            found[f"Python {info.get('version', '?')}"] = None
    return list(found)
