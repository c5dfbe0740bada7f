"""Where the jobs of a sweep run: on Dask workers, of this machine or of a cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import dask
from dask.distributed import Client, Nanny, Scheduler, SpecCluster, Worker, get_worker
from distributed.security import Security

from atlab.errors import AtlabError
from atlab.runs import forked
from atlab.system.files import Held
from atlab.system.processes import hidden_main

TRIES = 3
QUIET = 60  # above every level that Dask logs at
LOOK = 0.5  # seconds between two looks at whether a job is still wanted


class Ended(NamedTuple):
    """How a job ended: "done", "failed", or "held" by another process; what was said, and the seconds it took."""

    how: str
    said: str = ""
    seconds: float = 0.0


def slots(workers: int, devices: Sequence[str] = (), per_device: int = 1) -> list[dict[str, str]]:
    """The environment of each worker: `per_device` workers per CUDA device, or `workers` of them on the CPU.

    AtlabError for a device that PyTorch does not see; names other than numbers (MIG-...) are taken as they are.

    >>> slots(8, ["MIG-a", "MIG-b"], per_device=2)[1:3]
    [{'CUDA_VISIBLE_DEVICES': 'MIG-a'}, {'CUDA_VISIBLE_DEVICES': 'MIG-b'}]
    """
    if workers < 1 or per_device < 1:
        raise AtlabError(f"expected at least one worker, and one per device; got {workers} and {per_device}")
    for number in filter(str.isdigit, devices):
        from atlab.system import devices as known  # imports torch

        known.choose(f"cuda:{number}")
    return [{"CUDA_VISIBLE_DEVICES": device} for device in devices for _ in range(per_device)] or [{}] * workers


class _Unobserved:
    """A scheduler or worker without the web server that Dask starts even where no dashboard is asked for."""

    def start_http_server(self, *_: object, **__: object) -> None:
        pass


class _Scheduler(_Unobserved, Scheduler):
    pass


class _Worker(_Unobserved, Worker):
    pass


@contextmanager
def connect(slots: Sequence[dict[str, str]], scheduler: str = "", trust_network: bool = False) -> Iterator[Client]:
    """A Dask client: of new workers on this machine, one per slot, or of the scheduler at an address.

    The workers of this machine are processes with one thread each. They listen on the loopback interface only, talk TLS
    with a certificate made for this one sweep, are started again if they are killed, and end with this process.

    A scheduler elsewhere is reached by tls://, with the certificates that Dask's configuration names
    (distributed.comm.tls). By tcp:// anyone who reaches its port can run code on every worker and on this machine: that
    is refused unless `trust_network` says that nobody else does. Its workers need one thread each, a nanny, the notebook and the
    runs under the same paths, this atlab, and `distributed.worker.daemon: false` where kernels start processes; with the
    environment of `forked.ENVIRONMENT` their kernels start faster. Under Slurm, say:

        from dask_jobqueue import SLURMCluster
        cluster = SLURMCluster(
            cores=4, processes=4, memory="32GB", walltime="08:00:00", protocol="tls://",
            job_extra_directives=["--gres=gpu:1"],
            job_script_prologue=[
                "export DASK_DISTRIBUTED__WORKER__DAEMON=False",
                "export JUPYTER_DEFAULT_PROVISIONER_NAME=atlab-forked OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1",
            ],
        )
        cluster.scale(jobs=8)
        print(cluster.scheduler_address)

    Raises:
        AtlabError: no scheduler answers, or its security is not stated.
    """
    with _foreign(scheduler, trust_network) if scheduler else _local(slots) as client:
        yield client


@contextmanager
def _local(slots: Sequence[dict[str, str]]) -> Iterator[Client]:
    security, host = Security.temporary(), {"host": "127.0.0.1", "protocol": "tls://"}
    options = {
        **host,
        "nthreads": 1,
        "memory_limit": 0,
        "worker_class": _Worker,
        "silence_logs": QUIET,
        "security": security,
    }
    workers = {
        i: {"cls": Nanny, "options": {**options, "env": forked.ENVIRONMENT | slot}} for i, slot in enumerate(slots)
    }
    settings = {
        "distributed.worker.daemon": False,  # a job may start processes of its own
        "distributed.scheduler.allowed-failures": TRIES - 1,
        # Dask looks at its own event loops and samples its workers' stacks 50 to 100 times a second.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.tick.limit": "10s",
        "distributed.admin.system-monitor.interval": "10s",
    }
    with dask.config.set(settings), hidden_main():
        with _interrupts_blocked():
            cluster = SpecCluster(
                workers,
                {"cls": _Scheduler, "options": {**host, "security": security}},
                security=security,
                silence_logs=QUIET,
            )
        with cluster, Client(cluster, security=security) as client:
            yield client


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Threads and processes that are started here never see Ctrl-C; this thread sees it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _foreign(address: str, trust_network: bool) -> Iterator[Client]:
    if not address.startswith("tls://") and not trust_network:
        raise AtlabError(
            f"the scheduler {address!r} is not protected: expected a tls:// address and certificates in Dask's "
            "configuration (distributed.comm.tls), or --trust-network if nobody else reaches that network"
        )
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, TypeError, TimeoutError, RuntimeError) as error:
        raise AtlabError(f"no Dask scheduler answers at {address!r}: {error}") from None
    with client:
        yield client


def workers(client: Client) -> int:
    """How many workers there are, each for one job at a time.

    Raises:
        OSError: the scheduler is gone.
        AtlabError: a worker has several threads, whose jobs would end together, or no nanny to start it again.
    """
    found = client.scheduler_info(n_workers=-1)["workers"]
    for name, worker in found.items():
        if worker["nthreads"] != 1 or not worker["nanny"]:
            has = f"{worker['nthreads']} threads and {'a' if worker['nanny'] else 'no'} nanny"
            raise AtlabError(f"the Dask worker {name} has {has}; expected one thread (--nthreads 1) and a nanny")
    return len(found)


def work(function: Callable[..., None], arguments: tuple) -> Ended:
    """The body of a job, on a worker: `function(*arguments)`."""
    start = time.monotonic()
    with _while_wanted():
        how, said = _tried(function, arguments)
    return Ended(how, said, time.monotonic() - start)


def _tried(function: Callable[..., None], arguments: tuple) -> tuple[str, str]:
    """Call it, again if its kernel dies (two kernels can have chosen one port, too): -> how it ended, what was said."""
    for _ in range(TRIES):
        try:
            function(*arguments)
        except Held as error:
            return "held", str(error)
        except AtlabError as error:
            outcome = "failed", str(error)
            if not isinstance(error.__cause__, RuntimeError):  # as nbclient says that a kernel died, or never began
                return outcome
        except Exception as error:
            return "failed", f"{type(error).__name__}: {error}"
        else:
            return "done", ""
    return "failed", given_up(outcome[1])


def given_up(said: str) -> str:
    """What is said of a job whose process died every time."""
    return f"tried {TRIES} times; {said}"


@contextmanager
def _while_wanted() -> Iterator[None]:
    """End this worker's process, and with it a job's kernel, when nobody waits for the job any more.

    Dask cannot stop a job that runs; the worker's nanny starts another worker.
    """
    worker = get_worker()
    key, ended = worker.get_current_task(), threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK):
            task = worker.state.tasks.get(key)
            closing = worker.status.name in ("closing", "closed", "failed")  # with its scheduler, for instance
            if closing or task is None or task.state == "cancelled":
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
