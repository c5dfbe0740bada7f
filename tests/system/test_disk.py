"""What is left on a disk: nothing of a write that found no room, nothing of a process that was killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from atlab.errors import AtlabError
from atlab.system.files import allocated, new_folder, scratch

# In a mount namespace of its own, with a disk of 2 MB; what is done there is gone with the process.
SMALL_DISK = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$1" -c "$2" "$0"']


def on_a_small_disk(folder, code: str) -> subprocess.CompletedProcess:
    command = [*SMALL_DISK, str(folder), sys.executable, textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.fixture
def small_disk(tmp_path):
    if shutil.which("unshare") is None or on_a_small_disk(tmp_path, "print(1)").stdout != "1\n":
        pytest.skip("a disk of its own needs unshare and the right to mount")
    return tmp_path


def test_a_map_without_room_is_an_error_and_no_crash(small_disk):
    code = """
        import os, sys
        import numpy as np
        from atlab.system.files import allocated

        fits = allocated(sys.argv[1] + "/fits.npy", np.float16, (500_000,))
        fits[:] = 1
        try:
            allocated(sys.argv[1] + "/more.npy", np.float16, (1_000_000,))
        except ValueError as error:
            print(error)
        print(os.listdir(sys.argv[1]))
    """
    done = on_a_small_disk(small_disk, code)
    assert done.returncode == 0, done.stderr
    assert "more.npy needs 2.0 MB, 1.1 MB are free" in done.stdout and "['fits.npy']" in done.stdout
    plain = code.replace(
        "from atlab.system.files import allocated",
        "allocated = lambda p, t, s: np.lib.format.open_memmap(p, 'w+', t, s)",
    )
    crashed = on_a_small_disk(
        small_disk,
        plain.replace('/more.npy", np.float16, (1_000_000,))', '/more.npy", np.float16, (1_000_000,))[:] = 1'),
    )
    assert crashed.returncode == 128 + 7 or crashed.returncode == -7  # SIGBUS: what `allocated` is for


def test_an_allocated_map_is_a_npy_file_of_zeros(tmp_path):
    array = allocated(tmp_path / "a.npy", np.float32, (3, 5))
    array[1] = 7
    array.flush()
    assert np.load(tmp_path / "a.npy").tolist() == [[0] * 5, [7] * 5, [0] * 5]
    assert (tmp_path / "a.npy").stat().st_blocks > 0


def test_where_the_system_cannot_allocate_zeros_are_written(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    allocated(tmp_path / "a.npy", np.uint8, (3_000_000,))
    assert 512 * (tmp_path / "a.npy").stat().st_blocks >= 3_000_000 and not np.load(tmp_path / "a.npy").any()


def test_other_failures_pass_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError):
        allocated(tmp_path / "none" / "a.npy", np.uint8, (3,))


def test_folders_of_killed_processes_are_removed_and_those_in_use_or_just_made_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = "import os, sys\nfrom atlab.system.files import *\nwith {}: print(1, flush=True); os.read(0, 1); os._exit(9)"
    for opened in ("scratch('x')", f"new_folder('{tmp_path}/cache')"):
        child = subprocess.Popen(
            [sys.executable, "-c", code.format(opened)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        with child:
            child.stdout.readline()
            (theirs,) = (
                path for path in tmp_path.glob("*x-*" if "scratch" in opened else ".cache.*.tmp") if path.is_dir()
            )
            (theirs / "litter").touch()
            act = (lambda: scratch("x")) if "scratch" in opened else (lambda: new_folder(tmp_path / "cache"))
            os.utime(theirs, (0, 0))
            with act():
                assert theirs.exists()  # in use
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            child.stdin.write(b"x")
        assert child.returncode == 9 and theirs.exists()
        os.utime(theirs, (time.time(),) * 2)
        with act():
            assert theirs.exists()  # just made
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        os.utime(theirs, (0, 0))
        with act() as ours:
            assert not theirs.exists() and ours.exists()
        assert not ours.exists()
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        assert list(tmp_path.iterdir()) == [], "their locks are gone, too"


def test_a_cache_that_the_disk_has_no_room_for_leaves_nothing(tmp_path, monkeypatch):
    import torch

    import atlab

    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    teacher = atlab.Teacher(atlab.models.vgg16(num_classes=2, width=1 / 16), layers="conv5")
    clips = atlab.data.InMemory(torch.randn(6, 1, 32, 32), torch.zeros(6, dtype=torch.long))
    with pytest.raises(AtlabError, match=f"the disk of {tmp_path} is too small: conv5.values.npy needs"):
        atlab.CachedTeacher(teacher, clips, tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == [".cache.lock"]
