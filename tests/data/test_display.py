"""Summaries as they are seen and heard: what a notebook is handed, what a terminal prints."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import plotly.graph_objects as go
import pytest
import soundfile
from rich.console import Console

import atlab
from atlab.data import Clip, build, display
from atlab.data.spectrogram import Spectrogram

CARD = {"name": "odd", "licence": "CC0", "citation": "Nobody [2020]", "recipe": "odd", "recipe_version": 1, "seed": 0}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return atlab.data.toy(tmp_path_factory.mktemp("data") / "toy", words=3, speakers=2, repetitions=4)


@pytest.fixture
def shown(monkeypatch):
    """Everything that is displayed."""
    things = []
    monkeypatch.setattr("IPython.display.display", lambda *several: things.extend(several))
    return things


def text_of(fs, **options) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(display.as_text(fs, **options), highlight=False)
    return console.file.getvalue()


def decoded(array: object) -> np.ndarray:
    """The numbers of a trace, which plotly may keep packed."""
    return np.array(array, dtype=float)


def test_a_notebook_gets_tables_figures_and_ten_players(toy, shown):
    atlab.data.show(toy)
    figures = [thing for thing in shown if isinstance(thing, go.Figure)]
    assert len(figures) == 4
    counts, crossed, _, pictures = figures
    assert decoded(counts.data[0].y).tolist() == [8, 8, 8] and decoded(counts.data[1].y).tolist() == [12, 12]
    assert (
        decoded(crossed.data[0].z).tolist() == [[4, 4]] * 3
        and "Cramer's V 0.00 (plain 0.00)" in crossed.layout.title.text
    )
    assert len(pictures.data) == 10
    html = next(thing.data for thing in shown if getattr(thing, "data", None) and "<audio" in str(thing.data))
    players = re.findall(r"base64,([^\"]+)\"", html)
    waves = [soundfile.read(io.BytesIO(base64.b64decode(player))) for player in players]
    assert [(len(wave), rate) for wave, rate in waves] == [(4000, 16000)] * 10
    row = display.examples(toy, "word")[0]
    clip = toy.read([row])[0].astype(float)
    assert np.abs(waves[0][0] / np.abs(waves[0][0]).max() - clip / np.abs(clip).max()).max() < 1e-3


def test_spectrograms_in_the_grid_are_those_of_the_clips(toy):
    import torch

    rows = display.examples(toy, "word")
    magnitudes, times, frequencies = display.spectrograms(toy, rows)
    want = Spectrogram()(torch.from_numpy(toy.read(rows)))[:, 0].numpy()
    assert np.array_equal(magnitudes, want) and len(times) == want.shape[1] and len(frequencies) == 129


def test_spectrograms_of_long_clips_are_thinned_to_their_loudest(tmp_path):
    import torch

    fs = atlab.data.toy(tmp_path / "long", words=1, speakers=1, repetitions=1, samples=16000 * 5)
    magnitudes, times, _ = display.spectrograms(fs, [0])
    whole = Spectrogram()(torch.from_numpy(fs.read([0])))[0, 0].numpy()
    assert magnitudes.shape[1] == len(times) <= 256
    assert np.array_equal(magnitudes[0, 1], whole[3:6].max(0)) and times[1] == pytest.approx(3 * 128 / 16000)


def test_examples_take_the_classes_in_turn(toy):
    rows = display.examples(toy, "word", 6)
    assert rows == display.examples(toy, "word", 6) and len(set(rows)) == 6
    assert sorted(toy.labels("word", rows)) == ["word0", "word0", "word1", "word1", "word2", "word2"]
    assert len(display.examples(toy, "word", 1000)) == len(toy)


def _image(number):
    pixels = np.full((1, 8, 8), number, np.uint8)
    row = {"id": f"i{number}", "source": f"i{number}", "duration": 0.0, "class": "[red]" if number % 2 else "<b>"}
    return [Clip(pixels, row | {"half": "AB"[number % 2], "shade": number % 3})]


@pytest.fixture
def images(tmp_path):
    counts = {"found": {"train": 12}, "published": {"train": 60_000, "test": 10}}
    card = CARD | {"dropped": {"broken": 1}, "published_clips": counts}
    return build(tmp_path / "images", range(12), _image, card=card, factors=["class", "half", "shade"], workers=0)


def test_images_are_seen(images, shown):
    atlab.data.show(images, cross=("half", "shade"), clips=7)
    grid = [thing for thing in shown if isinstance(thing, go.Figure)][-1]
    rows = display.examples(images, "class", 7)
    assert [np.array(trace.z)[0, 0].tolist() for trace in grid.data] == [[row] * 3 for row in rows]
    assert not any("<audio" in str(getattr(thing, "data", "")) for thing in shown)
    tables = [thing for thing in shown if hasattr(thing, "columns")]
    assert tables[-1].loc["test"].tolist() == [0, 10, -10] and tables[-2].loc["half", "class"] == 1
    assert "- dropped: 1 broken\n" in "".join(str(getattr(thing, "data", "")) for thing in shown)


def test_the_terminal_shows_names_as_they_are(images):
    text = text_of(images, cross=("class", "shade"))
    assert "12 image clips of 1 x 8 x 8, 12 sources" in text and "citation  Nobody [2020]" in text
    assert "published train 12 instead of 60,000, test 0 instead of 10" in text and "dropped   1 broken" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["[red]", "2", "2", "2"] in rows and ["<b>", "2", "2", "2"] in rows
    assert "class and shade: Cramer's V 0.00 (plain 0.00), 0 of 6 cells empty, 2 to 2 clips in a cell" in text
    assert "class x half 1.00, class x shade 0.00, half x shade 0.00" in text and "duration" not in text


def test_all_published_counts_found(toy, tmp_path):
    card = CARD | {"published_clips": {"found": {"n": 4}, "published": {"n": 4}}}
    fs = build(tmp_path / "all", range(4), _image, card=card, factors=["class"], workers=0)
    assert "published all 1 counts found" in text_of(fs) and "Cramer" not in text_of(fs)
    assert "published" not in text_of(toy)


def _long(number):
    seconds = 1.0 if number < 500 else 3.0
    row = {"id": str(number), "source": str(number), "duration": seconds, "note": number % 40, "player": number % 15}
    return [Clip(np.zeros(4, np.int16), row)]


def test_large_tables_are_cut_and_say_so(tmp_path):
    fs = build(
        tmp_path / "large", range(501), _long, card=CARD | {"sample_rate": 4}, factors=["note", "player"], workers=0
    )
    lines = text_of(fs).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("note  0"))
    assert lines[start].split() == ["note", *map(str, range(10))]
    assert (
        len(lines[start + 1 : start + 13]) == 12
        and lines[start + 13].strip() == "(the most frequent of 40 x 15 values)"
    )
    bars = next(line for line in lines if line.startswith("duration   "))
    assert bars == "duration   1.00 s |█" + " " * 22 + "▁| 3.00 s"
