"""Sweeps: every run of a grid that is not done, side by side, after the networks that they share."""

from __future__ import annotations

import importlib
import queue
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from dask.distributed import Client, Future, KilledWorker

from atlab.errors import AtlabError
from atlab.labels import shown
from atlab.runs import engines, grid, notebooks, precision
from atlab.runs.folder import is_done
from atlab.runs.requirements import requirements
from atlab.system.home import in_home, named

HELD_AGAIN = 2.0  # seconds until a run that another process holds is looked at again


@dataclass
class Outcome:
    """What became of a sweep's runs; `failed` holds the message of each failed one by its name, `looks` what was seen of a plan."""

    study: str
    folder: Path
    folders: list[Path] = field(default_factory=list)
    done_before: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    looks: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for people, and one for every look at planned differences."""
        from atlab.runs.progress import duration

        parts = [
            f"{self.done} done in {duration(self.seconds)}",
            f"{self.done_before} done before",
            f"{len(self.failed)} failed",
        ]
        line = f"{self.study}: {len(self.folders)} runs, {', '.join(parts)}; {self.folder}"
        return "\n".join([line, *self.looks])

    def check(self) -> Outcome:
        """Itself; AtlabError if any run failed."""
        if self.failed:
            name, message = next(iter(self.failed.items()))
            count = f"{len(self.failed)} of {len(self.folders)} runs and what they require"
            raise AtlabError(f"{count} failed; {name}: {message}")
        return self

    def table(self):
        """The finished runs of this grid, one row per run (`runs.table`, without the study's other runs)."""
        from atlab import runs

        table = runs.table(self.folder)
        return table[table["id"].isin([folder.name for folder in self.folders])].reset_index(drop=True)


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


def run(
    what: str | Path | Mapping | grid.Grid,
    scale: str = "laptop",
    root: str | Path = "runs",
    workers: int = 2,
    devices: Sequence[str] = (),
    per_device: int = 1,
    scheduler: str = "",
    trust_network: bool = False,
    only: int | None = None,
    progress: bool = True,
    **fixed: Any,
) -> Outcome:
    """Run what is not done of a grid: -> Outcome.

    The grid is a path or a name (`system.home.named`), a mapping as its YAML holds it (see `grid`), or a `Grid`.

    Where the grid plans its precision (`precision`), the pilot is run, then as many repetitions as its primary differences need,
    from look to look; what was planned is written into the study's folder first.

    What several runs require (networks of orthogonal tasks) is trained once, before them. A run that fails is reported,
    keeps its executed notebook as far as it came and does not stop the others; one whose process dies is tried three
    times; one that another sweep computes is waited for. Interrupted at any moment, the same call carries on.

    Args:
        workers: runs at once on this machine, each on one thread.
        devices: CUDA devices to spread the runs over, `per_device` at once on each.
        scheduler: address of a Dask scheduler elsewhere, whose workers then do the runs; see `engines.connect`.
        trust_network: use a scheduler that is not protected by TLS.
        only: the number of a single run to do, from 0.
        fixed: parameters put over the grid's.
    """
    from atlab.runs.progress import view

    opened = load(what, scale, **fixed)
    outcome = Outcome(opened.study, in_home(root).absolute() / opened.study)
    start, slots = time.monotonic(), engines.slots(workers, devices, per_device)
    for numbers in _parts(opened, only, outcome):
        if progress and outcome.looks:
            print(outcome.looks[-1], file=sys.stderr)
        nodes = plan(opened, root, numbers)
        jobs = [node for node in nodes if node.folder]
        outcome.folders += [node.folder for node in jobs]
        outcome.done_before += sum(node.state == "done" for node in jobs)
        if all(node.state == "done" for node in jobs):
            continue
        with view(opened.study, nodes, progress) as show, engines.connect(slots, scheduler, trust_network) as client:
            try:
                _drive(nodes, client, outcome, show)
            finally:
                outcome.seconds = time.monotonic() - start
    return outcome


def _parts(opened: grid.Grid, only: int | None, outcome: Outcome) -> Iterator[Sequence[int]]:
    """The numbers of the runs to do: all of them, or where precision is planned from look to look until it is enough.

    A look takes every run of its arms: if one has failed, the sweep ends there.
    """
    everything = _numbers(opened, only)
    if opened.plan is None:
        yield everything
        return
    jobs = [node.folder for node in plan(opened, outcome.folder.parent) if node.folder]
    folders = {arm: [job for job, of in zip(jobs, opened.arms, strict=True) if of == arm] for arm in opened.plan.arms()}
    precision.record(opened.plan, outcome.folder, folders)
    if only is not None:
        yield everything
        return
    first, left = 0, set()
    for count in opened.plan.counts():
        yield _between(opened, first, count, left)
        if outcome.failed:
            outcome.looks.append(f"no look at {count} repetitions: runs of them have failed")
            return
        seen = precision.look(opened.plan, count, *precision.scores(folders))
        outcome.looks.append(precision.sentence(opened.plan, seen))
        if seen.enough:
            return
        first, left = count, precision.dropped(opened.plan, seen.chosen)


def _numbers(opened: grid.Grid, only: int | None) -> Sequence[int]:
    """The numbers of all runs, or the one that is asked for."""
    if only is not None and not 0 <= only < len(opened.jobs):
        raise AtlabError(f"run {only} of {opened.study}: allowed are 0 to {len(opened.jobs) - 1}")
    return range(len(opened.jobs)) if only is None else [only]


def _between(opened: grid.Grid, first: int, end: int, left: Collection[str] = ()) -> list[int]:
    """The numbers of the runs of the repetitions first to end - 1 of a plan, without the arms that are left out."""
    jobs = zip(opened.jobs, opened.arms, strict=True)
    return [number for number, (job, arm) in enumerate(jobs) if first <= job["seed"] < end and arm not in left]


def load(what: str | Path | Mapping | grid.Grid, scale: str, **fixed: Any) -> grid.Grid:
    """The grid of a path, a name, a mapping or a Grid."""
    if isinstance(what, grid.Grid):
        if fixed:
            raise AtlabError(f"a Grid is complete: {', '.join(fixed)} cannot be put over its parameters; use grid.load")
        return what
    if isinstance(what, Mapping):
        return grid.parse(what, scale, fixed=fixed)
    return grid.load(named(what, ".yaml"), scale, **fixed)


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
            needed[what] = Node(_shown(what), _train_required, (module, what, str(root), opened.study), before)
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


def _shown(need: Any) -> str:
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


def _drive(nodes: list[Node], client: Client, outcome: Outcome, show: Callable) -> None:
    """Keep every worker busy with what can start, take what ended, until nothing is left."""
    running: dict[Future, Node] = {}
    ended: queue.Queue[Future] = queue.Queue()
    while True:
        for node in nodes:
            lost = [n for n in node.after if n.state == "failed"]
            if node.state == "waiting" and lost:
                _end(node, engines.Ended("failed", f"what it requires failed: {lost[0].said}"), outcome)
        ready = [node for node in nodes if _can_start(node)]
        for node in ready[: max(0, _workers(client) - len(running))]:
            future = client.submit(engines.work, node.function, node.arguments, pure=False)
            node.state, running[future] = "running", node
            future.add_done_callback(ended.put)
        show()
        if all(node.state in ("done", "failed") for node in nodes):
            return
        for future in _taken(ended):
            _end(running.pop(future), _outcome(future), outcome)


def _can_start(node: Node) -> bool:
    free = node.state == "waiting" or (node.state == "held" and time.monotonic() > node.ended + HELD_AGAIN)
    return free and all(other.state == "done" for other in node.after)


def _end(node: Node, how: engines.Ended, outcome: Outcome) -> None:
    node.state, node.said, node.seconds, node.ended = *how, time.monotonic()
    if node.state == "failed":
        outcome.failed[node.name] = node.said
    elif node.state == "done" and node.folder:
        outcome.done += 1


def _workers(client: Client) -> int:
    try:
        if client.status != "running":
            raise _gone()
        return engines.workers(client)
    except OSError:
        raise _gone() from None


def _taken(ended: queue.Queue) -> list[Future]:
    """The futures that ended, after waiting at most a second for one."""
    found = []
    try:
        found.append(ended.get(timeout=1.0))
        while True:
            found.append(ended.get_nowait())
    except queue.Empty:
        return found


def _gone() -> AtlabError:
    return AtlabError("the Dask scheduler is gone; what is done is kept, the same sweep carries on with another one")


def _outcome(future: Future) -> engines.Ended:
    if future.status == "finished":
        return future.result()
    if future.status != "error":
        raise _gone()
    error = future.exception()
    if isinstance(error, KilledWorker):
        return engines.Ended("failed", engines.given_up("its process died (killed, or out of memory?)"))
    return engines.Ended("failed", f"{type(error).__name__}: {error}")


def dry_run(
    what: str | Path | Mapping | grid.Grid,
    scale: str = "laptop",
    root: str | Path = "runs",
    workers: int = 2,
    only: int | None = None,
    **fixed: Any,
) -> str:
    """What a sweep would do and about what it costs, as text; a few training steps are timed, no run is begun.

    Every configuration (all parameters but the seeds) is timed once, on one thread as in a run. Time is an upper
    bound: early stopping ends sooner. Where precision is planned, both the pilot and the most are said. Only what trains
    by `atlab.experiment`, or by a module that has an `estimate_run` of its own, can be estimated.
    """
    opened = load(what, scale, **fixed)
    module, _, remarks = requirements(opened.notebook)
    lines: list[str] = []
    for title, numbers in _extents(opened, only):
        nodes = plan(opened, root, numbers)
        left = [node.arguments[1] for node in nodes if node.folder and node.state != "done"]
        needs = [node.arguments[1] for node in nodes if not node.folder]
        done = len(numbers) - len(left)
        lines.append(
            f"{title}{len(numbers)} runs, {done} done, {len(left)} to do; {len(needs)} networks required first"
        )
        lines += dict.fromkeys(remark for parameters in left for remark in remarks(parameters) if remark not in lines)
        if left and (estimate := _estimator(module)):
            lines += _cost(_estimates([*(asdict(need) for need in needs), *left], estimate), workers)
    return "\n".join(lines)


def _extents(opened: grid.Grid, only: int | None) -> list[tuple[str, Sequence[int]]]:
    """The least and the most that a sweep runs, with a title: the pilot and all repetitions of a plan, else the grid."""
    if opened.plan is None or only is not None:
        return [(f"{opened.study}: ", _numbers(opened, only))]
    pilot = _between(opened, 0, opened.plan.look_every)
    left = precision.dropped(opened.plan, {contrast: contrast.arms[0] for contrast in opened.plan.primary})
    most = [*pilot, *_between(opened, opened.plan.look_every, opened.plan.at_most, left)]
    return [
        (f"{opened.study}, pilot of {opened.plan.look_every} repetitions: ", pilot),
        (f"{opened.study}, at most {opened.plan.at_most} repetitions: ", most),
    ]


def _cost(found: list[dict[str, float]], workers: int) -> list[str]:
    """Time and memory of runs, for people."""
    from atlab.runs.progress import duration

    seconds, peak = sum(f["seconds"] for f in found), max(f["peak_bytes"] for f in found)
    return [
        f"at most about {duration(seconds / workers)} with {workers} workers ({duration(seconds)} of training in all)",
        f"about {peak / 2**30:.2f} GiB a run beyond libraries at most, {workers * peak / 2**30:.2f} GiB at once",
    ]


def _estimator(module: str) -> Callable[[Mapping], dict[str, float]] | None:
    """What estimates a run of a notebook whose requirements this module knows; None if nothing does."""
    return getattr(importlib.import_module(module), "estimate_run", None) if module else None


def _estimates(many: list[Mapping], estimate: Callable) -> list[dict[str, float]]:
    """`estimate` of each, once for all that differ in seeds only."""
    from tqdm.auto import tqdm

    def key(parameters: Mapping) -> str:
        return repr(sorted((k, v) for k, v in parameters.items() if not k.endswith("seed")))

    different = {key(parameters): parameters for parameters in many}
    bar = tqdm(different.items(), desc="timing steps", unit="configuration", leave=False)
    known = {name: estimate(parameters) for name, parameters in bar}
    return [known[key(parameters)] for parameters in many]


def sbatch(
    what: str | Path, scale: str = "laptop", root: str | Path = "runs", parameters: Sequence[str] = (), **fixed: Any
) -> str:
    """One line that runs the grid as a Slurm job array, one task per run, for sites without a scheduler of Dask's.

    What runs require is trained by the first task that needs it, the others wait. `parameters` are "NAME=VALUE" texts for
    the line, `fixed` the same as values. Tasks of an array cannot look at each other: planned repetitions are all run.
    """
    count = len(load(what, scale, **fixed).jobs)
    given = [word for text in parameters for word in ("-p", text)]
    words = ["atlab", "sweep", str(what), "--scale", scale, "--root", str(root), "--workers", "1", *given, "--only"]
    command = f'{shlex.join(words)} "$SLURM_ARRAY_TASK_ID"'  # for the task's shell to fill in, not the one that submits
    return f"sbatch --array=0-{count - 1} --wrap {shlex.quote(command)}"
