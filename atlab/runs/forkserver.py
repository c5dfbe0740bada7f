"""Processes that are born with everything imported: jobs and their kernels, forked from one server.

Starting Python and importing torch takes longer than a short notebook. One server process imports it all once; every job
is forked from it, and the job's kernel from the job, so each still runs in a clean process of its own. A kernel ends with
its job, and a job with the process that asked for it, however these die.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from atlab.system.processes import end_with_parent

PRELOADED = [
    "torch", "pandas", "pyarrow.parquet", "scipy.stats", "plotly.graph_objects", "papermill", "ipykernel.kernelapp",
     "ipykernel.zmqshell", "matplotlib_inline.backend_inline", "ipywidgets", "atlab.experiment", "atlab.strategies",
    "atlab.training", "atlab.models", "atlab.data", "atlab.plots", "atlab.analysis", "atlab.runs.notebooks", "atlab.runs.sweep",
]
# Elsewhere the system's own frameworks do not survive a fork: each process starts afresh there, with an ordinary kernel.
FORKS = sys.platform == "linux"
_MAIN = threading.Lock()


def start(arguments: tuple, name: str) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """Start `work(*arguments, ...)` in a process forked from the server: -> it, and where its answer comes.

    The first one waits until the server has imported everything. The connection ends when job and kernel are gone.
    """
    context = multiprocessing.get_context("forkserver" if FORKS else "spawn")
    if FORKS:
        context.set_forkserver_preload(PRELOADED)
    receiver, answer = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(*arguments, FORKS, answer), name=name, daemon=False)
    with _without_main(), _interrupts_ignored():
        process.start()
    answer.close()
    return process, receiver


@contextmanager
def _without_main() -> Iterator[None]:
    """Hides the main script, which a new process would import: it needs nothing of it, and without a main guard the
    script would begin again in there. A daemon (a Dask worker) may start processes too: these end with it."""
    own = multiprocessing.current_process()._config
    with _MAIN:
        main, daemon = sys.modules["__main__"], own.get("daemon")
        sys.modules["__main__"], own["daemon"] = types.ModuleType("__main__"), False
        try:
            yield
        finally:
            sys.modules["__main__"], own["daemon"] = main, daemon


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """The server that is started here is born deaf to Ctrl-C, and so is what it forks."""
    started = forkserver._forkserver._forkserver_pid
    if FORKS and not started and threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)
    yield


class Waiting:
    """A kernel-to-be: forked now, while this process is small and has one thread, started when papermill asks for it."""

    def __init__(self, threads: int) -> None:
        fork = multiprocessing.get_context("fork")
        receiver, self._order = fork.Pipe(duplex=False)
        self.process = fork.Process(target=_become_kernel, args=(receiver, self._order, threads))
        self.process.start()
        receiver.close()

    def manager(self) -> type[AsyncKernelManager]:
        """The class of kernel manager that starts this kernel."""
        waiting = self

        class ForkedManager(AsyncKernelManager):
            async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
                self.provisioner = _Provisioner(
                    kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
                )
                self.provisioner.waiting = waiting
                return await super()._async_pre_start_kernel(**kwargs)

            pre_start_kernel = _async_pre_start_kernel

        return ForkedManager

    def start(self, arguments: list[str], environment: Mapping[str, str], cwd: str | None) -> None:
        self._order.send((arguments, dict(environment), cwd))

    def close(self) -> None:
        """Let the process go; at once if it became no kernel."""
        self._order.close()
        self.process.join(10)
        self.process.kill()
        self.process.join()


class _Provisioner(LocalProvisioner):
    """Hands the kernel's command line to the waiting process instead of starting one."""

    waiting: Waiting

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        arguments = cmd[cmd.index("-m") + 2 :]
        self.waiting.start(arguments, kwargs.get("env") or os.environ, kwargs.get("cwd"))
        self.process = _Handle(self.waiting.process)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class _Handle:
    """A multiprocessing.Process with the methods of subprocess.Popen that a provisioner calls."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.Process) -> None:
        self._process, self.pid = process, process.pid
        self.kill, self.terminate = process.kill, process.terminate

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, signal: int) -> None:
        os.kill(self.pid, signal)


def _become_kernel(order: Connection, other_end: Connection, threads: int) -> None:
    os.setsid()  # a provisioner interrupts the whole process group
    other_end.close()  # else no end of the job would be seen below
    end_with_parent()
    try:
        arguments, environment, cwd = order.recv()
    except EOFError:  # the job needed no kernel
        return
    os.environ.clear()
    os.environ.update(environment)
    # ipykernel's own watch takes any parent but the one that this names for a dead one.
    os.environ.pop("JPY_PARENT_PID", None)
    if cwd:
        os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a kernel started by hand greets whoever did it
    _own_state(threads)
    from ipykernel.kernelapp import launch_new_instance

    sys.argv = ["ipykernel", *arguments]
    launch_new_instance(argv=arguments)


def _own_state(threads: int) -> None:
    """What a fork must not share or take over: NumPy's random state, and pools of threads as wide as the machine."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # for what is not yet imported
        os.environ[name] = str(threads)
    if "numpy" in sys.modules:
        import numpy
        import threadpoolctl

        numpy.random.seed()
        threadpoolctl.threadpool_limits(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def work(
    function: Callable[..., Any],
    arguments: tuple,
    environment: Mapping[str, str],
    threads: int,
    forks: bool,
    answer: Connection,
) -> None:
    """The body of a job's process: calls function(*arguments, kernel_manager=...) and answers (how it ended, what was said)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asked; that one ends the job
    os.environ.update(environment)
    kernel = Waiting(threads) if forks else None
    end_with_parent()
    _own_state(threads)
    try:
        outcome = _call(function, arguments, kernel and kernel.manager())
    finally:
        if kernel:
            kernel.close()
    answer.send(outcome)


def _call(function: Callable[..., Any], arguments: tuple, kernel_manager: type | None) -> tuple[str, str]:
    from nbclient.exceptions import DeadKernelError

    from atlab.errors import AtlabError
    from atlab.runs.folder import Held

    try:
        function(*arguments, kernel_manager=kernel_manager)
    except Held as error:
        return "held", str(error)
    except AtlabError as error:
        return "died" if isinstance(error.__cause__, DeadKernelError) else "failed", str(error)
    except BaseException as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "done", ""
