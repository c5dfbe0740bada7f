"""What a sweep would do and cost, without doing it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atlab.runs import grid, jobs, precision
from atlab.runs.progress import duration
from atlab.runs.requirements import requirements


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
    bound: early stopping ends sooner. Where precision is planned, both the pilot and the maximum are given. Only what trains
    by `atlab.experiment`, or by a module that has an `estimate_run` of its own, can be estimated.
    """
    opened = jobs.load(what, scale, **fixed)
    module, _, remarks = requirements(opened.notebook)
    lines: list[str] = []
    for title, numbers in _extents(opened, only):
        nodes = jobs.plan(opened, root, numbers)
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
        return [(f"{opened.study}: ", jobs.numbers(opened, only))]
    pilot = jobs.between(opened, 0, opened.plan.look_every)
    left = precision.dropped(opened.plan, {contrast: contrast.arms[0] for contrast in opened.plan.primary})
    most = [*pilot, *jobs.between(opened, opened.plan.look_every, opened.plan.at_most, left)]
    return [
        (f"{opened.study}, pilot of {opened.plan.look_every} repetitions: ", pilot),
        (f"{opened.study}, at most {opened.plan.at_most} repetitions: ", most),
    ]


def _cost(found: list[dict[str, float]], workers: int) -> list[str]:
    """Time and memory of runs, for people."""
    seconds, peak = sum(f["seconds"] for f in found), max(f["peak_bytes"] for f in found)
    return [
        f"at most about {duration(seconds / workers)} with {workers} workers ({duration(seconds)} of training in all)",
        f"about {peak / 2**30:.2f} GiB per run beyond libraries at most, {workers * peak / 2**30:.2f} GiB at once",
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
