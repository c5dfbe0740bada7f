"""A script without a main guard is told so, by itself and soon."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from atlab.data import synthetic_speech
synthetic_speech(sys.argv[1], words=["one"], speakers=2, emotions=1, repetitions=1, workers=2)
"""


def test_a_script_without_a_main_guard_ends_with_a_sentence(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "set")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "needs its main part under: if __name__ == '__main__':" in done.stderr
    assert "a worker process died while building" in done.stderr
