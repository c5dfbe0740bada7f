"""Kernels that are forked from a process which has imported what notebooks import, so that none of them imports it again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import LocalProvisioner

from atlab.runs import ipynb
from atlab.system.processes import THREAD_VARIABLES, end_with_parent, hidden_main

# The environment that chooses forked kernels, by the name of their entry point; the server computes on one thread, as its kernels do.
ENVIRONMENT = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "atlab-forked", **dict.fromkeys(THREAD_VARIABLES, "1")}
LAUNCHER = "ipykernel_launcher"
# What the server imports, by name: this room imports none of it, and what is not installed is left out.
KERNEL = ("atlab.runs.bars", "ipykernel.kernelapp", "ipykernel.ipkernel", "matplotlib_inline.backend_inline")
TRAINING = (
    "torch",
    "torchvision",
    "nbformat",
    "pyarrow.parquet",
    "scipy.stats",
    "plotly.graph_objects",
    "plotly.io",
    "atlab.experiment",
    "atlab.training",
    "atlab.teachers",
    "atlab.models",
    "atlab.plots",
    "atlab.analysis",
    "atlab.analysis.quickstart",
)


def preloaded(code: str) -> list[str]:
    """The modules that the server imports for notebooks with this code: those of training and figures take seconds.

    >>> preloaded("from atlab import runs\\nruns.Run(run_dir)") == list(KERNEL)
    True
    >>> "torch" in preloaded("from atlab import experiment, plots")
    True
    """
    return [*KERNEL, *(TRAINING if any(word in code for word in ("torch", "experiment", "transfer")) else ())]


class ForkedProvisioner(LocalProvisioner):
    """Starts ipykernel of this interpreter as a fork of this process's server (`ready`); every other kernel as Jupyter does.

    The server is the standard library's `multiprocessing` one, a fresh process with neither this one's threads nor its
    state. Kernels end with this process, the server with the last of them; a kernel ends with a killed server, too.
    """

    server = False  # whether this process has one

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Launch the kernel that `cmd` names."""
        if not (self.server and forks(cmd)):
            return await super().launch_kernel(cmd, **kwargs)
        arguments = cmd[cmd.index(LAUNCHER) + 1 :]
        self.process = _Forked(arguments, dict(kwargs.get("env") or os.environ), kwargs.get("cwd") or os.getcwd())
        self.pid = self.pgid = self.process.pid
        return self.connection_info


def forks(cmd: Sequence[str]) -> bool:
    """Whether a kernel's command can be forked: ipykernel by this interpreter, on Linux.

    >>> forks(["/usr/bin/julia", "kernel.json"])
    False
    """
    return (
        sys.platform == "linux"
        and list(cmd).count(LAUNCHER) == 1
        and cmd[cmd.index(LAUNCHER) - 1] == "-m"
        and os.path.abspath(cmd[0]) == os.path.abspath(sys.executable)
    )


class _Forked:
    """A forked kernel, as the part of `subprocess.Popen` that provisioners use."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str) -> None:
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(target=_serve, args=(arguments, environment, folder))
        with hidden_main():
            self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def ready(notebook: str | Path) -> None:
    """Start the server, once, where forked kernels are chosen; it imports what this notebook's code needs.

    To be called before a kernel's folder for temporary files is the current one: the server's socket must outlive it. A daemonic
    process, as a Dask worker is unless `distributed.worker.daemon` is false, may not have one.
    """
    chosen = ENVIRONMENT.items() <= os.environ.items() and sys.platform == "linux"
    if chosen and not (ForkedProvisioner.server or multiprocessing.current_process().daemon):
        forkserver.set_forkserver_preload(preloaded(ipynb.source(notebook)))
        forkserver.ensure_running()
        ForkedProvisioner.server = True


def _serve(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Become the kernel, with a state of its own in place of what forks of one process share."""
    end_with_parent()
    os.setsid()  # as Jupyter does: a signal to the kernel reaches what it has started, and Ctrl-C does not reach it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    from ipykernel import kernelapp

    kernelapp.launch_new_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
    kernelapp.IPKernelApp.instance().shell.user_ns.clear()  # files that a notebook left open are written
