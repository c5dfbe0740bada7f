"""The jobs of a sweep: the runs of a grid, after what they require."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from atlab.errors import AtlabError
from atlab.labels import shown
from atlab.runs import grid, notebooks
from atlab.runs.folder import is_done
from atlab.runs.requirements import requirements
from atlab.system.home import in_home, named


@dataclass(eq=False)
class Node:
    """A job, `function(*arguments)`, with the nodes that have to be done before it; `state` as in `progress.STATES`."""

    name: str
    function: Callable[..., None]
    arguments: tuple
    after: list[Node] = field(default_factory=list)
    folder: Path | None = None
    state: str = "waiting"
    seconds: float = 0.0
    ended: float = 0.0
    said: str = ""


def load(what: str | Path | Mapping | grid.Grid, scale: str, **fixed: Any) -> grid.Grid:
    """The grid of a path, a name, a mapping or a Grid."""
    if isinstance(what, grid.Grid):
        if fixed:
            raise AtlabError(f"a Grid is complete: {', '.join(fixed)} cannot override its parameters; use grid.load")
        return what
    if isinstance(what, Mapping):
        return grid.parse(what, scale, fixed=fixed)
    return grid.load(named(what, ".yaml"), scale, **fixed)


def numbers(opened: grid.Grid, only: int | None) -> Sequence[int]:
    """The numbers of all runs, or the one that is asked for."""
    if only is not None and not 0 <= only < len(opened.jobs):
        raise AtlabError(f"run {only} of {opened.study}: allowed are 0 to {len(opened.jobs) - 1}")
    return range(len(opened.jobs)) if only is None else [only]


def between(opened: grid.Grid, first: int, end: int, left: Collection[str] = ()) -> list[int]:
    """The numbers of the runs of the repetitions first to end - 1 of a plan, without the arms that are left out."""
    jobs = zip(opened.jobs, opened.arms, strict=True)
    return [number for number, (job, arm) in enumerate(jobs) if first <= job["seed"] < end and arm not in left]


def plan(opened: grid.Grid, root: str | Path, numbers: Sequence[int] | None = None) -> list[Node]:
    """Runs of the grid (all, or those with these numbers) as nodes, after nodes of what they require; done ones are marked so."""
    chosen = opened.jobs if numbers is None else [opened.jobs[number] for number in numbers]
    root, notebook = in_home(root).absolute(), opened.notebook
    module, required_by, _ = requirements(notebook)
    needed: dict[Any, Node] = {}

    def after(of: Any) -> list[Node]:
        return [need(what) for what in required_by(of)]

    def need(what: Any) -> Node:
        if what not in needed:
            before = after(what)
            needed[what] = Node(described(what), _train_required, (module, what, str(root), opened.study), before)
        return needed[what]

    jobs = []
    for parameters, folder in zip(chosen, notebooks.places(notebook, chosen, root, opened.study), strict=True):
        arguments = (notebook, parameters, root, opened.study)
        node = Node(str(folder), _run_notebook, arguments, folder=folder)
        if is_done(folder):
            node.state = "done"
        else:
            node.after = after(parameters)
        jobs.append(node)
    return [*needed.values(), *jobs]


def described(need: Any) -> str:
    """A requirement for people: of a dataclass what differs from its defaults."""
    if not is_dataclass(need):
        return str(need)
    values = {
        f.name: getattr(need, f.name)
        for f in fields(need)
        if f.default is MISSING or getattr(need, f.name) != f.default
    }
    return ", ".join(f"{name} {shown(value)}" for name, value in values.items())


def _train_required(module: str, need: Any, root: str, study: str) -> None:
    importlib.import_module(module).train_required(need, root, study)


def _run_notebook(notebook: Path, parameters: Mapping, root: Path, study: str) -> None:
    notebooks.run(notebook, parameters, root=root, study=study, progress=False)
