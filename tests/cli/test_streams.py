"""Where the output goes and what the arguments are made of: no traceback, whatever the shell does with either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atlab.data.build import Clip, build

ATLAB = str(Path(sys.executable).with_name("atlab"))
LIST, VERSION, HELP = ("data", "list"), ("--version",), ("--help",)


def shell(line: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """Run a line of bash in which "$@" are the arguments."""
    command = ["bash", "-o", "pipefail", "-c", line, "bash", *arguments]
    return subprocess.run(command, capture_output=True, timeout=120, env=os.environ | environment)


@pytest.mark.parametrize("words", [LIST, VERSION, HELP], ids=" ".join)
@pytest.mark.parametrize("redirected", [">&-", "| head -1", "| true", ">&- 2>&-", "< /dev/null >&-"])
def test_a_reader_that_leaves_and_a_stream_that_is_closed_are_no_error(words, redirected):
    done = shell(f'"$@" {redirected}', ATLAB, *words)
    assert done.stderr == b"" and done.returncode in ((0, 1) if "|" in redirected else (0,))


@pytest.mark.parametrize("words", [LIST, VERSION], ids=" ".join)
def test_a_full_disk_is_one_sentence(words):
    done = shell('"$@" > /dev/full', ATLAB, *words)
    assert done.stderr == b"error: No space left on device\n" and done.returncode in (1, 2)


@pytest.mark.parametrize(
    "words",
    [
        ("data", "show", b"\xff"), ("run", b"x\xff.ipynb"), ("run", "train", "-p", "data", b"\xff"), ("explore", b"\xe9"),
        ("sweep", "table3_words", "--scale", b"\xff", "--dry-run"), ("report", "x", "--out", b"\xff"), (b"\xff",),
    ],
)  # fmt: skip
def test_arguments_that_are_not_text_are_refused(words):
    done = shell('"$@"', ATLAB, *words)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert b"expected text in utf-8, got" in done.stderr and done.stdout == b""


def test_characters_that_the_terminal_lacks_become_question_marks(tmp_path):
    def convert(number: int) -> list[Clip]:
        row = {"id": str(number), "source": str(number), "duration": 0.1 + number, "word": f"\u65e5{number % 2}"}
        return [Clip(np.zeros(100, np.int16), row)]

    build(tmp_path / "d", range(4), convert, card={"name": "d", "sample_rate": 1000}, factors=["word"], workers=0)
    done = shell('"$@"', ATLAB, "data", "show", tmp_path / "d", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0 and b"?0 2, ?1 2" in done.stdout, done.stderr
