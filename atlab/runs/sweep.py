"""Sweeps: every unfinished run of a grid, side by side, after the networks that they share."""

from __future__ import annotations

import queue
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask.distributed import Client, Future, KilledWorker

from atlab.errors import AtlabError
from atlab.runs import engines, grid, jobs, precision
from atlab.system.home import in_home

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
    """Run what is missing from a grid: -> Outcome.

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
        fixed: parameters that override the grid's.
    """
    from atlab.runs.progress import view

    opened = jobs.load(what, scale, **fixed)
    outcome = Outcome(opened.study, in_home(root).absolute() / opened.study)
    start, slots = time.monotonic(), engines.slots(workers, devices, per_device)
    for numbers in _parts(opened, only, outcome):
        if progress and outcome.looks:
            print(outcome.looks[-1], file=sys.stderr)
        nodes = jobs.plan(opened, root, numbers)
        wanted = [node for node in nodes if node.folder]
        outcome.folders += [node.folder for node in wanted]
        outcome.done_before += sum(node.state == "done" for node in wanted)
        if all(node.state == "done" for node in wanted):
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
    everything = jobs.numbers(opened, only)
    if opened.plan is None:
        yield everything
        return
    places = [node.folder for node in jobs.plan(opened, outcome.folder.parent) if node.folder]
    folders = {arm: [at for at, of in zip(places, opened.arms, strict=True) if of == arm] for arm in opened.plan.arms()}
    precision.record(opened.plan, outcome.folder, folders)
    if only is not None:
        yield everything
        return
    first, left = 0, set()
    for count in opened.plan.counts():
        yield jobs.between(opened, first, count, left)
        if outcome.failed:
            outcome.looks.append(f"no look at {count} repetitions: some of their runs have failed")
            return
        seen = precision.look(opened.plan, count, *precision.scores(folders))
        outcome.looks.append(precision.sentence(opened.plan, seen))
        if seen.enough:
            return
        first, left = count, precision.dropped(opened.plan, seen.chosen)


def _drive(nodes: list[jobs.Node], client: Client, outcome: Outcome, show: Callable) -> None:
    """Keep every worker busy with what can start, take what ended, until nothing is left."""
    running: dict[Future, jobs.Node] = {}
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


def _can_start(node: jobs.Node) -> bool:
    free = node.state == "waiting" or (node.state == "held" and time.monotonic() > node.ended + HELD_AGAIN)
    return free and all(other.state == "done" for other in node.after)


def _end(node: jobs.Node, how: engines.Ended, outcome: Outcome) -> None:
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


def sbatch(
    what: str | Path, scale: str = "laptop", root: str | Path = "runs", parameters: Sequence[str] = (), **fixed: Any
) -> str:
    """One line that runs the grid as a Slurm job array, one task per run, for sites without a scheduler of Dask's.

    What runs require is trained by the first task that needs it, the others wait. `parameters` are "NAME=VALUE" texts for
    the line, `fixed` the same as values. Tasks of an array cannot look at each other: planned repetitions are all run.
    """
    count = len(jobs.load(what, scale, **fixed).jobs)
    given = [word for text in parameters for word in ("-p", text)]
    words = ["atlab", "sweep", str(what), "--scale", scale, "--root", str(root), "--workers", "1", *given, "--only"]
    command = f'{shlex.join(words)} "$SLURM_ARRAY_TASK_ID"'  # for the task's shell to fill in, not the one that submits
    return f"sbatch --array=0-{count - 1} --wrap {shlex.quote(command)}"
