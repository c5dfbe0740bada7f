"""Costs before a run: steps counted from the split, seconds added up from timed ones, the sweep's dry run."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from atlab.errors import AtlabError
from atlab.runs.dry_run import dry_run
from atlab.transfer import estimate
from atlab.transfer.experiment import TransferSettings, required_by

NOTEBOOK = Path(__file__).parents[2] / "notebooks/experiments/train_transfer.ipynb"


@pytest.fixture
def settings(pictures) -> TransferSettings:
    return TransferSettings(
        data=str(pictures.path), halves="made", width=1 / 32, epochs=3, batch_size=8, precision="fp32"
    )


@pytest.fixture
def timed(monkeypatch):
    """Known durations in place of measured ones."""
    found = []

    def known(s, device):
        found.append(s)
        return estimate.Probe(train=1.0, validation=0.1, prefix=0.01, step_bytes=1000, activation_bytes=10)

    monkeypatch.setattr(estimate, "_probe", known)
    return found


@pytest.mark.parametrize(
    ("treatment", "n", "seconds", "peak"),
    [
        # 36 training and validation clips (33 to 35 and the rest) and 12 test clips in 5, 1 and 2 batches of 8
        ("AnB+", 3, 3 * 5 * 1.0 + (3 * 1 + 8) * 0.1, 1000),
        ("AnB", 3, 3 * 5 * 1.0 + (3 * 1 + 8) * 0.1 + 8 * 0.01, 1000 + 48 * 10),
        ("base", 0, 8 * 0.1, 1000),
    ],
)
def test_steps_are_counted_from_the_split(settings, timed, treatment, n, seconds, peak):
    found = estimate.estimate_run(asdict(replace(settings, treatment=treatment, n=n)))
    assert found["seconds"] == pytest.approx(seconds) and found["peak_bytes"] == peak
    assert found["steps"] == (15 if n else 0)


def test_base_networks_are_trained(settings, timed, pictures):
    (need,) = required_by(settings)
    clips = len(need.make_split(pictures).train)
    assert estimate.estimate_run(asdict(need))["steps"] == 3 * -(-clips // 8)


def test_what_takes_equally_long_is_timed_once(settings, timed):
    for change in ({"seed": 1}, {"half": "A"}, {"treatment": "BnB"}, {"epochs": 9}, {"halves": "random"}):
        estimate.estimate_run(
            asdict(
                replace(settings, treatment="AnB", n=3)
                if not change
                else replace(settings, **{"treatment": "AnB", "n": 3, **change})
            )
        )
    for treatment, n in (("AnB+", 2), ("BnB+", 5), ("base", 0)):
        estimate.estimate_run(asdict(replace(settings, treatment=treatment, n=n)))
    assert len(set(timed)) == 2


def test_real_steps_are_timed_and_measured(settings):
    tuned = estimate.estimate_run(asdict(replace(settings, treatment="AnB+", n=5)))
    cached = estimate.estimate_run(asdict(replace(settings, treatment="AnB", n=5)))
    assert 0 < cached["seconds_per_step"] < 60 and tuned["seconds"] > 15 * tuned["seconds_per_step"]
    # Adam's two moments, gradients and weights of 8 layers against those of 3.
    assert tuned["peak_bytes"] > cached["peak_bytes"] > 0


def test_the_dry_run_of_a_study_says_what_it_costs(settings, timed, tmp_path):
    content = {
        "study": "t",
        "notebook": str(NOTEBOOK),
        "fixed": {"data": settings.data, "halves": "made", "width": 1 / 32, "epochs": 3, "batch_size": 8},
        "axes": {"half": ["A", "B"], "treatment": ["AnB", "AnB+"]},
    }
    text = dry_run(content, root=tmp_path, workers=2)
    assert text.splitlines()[0] == "t: 4 runs, 0 done, 4 to do; 2 networks required first"
    assert "of training in all" in text and "GiB per run" in text
    assert not list(tmp_path.iterdir())


def test_what_the_run_would_refuse_is_refused(settings):
    with pytest.raises(AtlabError, match="leaves no layer"):
        estimate.estimate_run(asdict(replace(settings, n=8)))
