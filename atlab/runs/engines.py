"""Where the tasks of a sweep run: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple

from atlab.errors import AtlabError
from atlab.runs import forkserver


class Task(NamedTuple):
    """A picklable function, called with `arguments` and kernel_manager=..., and a name for people."""

    function: Callable[..., None]
    arguments: tuple
    name: str


class Ended(NamedTuple):
    """How a task ended: "done", "failed", "held" by another process, or "died" without a word."""

    task: Task
    how: str
    said: str


def slots(workers: int, devices: Sequence[str] = (), per_device: int = 1) -> list[dict[str, str]]:
    """The environment of each slot: `per_device` slots a CUDA device, or `workers` slots of the CPU.

    AtlabError for a device that PyTorch does not see; names other than numbers (MIG-...) are taken as they are.

    >>> slots(8, ["MIG-a", "MIG-b"], per_device=2)[1:3]
    [{'CUDA_VISIBLE_DEVICES': 'MIG-a'}, {'CUDA_VISIBLE_DEVICES': 'MIG-b'}]
    """
    if workers < 1 or per_device < 1:
        raise AtlabError(f"a sweep needs at least one worker (a device), found {workers} and {per_device}")
    for device in devices:
        if device.isdigit():
            _check_device(int(device))
    return [{"CUDA_VISIBLE_DEVICES": device} for device in devices for _ in range(per_device)] or [
        {}
    ] * workers


def _check_device(number: int) -> None:
    import torch

    count = torch.cuda.device_count()
    if number >= count:
        allowed = f"0 to {count - 1}" if count else "none, PyTorch sees no CUDA device here"
        raise AtlabError(f"CUDA device {number} is not there; allowed: {allowed}")


class Local:
    """One short-lived process a task, as many at once as there are slots; each ends with this process.

    Every slot has its share of the cores as threads: several workers of several threads each are slower.
    """

    def __init__(self, slots: Sequence[dict[str, str]], threads: int = 0) -> None:
        self._free = list(slots)
        self._running: dict[connection.Connection, tuple[Task, Any, dict[str, str]]] = {}
        self._threads = threads or max(1, cores() // len(slots))

    def room(self) -> int:
        """How many more tasks can start now."""
        return len(self._free)

    def start(self, task: Task) -> None:
        environment = self._free.pop()
        arguments = task.function, task.arguments, environment, self._threads
        process, answer = forkserver.start(arguments, task.name)
        self._running[answer] = task, process, environment

    def ended(self, seconds: float) -> list[Ended]:
        """The tasks that ended, after waiting for one at most so long."""
        found = []
        for answer in connection.wait(list(self._running), seconds):
            task, process, environment = self._running.pop(answer)
            how, said = _answer(answer)
            process.join()
            how, said = (how, said) if how else ("died", f"its process ended with code {process.exitcode}")
            answer.close()
            self._free.append(environment)
            found.append(Ended(task, how, said))
        return found

    def stop(self) -> None:
        """End what is running, with its kernels; unfinished runs stay resumable."""
        for _, process, _ in self._running.values():
            process.kill()
        for answer, (_, process, _) in self._running.items():
            process.join()
            while answer.poll(10) and _answer(answer)[0]:  # ends with the kernel
                pass
        self._running.clear()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _answer(answer: connection.Connection) -> tuple[str, str]:
    try:
        return answer.recv()
    except (EOFError, OSError):
        return "", ""


class Dask:
    """Tasks on a Dask cluster: at `address`, or "local" for one on this machine's loopback.

    A cluster under Slurm, for instance, one GPU and four tasks at once a worker (leave this running on the login node
    and give the printed address to `atlab sweep --scheduler`, with `--gpu-share 0.25`):

        from dask_jobqueue import SLURMCluster
        cluster = SLURMCluster(
            cores=4, processes=1, memory="32GB", walltime="08:00:00",
            job_extra_directives=["--gres=gpu:1"], worker_extra_args=["--resources GPU=1"],
        )
        cluster.scale(jobs=8)
        print(cluster.scheduler_address)

    A task takes one worker thread, and `gpu_share` of the worker's resource GPU if that is given. Every worker must see
    the notebook and `root` under the same paths, and have this atlab installed. A task that is given up (Ctrl-C, a
    killed sweep, a lost scheduler) ends on its worker too.
    """

    def __init__(self, address: str, workers: int, gpu_share: float = 0.0) -> None:
        from dask.distributed import Client, LocalCluster

        self._cluster = None
        if address == "local":
            self._cluster = LocalCluster(
                workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
            )
        try:
            self._client = Client(self._cluster or address, timeout="10s")
        except (OSError, ValueError, TimeoutError) as error:
            raise AtlabError(f"no Dask scheduler answers at {address!r}: {error}") from None
        self._resources = {"GPU": gpu_share} if gpu_share else None
        self._ended: queue.Queue = queue.Queue()
        self._running: dict[Any, Task] = {}

    def room(self) -> int:
        """How many more tasks may be handed over: two a worker thread, so that none waits for this process."""
        self._check()
        threads = sum(
            worker["nthreads"] for worker in self._client.scheduler_info(n_workers=-1)["workers"].values()
        )
        return max(0, 2 * max(1, threads) - len(self._running))

    def start(self, task: Task) -> None:
        future = self._client.submit(
            _on_worker, task.function, task.arguments, pure=False, resources=self._resources
        )
        self._running[future] = task
        future.add_done_callback(self._ended.put)

    def ended(self, seconds: float) -> list[Ended]:
        """The tasks that ended, after waiting for one at most so long; AtlabError if the scheduler is gone."""
        futures = []
        try:
            futures.append(self._ended.get(timeout=seconds))
            while True:
                futures.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        self._check()
        return [Ended(self._running.pop(future), *_outcome(future)) for future in futures]

    def _check(self) -> None:
        if self._client.status != "running":
            raise AtlabError(
                "the Dask scheduler is gone; what is done is kept, the same sweep carries on with another one"
            )

    def stop(self) -> None:
        """Give up what is running and let go of the cluster."""
        if self._client.status == "running":
            self._client.cancel(list(self._running), force=True)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _outcome(future: Any) -> tuple[str, str]:
    if future.status == "finished":
        return future.result()
    if future.status == "error":
        from dask.distributed import KilledWorker

        error = future.exception()
        return "died" if isinstance(error, KilledWorker) else "failed", f"{type(error).__name__}: {error}"
    return "died", f"its Dask worker was lost ({future.status})"


def _on_worker(function: Callable[..., None], arguments: tuple) -> tuple[str, str]:
    """One task on a Dask worker, in a process forked there, as long as somebody waits for it."""
    from dask.distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    engine = Local([{}], threads=1)
    try:
        engine.start(Task(function, arguments, str(key)))
        while not (ended := engine.ended(1.0)):
            task = worker.state.tasks.get(key)
            lost = worker.status.name in ("closing", "closed", "failed")  # with its scheduler, for instance
            if lost or task is None or task.state == "cancelled":
                return "died", "it was given up"
        return ended[0].how, ended[0].said
    finally:
        engine.stop()
