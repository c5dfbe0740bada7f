"""The benchmark of probes, at a size that takes a moment."""

from __future__ import annotations

import json

import pytest

from benchmarks import probes


def test_it_writes_what_it_measured(tones, tmp_path, monkeypatch, capsys):
    def in_this_process(*words: str) -> dict:
        """Four processes would import PyTorch for half a minute; the words and what is printed are theirs."""
        probes.main(["--one", *words])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setattr(probes, "_apart", in_this_process)
    words = ["--data", str(tones.path), "--clips", "96", "--sizes", "600x8x3", "--out", str(tmp_path / "probes.json")]
    found = probes.main(words)
    assert json.loads((tmp_path / "probes.json").read_text()) == found
    small, large = found["results"]
    assert (small["clips"], large["clips"]) == (24, 96) and large["probes"] == 13 * 2
    (against,) = found["scikit_learn"]
    assert against["ours"]["right"] == pytest.approx(against["theirs"]["right"], abs=0.02)
    assert against["ratio"]["s"] == pytest.approx(against["theirs"]["s"] / max(against["ours"]["s"], 0.01), abs=0.01)
