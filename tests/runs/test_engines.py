"""The workers of a sweep: protected, one thread each, ended with whoever asked for them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from dask.distributed import Client
from distributed.security import Security

from atlab.runs import engines
from tests.runs.sweeps import gone, wait_for

KILLED = """
from atlab.runs import engines
with engines.connect([{}, {}]) as client:
    pids = client.run(lambda: __import__("os").getpid()).values()
    print(*pids, flush=True)
    __import__("time").sleep(600)
"""


def test_workers_have_the_environment_of_their_slot_and_talk_tls_only():
    with engines.connect([{"CUDA_VISIBLE_DEVICES": "a"}, {"CUDA_VISIBLE_DEVICES": "b"}]) as client:
        found = client.run(lambda: (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"]))
        assert sorted(found.values()) == [("a", "1"), ("b", "1")]
        address = client.scheduler_info()["address"]
        assert address.startswith("tls://127.0.0.1:")
        with pytest.raises(OSError, match="(?i)timed out|ssl|certificate"):
            Client(address, security=Security.temporary(), timeout="2s")


def test_workers_end_with_a_killed_process():
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    pids = list(map(int, process.stdout.readline().split()))
    assert len(pids) == 2 and not gone(*pids)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: gone(*pids))
