"""The audit of the published code, run from a clean kernel: every row is shown, with numbers that say what it claims."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atlab.paper.audit import rows
from atlab.runs import notebooks

NOTEBOOK = Path(__file__).parents[2] / "notebooks/audit/paper_vs_code.ipynb"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    executed = notebooks.run(
        NOTEBOOK, {"width": 0.0625, "seed": 1}, root=tmp_path_factory.mktemp("audit"), progress=False
    )
    return json.loads((executed.path / "result.json").read_text())


def test_every_row_is_shown(shown):
    assert set(shown["numbers"]) == set(shown["rows"]) == set(rows.ROWS)


def test_the_numbers_say_what_the_rows_claim(shown):
    n = shown["numbers"]
    assert n["gram"]["paper"] == pytest.approx(n["gram"]["paper_again"], rel=1e-5) and n["gram"]["factor"] > 1.5
    assert n["beta"]["once"] > 0 > n["beta"]["twice"]
    assert (
        n["layer"]["layer_1"] == "input" and n["layer"]["layer_1_gradient"] == 0 and n["layer"]["layer_13"] == "conv12"
    )
    assert n["wi"]["matched"] == n["wi"]["changed"] == 0 and n["wi"]["changed_by_prefix"] == 26
    assert (
        n["permutation"]["clip_kernel"] > 0.999
        and n["permutation"]["gram"] < 0.5
        and n["permutation"]["outputs_differ_by"] < 1e-4
    )
    assert n["dead"]["correlation"] < -0.9 and n["vanishing"]["gradient_1"] < 1e-3 * n["vanishing"]["gradient_001"]
    assert n["instruments"]["published_classes"] == 1 and n["snr"]["snr_40"] == pytest.approx(20, abs=0.01)
    assert n["normalisation"]["difference"] > 0.02 and n["epoch"]["published_last"] <= n["epoch"]["paper_last"]
    assert (
        n["leak"]["with_twin"] > 0.98
        and n["overlap"]["held_out"] == 0 < n["overlap"]["own"]
        and n["random"]["disjoint"] == 0
    )
    assert n["time"]["atlab"] > 0.9 and n["time"]["published"] < -0.9 and 0.02 < n["selection"]["simulated_13"] < 0.06
