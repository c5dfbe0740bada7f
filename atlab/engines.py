"""Where the tasks of a sweep run: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple

from atlab import forked
from atlab.errors import AtlabError


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

    >>> slots(8, ["0", "1"], per_device=2)[1:3]
    [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '1'}]
    """
    if workers < 1 or per_device < 1:
        raise AtlabError(f"a sweep needs at least one worker (a device), found {workers} and {per_device}")
    return [{"CUDA_VISIBLE_DEVICES": device} for device in devices for _ in range(per_device)] or [{}] * workers


class Local:
    """One short-lived process a task, as many at once as there are slots; each ends with this process."""

    def __init__(self, slots: Sequence[dict[str, str]]) -> None:
        self._context, self._free = forked.context(), list(slots)
        self._running: dict[connection.Connection, tuple[Task, Any, dict[str, str]]] = {}
        # Several workers of several threads each are slower than of one.
        self._threads = max(1, (os.cpu_count() or 1) // len(slots))

    def room(self) -> int:
        """How many more tasks can start now."""
        return len(self._free)

    def start(self, task: Task) -> None:
        environment = self._free.pop()
        receiver, sender = self._context.Pipe(duplex=False)
        arguments = (task.function, task.arguments, environment, self._threads, sender)
        process = self._context.Process(target=forked.work, args=arguments, name=task.name)
        process.start()
        sender.close()
        self._running[receiver] = task, process, environment

    def ended(self, seconds: float) -> list[Ended]:
        """The tasks that ended, after waiting for one at most so long."""
        found = []
        for receiver in connection.wait(list(self._running), seconds):
            task, process, environment = self._running.pop(receiver)
            try:
                how, said = receiver.recv()
            except EOFError:
                process.join()
                how, said = "died", f"its process ended with code {process.exitcode}"
            process.join()
            receiver.close()
            self._free.append(environment)
            found.append(Ended(task, how, said))
        return found

    def stop(self) -> None:
        """End what is running; unfinished runs stay resumable."""
        for _, process, _ in self._running.values():
            process.kill()
        for _, process, _ in self._running.values():
            process.join()
        self._running.clear()


class Dask:
    """Tasks on a Dask cluster: at `address`, or "local" for one on this machine's loopback.

    A cluster under Slurm, for instance, with one GPU a worker (run this on the login node, then `atlab sweep
    --scheduler` with the printed address):

        from dask_jobqueue import SLURMCluster
        cluster = SLURMCluster(cores=4, memory="16GB", job_extra_directives=["--gres=gpu:1"])
        cluster.scale(jobs=8)
        print(cluster.scheduler_address)

    A worker that is told `--resources GPU=1` takes 1 / share tasks at once with `gpu_share`. Every worker must see
    `root` under the same path.
    """

    def __init__(self, address: str, workers: int, gpu_share: float = 0.0) -> None:
        import dask
        from dask.distributed import Client, LocalCluster

        self._cluster = None
        if address == "local":
            # A daemonic worker could not start the processes of its jobs.
            dask.config.set({"distributed.worker.daemon": False})
            self._cluster = LocalCluster(workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
        try:
            self._client = Client(self._cluster or address, timeout="10s")
        except (OSError, ValueError, TimeoutError) as error:
            raise AtlabError(f"no Dask scheduler answers at {address!r}: {error}") from None
        self._resources = {"GPU": gpu_share} if gpu_share else None
        self._ended: queue.Queue = queue.Queue()
        self._running: dict[Any, Task] = {}
        self._workers = workers

    def room(self) -> int:
        """How many more tasks may be handed over: two a worker thread, so that none waits for this process."""
        threads = sum(worker["nthreads"] for worker in self._client.scheduler_info(n_workers=-1)["workers"].values())
        return max(0, 2 * max(1, threads) - len(self._running))

    def start(self, task: Task) -> None:
        future = self._client.submit(
            _on_worker, task.function, task.arguments, pure=False, resources=self._resources, retries=2
        )
        self._running[future] = task
        future.add_done_callback(self._ended.put)

    def ended(self, seconds: float) -> list[Ended]:
        """The tasks that ended, after waiting for one at most so long."""
        try:
            futures = [self._ended.get(timeout=seconds)]
        except queue.Empty:
            if self._client.status != "running":
                raise AtlabError("the Dask scheduler is gone; what is done is kept, start the sweep again") from None
            return []
        while not self._ended.empty():
            futures.append(self._ended.get())
        return [Ended(self._running.pop(future), *_outcome(future)) for future in futures if future in self._running]

    def stop(self) -> None:
        """Give up what is running and let go of the cluster."""
        self._client.cancel(list(self._running), force=True)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _outcome(future: Any) -> tuple[str, str]:
    if future.status != "finished":
        return "died", f"its Dask worker was lost ({future.status})"
    return future.result()


def _on_worker(function: Callable[..., None], arguments: tuple) -> tuple[str, str]:
    """One task on a Dask worker: forked where the worker may start processes, else in the worker itself."""
    import multiprocessing

    if not multiprocessing.current_process().daemon:
        engine = Local([{}])
        try:
            engine.start(Task(function, arguments, ""))
            ended: list[Ended] = []
            while not ended:
                ended = engine.ended(60)
        finally:
            engine.stop()
        return ended[0].how, ended[0].said
    from atlab.runs import Held

    try:
        function(*arguments, kernel_manager=None)
        return "done", ""
    except Held as error:
        return "held", str(error)
    except AtlabError as error:
        return "failed", str(error)
