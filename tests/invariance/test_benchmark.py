"""The benchmark of probes, at a size that takes a moment."""

from __future__ import annotations

import json

from benchmarks import probes


def test_it_writes_what_it_measured(tones, tmp_path):
    found = probes.main(["--data", str(tones.path), "--clips", "96", "--out", str(tmp_path / "probes.json")])
    assert json.loads((tmp_path / "probes.json").read_text()) == found
    small, large = found["results"]
    assert (small["clips"], large["clips"]) == (24, 96) and large["probes"] == 13 * 2
