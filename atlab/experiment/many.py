"""Many runs side by side."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from atlab.data.catalog import load_data
from atlab.experiment.settings import Settings
from atlab.experiment.skeleton import NETWORKS, train
from atlab.labels import shown
from atlab.system.processes import pool as workers_pool


def train_many(
    settings: Iterable[Settings],
    root: str | Path = "runs",
    study: str = "train",
    workers: int = 2,
    device: str = "auto",
) -> pd.DataFrame:
    """Train all settings in parallel processes, one thread each; done ones are only read: -> table of their runs.

    What the strategies require is trained first, each once. A progress bar counts runs and shows the time left.
    """
    from tqdm.auto import tqdm

    wanted = list(settings)
    load_data(wanted[0].data)  # rendered here once, with all cores, before workers ask for it
    stages = _stages(wanted)
    rows = {}
    with tqdm(total=sum(map(len, stages)), desc=study, unit="run") as bar, workers_pool(workers, _one_thread) as pool:
        for stage in stages:
            jobs = {pool.submit(_job, s, str(root), study if s in wanted else NETWORKS, device): s for s in stage}
            try:
                for job in as_completed(jobs):
                    values = {name: shown(value) for name, value in asdict(jobs[job]).items()}
                    rows[jobs[job]] = values | job.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return pd.DataFrame([rows[s] for s in wanted])


def _stages(wanted: list[Settings]) -> list[list[Settings]]:
    """Everything to train, in stages: what requires nothing (baselines fill the workers beside teachers), then the rest."""
    depth: dict[Settings, int] = {}

    def put(s: Settings) -> int:
        depth[s] = 1 + max((put(need) for need in s.required()), default=-1)
        return depth[s]

    for s in wanted:
        put(s)
    return [[s for s in depth if depth[s] == d] for d in sorted(set(depth.values()))]


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _job(settings: Settings, root: str, study: str, device: str) -> dict:
    run = train(settings, root, study, progress=False, device=device)
    return {"run": str(run.path), **run.result()}
