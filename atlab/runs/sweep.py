"""Sweeps: every run of a grid that is not done, side by side, after the networks that they share."""

from __future__ import annotations

import importlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from atlab.errors import AtlabError
from atlab.runs import engines, grid, notebooks
from atlab.runs.engines import Task
from atlab.system.home import in_home, named

TRIES = 3
HELD_AGAIN = 2.0  # seconds until a run that another process holds is looked at again


@dataclass
class Outcome:
    """What became of a sweep's runs; `failed` holds the message of each failed one by its name."""

    study: str
    folders: list[Path]
    done_before: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def summary(self) -> str:
        """One line for people."""
        from atlab.runs.progress import duration

        parts = [
            f"{self.done} done in {duration(self.seconds)}",
            f"{self.done_before} done before",
            f"{len(self.failed)} failed",
        ]
        return f"{self.study}: {len(self.folders)} runs, {', '.join(parts)}; {self.folders[0].parent}"

    def check(self) -> Outcome:
        """Itself; AtlabError if any run failed."""
        if self.failed:
            name, message = next(iter(self.failed.items()))
            count = f"{len(self.failed)} of {len(self.folders)} runs and what they require"
            raise AtlabError(f"{count} failed; {name}: {message}")
        return self

    def table(self):
        """The finished runs of this grid, one row a run (`runs.table`, without the study's other runs)."""
        from atlab import runs

        table = runs.table(self.folders[0].parent)
        return table[table["id"].isin([folder.name for folder in self.folders])].reset_index(drop=True)


@dataclass(eq=False)
class Node:
    """A task with the nodes that have to be done before it."""

    task: Task
    after: list[Node]
    folder: Path | None = None
    state: str = "waiting"
    tries: int = 0
    not_before: float = 0.0
    started: float = 0.0
    seconds: float = 0.0
    said: str = ""

    @property
    def name(self) -> str:
        return str(self.folder or self.task.name)


def run(
    what: str | Path | Mapping | grid.Grid,
    scale: str = "laptop",
    root: str | Path = "runs",
    workers: int = 2,
    devices: Sequence[str] = (),
    per_device: int = 1,
    scheduler: str = "",
    gpu_share: float = 0.0,
    only: int | None = None,
    progress: bool = True,
    **fixed: Any,
) -> Outcome:
    """Run what is not done of a grid: -> Outcome.

    The grid is a path or a name (`system.home.named`), a mapping as its YAML holds it (see `grid`), or a `Grid`.

    What several runs require (networks of orthogonal tasks) is trained once, before them. A run that fails is reported,
    keeps its executed notebook as far as it came and does not stop the others; one whose process dies is tried three
    times; one that another sweep computes is waited for. Interrupted at any moment, the same call carries on.

    Args:
        workers: processes at once on this machine; on a Dask cluster its workers decide.
        devices: CUDA devices to spread the runs over, `per_device` at once on each.
        scheduler: address of a Dask scheduler, or "local" for a cluster on this machine.
        gpu_share: of a Dask worker's resource GPU that a run takes.
        only: the number of a single run to do, from 0.
        fixed: parameters put over the grid's.
    """
    opened = load(what, scale, **fixed)
    nodes = plan(opened, root, only)
    outcome = Outcome(opened.study, [node.folder for node in nodes if node.folder])
    outcome.done_before = sum(node.state == "done" for node in nodes if node.folder)
    if all(node.state == "done" for node in nodes if node.folder):
        return outcome
    from atlab.runs.progress import view

    start = time.monotonic()
    slots = engines.slots(workers, devices, per_device)
    engine = engines.Dask(scheduler, workers, gpu_share) if scheduler else engines.Local(slots)
    try:
        with view(opened.study, nodes, progress) as show:
            _drive(nodes, engine, outcome, show)
    finally:
        engine.stop()
        outcome.seconds = time.monotonic() - start
    return outcome


def load(what: str | Path | Mapping | grid.Grid, scale: str, **fixed: Any) -> grid.Grid:
    """The grid of a path, a name, a mapping or a Grid."""
    if isinstance(what, grid.Grid):
        if fixed:
            raise AtlabError(
                f"a Grid is complete: {', '.join(fixed)} cannot be put over its parameters; use grid.load"
            )
        return what
    if isinstance(what, Mapping):
        return grid.parse(what, scale, fixed=fixed)
    return grid.load(named(what, ".yaml"), scale, **fixed)


def plan(opened: grid.Grid, root: str | Path, only: int | None = None) -> list[Node]:
    """Every run of the grid as a node, after nodes of what it requires; done runs are marked so."""
    if only is not None and not 0 <= only < len(opened.jobs):
        raise AtlabError(f"run {only} of {opened.study}: allowed are 0 to {len(opened.jobs) - 1}")
    root, notebook = in_home(root).absolute(), opened.notebook
    module, required_by = _requirements(notebook)
    needed: dict[Any, Node] = {}

    def after(of: Any) -> list[Node]:
        return [need(what) for what in required_by(of)]

    def need(what: Any) -> Node:
        if what not in needed:
            before = after(what)
            arguments = (module, what, str(root), opened.study)
            needed[what] = Node(Task(_train_required, arguments, _shown(what)), before)
        return needed[what]

    jobs = []
    folders = notebooks.places(notebook, opened.jobs, root, opened.study)
    for number, (parameters, folder) in enumerate(zip(opened.jobs, folders, strict=True)):
        if only is not None and number != only:
            continue
        node = Node(
            Task(_run_notebook, (notebook, parameters, root, opened.study), f"run {number}"), [], folder
        )
        if (folder / "done").exists():
            node.state = "done"
        else:
            node.after = after(parameters)
        jobs.append(node)
    return [*needed.values(), *jobs]


def _requirements(notebook: Path) -> tuple[str, Callable[[Any], Sequence]]:
    """What knows what the notebook's runs require: a module's name and its function, as the metadata names them.

    `atlab.requires` in the notebook's metadata is "module:function". The function is given a run's parameters, or one of
    the requirements that it returned, and returns a list of requirements (hashable); the module's function
    `train_required(requirement, root, study)` gets one done.
    """
    name = notebooks.metadata(notebook).get("atlab", {}).get("requires", "")
    if not name:
        return "", lambda of: ()
    module, _, function = name.partition(":")
    try:
        return module, getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise AtlabError(
            f"{notebook} names its requirements as {name!r}, which cannot be had: {error}"
        ) from None


def _shown(need: Any) -> str:
    """A requirement for people: of a dataclass what differs from its defaults."""
    if not is_dataclass(need):
        return str(need)
    values = {
        f.name: getattr(need, f.name)
        for f in fields(need)
        if f.default is MISSING or getattr(need, f.name) != f.default
    }
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _train_required(
    module: str, need: Any, root: str, study: str, kernel_manager: type | None = None
) -> None:
    importlib.import_module(module).train_required(need, root, study)


def _run_notebook(
    notebook: Path, parameters: Mapping, root: Path, study: str, kernel_manager: type | None = None
) -> None:
    notebooks.run(notebook, parameters, root=root, study=study, progress=False, kernel_manager=kernel_manager)


def _drive(nodes: list[Node], engine: engines.Local | engines.Dask, outcome: Outcome, show: Callable) -> None:
    """Start what can start, take what ended, until nothing is left."""
    by_task = {id(node.task): node for node in nodes}
    while True:
        for node in nodes:
            lost = [n for n in node.after if n.state == "failed"]
            if node.state == "waiting" and lost:
                _end(node, "failed", f"what it requires failed: {lost[0].said}", outcome)
        now = time.monotonic()
        ready = [
            n
            for n in nodes
            if n.state == "waiting" and n.not_before <= now and all(a.state == "done" for a in n.after)
        ]
        for node in ready[: engine.room()]:
            node.state, node.tries, node.started = "running", node.tries + 1, time.monotonic()
            engine.start(node.task)
        show()
        if not any(node.state in ("waiting", "running") for node in nodes):
            return
        for task, how, said in engine.ended(1.0):
            node = by_task[id(task)]
            if how == "held":
                node.state, node.tries, node.not_before = (
                    "waiting",
                    node.tries - 1,
                    time.monotonic() + HELD_AGAIN,
                )
            elif how == "died" and node.tries < TRIES:
                node.state = "waiting"
            elif how == "died":
                _end(node, "failed", f"tried {TRIES} times; {said} (killed, or out of memory?)", outcome)
            else:
                _end(node, how, said, outcome)


def _end(node: Node, how: str, said: str, outcome: Outcome) -> None:
    node.state, node.said = how, said
    if node.started:
        node.seconds = time.monotonic() - node.started
    if how == "failed":
        outcome.failed[node.name] = said
    elif node.folder:
        outcome.done += 1


def dry_run(
    what: str | Path | Mapping | grid.Grid,
    scale: str = "laptop",
    root: str | Path = "runs",
    workers: int = 2,
    only: int | None = None,
    **fixed: Any,
) -> str:
    """What a sweep would do and about what it costs, as text; a few training steps are timed, no run is begun.

    Every configuration (all parameters but the seeds) is timed once, on as many threads as a worker has. Time is an
    upper bound: early stopping ends sooner. Only what trains by `atlab.experiment`, or by a module that has an
    `estimate_run` of its own, can be estimated.
    """
    from atlab.runs.progress import duration

    opened = load(what, scale, **fixed)
    nodes = plan(opened, root, only)
    jobs = [node for node in nodes if node.folder]
    left = [node.task.arguments[1] for node in jobs if node.state != "done"]
    needs = [node.task.arguments[1] for node in nodes if not node.folder]
    lines = [
        f"{opened.study}: {len(jobs)} runs, {len(jobs) - len(left)} done, {len(left)} to do; {len(needs)} networks required first"
    ]
    if left and (estimate := _estimator(_requirements(opened.notebook)[0])):
        found = _estimates([*(asdict(need) for need in needs), *left], workers, estimate)
        seconds, peak = sum(f["seconds"] for f in found), max(f["peak_bytes"] for f in found)
        lines.append(
            f"at most about {duration(seconds / workers)} with {workers} workers ({duration(seconds)} of training in all)"
        )
        lines.append(
            f"about {peak / 2**30:.2f} GiB a run beyond libraries at most, {workers * peak / 2**30:.2f} GiB at once"
        )
    return "\n".join(lines)


def _estimator(module: str) -> Callable[[Mapping], dict[str, float]] | None:
    """What estimates a run of a notebook whose requirements this module knows; None if nothing does."""
    return getattr(importlib.import_module(module), "estimate_run", None) if module else None


def _estimates(many: list[Mapping], workers: int, estimate: Callable) -> list[dict[str, float]]:
    """`estimate` of each, once for all that differ in seeds only."""
    import torch
    from tqdm.auto import tqdm

    def key(parameters: Mapping) -> str:
        return repr(sorted((k, v) for k, v in parameters.items() if not k.endswith("seed")))

    threads, known = torch.get_num_threads(), {}
    torch.set_num_threads(max(1, engines.cores() // workers))
    try:
        for parameters in tqdm(
            {key(p): p for p in many}.values(), desc="timing steps", unit="configuration", leave=False
        ):
            known[key(parameters)] = estimate(parameters)
    finally:
        torch.set_num_threads(threads)
    return [known[key(parameters)] for parameters in many]


def sbatch(
    what: str | Path,
    scale: str = "laptop",
    root: str | Path = "runs",
    parameters: Sequence[str] = (),
    **fixed: Any,
) -> str:
    """One line that runs the grid as a Slurm job array, a task a run, for sites without a scheduler of Dask's.

    What runs require is trained by the first task that needs it, the others wait. `parameters` are "NAME=VALUE" texts for
    the line, `fixed` the same as values.
    """
    count = len(load(what, scale, **fixed).jobs)
    given = [word for text in parameters for word in ("-p", text)]
    words = [
        "atlab",
        "sweep",
        str(what),
        "--scale",
        scale,
        "--root",
        str(root),
        "--workers",
        "1",
        *given,
        "--only",
    ]
    command = f'{shlex.join(words)} "$SLURM_ARRAY_TASK_ID"'  # for the task's shell to fill in, not the one that submits
    return f"sbatch --array=0-{count - 1} --wrap {shlex.quote(command)}"
