"""Shared by every test: one thread a worker, no outside network, markers that skip with a reason."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

# Before torch or NumPy load, and inherited by kernels and workers: two workers of one thread beat one of two.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# Notebooks are executed as a sweep executes them. Those of tests/runs/test_notebooks.py are started as `atlab run` does.
os.environ.setdefault("JUPYTER_DEFAULT_PROVISIONER_NAME", "atlab-forked")
# Kernels of parallel workers must not share one history database or one runtime folder.
_private = tempfile.mkdtemp(prefix="atlab-tests-")
os.environ["IPYTHONDIR"] = os.path.join(_private, "ipython")
os.environ["JUPYTER_RUNTIME_DIR"] = os.path.join(_private, "runtime")
os.environ["JUPYTER_CONFIG_DIR"] = os.path.join(_private, "config")

import pytest  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def pytest_unconfigure() -> None:
    shutil.rmtree(_private, ignore_errors=True)


# Files that start kernels, browsers and clusters come first, or one worker has them left when the other has nothing to do.
LONG = ("tests/notebooks/test_figures", "tests/runs/test_sweep", "tests/browser", "tests/notebooks", "tests/analysis")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONG) if item.nodeid.startswith(start)), len(LONG))

    items.sort(key=place)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") and CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    if item.get_closest_marker("real_data") and not os.environ.get("ATLAB_REAL_DATA"):
        pytest.skip("ATLAB_REAL_DATA names no folder of real recordings")
    if item.get_closest_marker("slow") and not os.environ.get("ATLAB_SLOW"):
        pytest.skip("slow, and ATLAB_SLOW is not set: `make test SLOW=1` runs it")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device on this machine")


@pytest.fixture(autouse=True, scope="session")
def _offline():
    """A test that reaches for an outside host fails, on every machine alike."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests are offline: connection to {address[0]} refused")
        return connect(self, address)

    socket.socket.connect = local_only
    yield
    socket.socket.connect = connect


@pytest.fixture
def real_data() -> Path:
    """The folder of real recordings that ATLAB_REAL_DATA names; use it with `@pytest.mark.real_data`."""
    return Path(os.environ["ATLAB_REAL_DATA"])
