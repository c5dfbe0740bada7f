"""Explorers of a stranger's data set and study: names are text in every piece of HTML that a page is given."""

from __future__ import annotations

import json

import ipywidgets as widgets
import numpy as np
import pandas as pd
import pytest

from atlab import runs
from atlab.data.build import Clip, build
from atlab.experiment.settings import Settings
from tests.explore.small_study import page

NAME = "<img src=x onerror=hit=1>"


def pages(widget: widgets.Widget) -> list[str]:
    """The text of every HTML widget in a widget."""
    found = [widget.value] if isinstance(widget, widgets.HTML) else []
    return found + [text for child in getattr(widget, "children", ()) for text in pages(child)]


@pytest.fixture
def hostile(tmp_path):
    """A data set whose factors, values, ids and card hold HTML."""

    def convert(number: int) -> list[Clip]:
        row = {"id": f"{number} {NAME}", "source": f"{number} {NAME}", "duration": 0.25}
        row |= {f"word {NAME}": f"w{number % 2} {NAME}", f"speaker {NAME}": f"s{number % 3} {NAME}"}
        return [Clip(np.full(4000, number, np.int16), row)]

    card = {"sample_rate": 16000, "name": f"name {NAME}", "licence": f"licence {NAME}"}
    fs = build(tmp_path / "d", range(24), convert, card=card, factors=[f"word {NAME}", f"speaker {NAME}"], workers=0)
    changed = json.loads((fs.path / "card.json").read_text()) | {"content_hash": f"<b>{'0' * 61}"}
    (fs.path / "card.json").write_text(json.dumps(changed))
    return fs.path


def test_the_data_explorer(hostile):
    opened = page("data", data=str(hostile))
    opened.change(target=f"speaker {NAME}")
    shown = "\n".join(pages(opened))
    assert "name &#60;img" in shown and "licence: licence &#60;img" in shown
    assert "<img" not in shown and "<b>0" not in shown


def test_the_ablation_explorer(tmp_path):
    for strategy in ("baseline", "at", f"more {NAME}"):
        for seed in (0, 1):
            given = {"strategy": strategy, "orthogonal": f"o {NAME}", "layers": f"l {NAME}", "seed": seed}
            with runs.open_run(tmp_path, "study", Settings().__dict__ | given) as run:
                run.save_history(pd.DataFrame({"epoch": [1], "train_loss": [1.0], "validation_accuracy": [0.5]}))
                run.finish(
                    {f"{part}_accuracy": 0.5 + seed / 10 for part in ("train", "validation", "test")}
                    | {"epochs_run": 1}
                )
    opened = page("ablation", study=str(tmp_path / "study"))
    shown = "\n".join(pages(opened))
    assert "&lt;img src=x" in shown or "&#60;img src=x" in shown
    assert "<img" not in shown
