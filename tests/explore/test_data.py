"""The data explorer: its figures against counts made here, noise at the ratio that was asked for, splits, sentences."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import soundfile

from atlab import AtlabError, explore
from atlab.data import catalog, splits
from atlab.data.noise import active_part
from atlab.experiment.settings import Settings
from atlab.explore import studies
from atlab.explore.compute import data as compute
from tests.explore.small_study import page, write_run


@pytest.fixture
def explorer(toy):
    return page("data", data=str(toy.path))


def test_counts_and_crossing_are_those_of_the_table(explorer, toy):
    table = pd.crosstab(toy.factors["speaker"], toy.factors["word"])
    explorer.change(down="speaker", across="word")
    heat = explorer.views["crossing"].figure.data[0]
    assert np.array_equal(heat.z, table.to_numpy()) and list(heat.x) == list(table.columns)
    explorer.change(filter_by="word", filter_value="word1")
    bars = {bar.name: dict(zip(bar.x, bar.y, strict=True)) for bar in explorer.views["counts"].figure.data}
    mine = toy.factors[toy.factors["word"] == "word1"]["speaker"].value_counts().to_dict()
    assert bars == {"word": {"word1": 16}, "speaker": mine}
    assert set(explorer.controls["clip"].options) == set(toy.factors["id"][toy.factors["word"] == "word1"])


def test_the_clip_is_shown_and_played_with_noise_at_the_slider(explorer, toy):
    explorer.change(clip="word2-speaker1-3", noise="pink", snr_db=5.0)
    row = toy.factors["id"].tolist().index("word2-speaker1-3")
    clean = toy.read([row])[0].astype(float)
    heard, rate = soundfile.read(io.BytesIO(explorer.player.sounds["clean"]), dtype="int16")
    noisy, _ = soundfile.read(io.BytesIO(explorer.player.sounds["noisy"]), dtype="int16")
    assert rate == 16000 and np.array_equal(heard, clean)
    added, active = noisy - clean, active_part(clean)
    assert 10 * np.log10(np.mean(clean[active] ** 2) / np.mean(added**2)) == pytest.approx(5.0, abs=0.1)
    assert len(explorer.views["clip"].figure.data) == 2
    before = explorer.views["clip"].figure.data[1].z
    explorer.controls["snr_db"].value = -5
    assert not np.allclose(before, explorer.views["clip"].figure.data[1].z)
    explorer.controls["noise"].value = "none"
    assert "noisy" not in explorer.player.sounds and len(explorer.views["clip"].figure.data) == 1


def test_the_spectrogram_is_the_front_ends(explorer, toy):
    from scipy.signal import stft

    wave = toy.read([0])[0] / 32768
    _, _, spectrum = stft(wave, nperseg=256, noverlap=128, window="hamming", boundary="zeros", padded=False)
    decibel = 20 * np.log10(np.maximum(np.abs(spectrum) / np.abs(spectrum).max(), 1e-4))
    np.testing.assert_allclose(explorer.views["clip"].figure.data[0].z, decibel, atol=1e-2)


@pytest.mark.parametrize("split", ["random", "disjoint", "confounded"])
def test_the_split_shows_its_leaks(explorer, toy, split):
    explorer.change(split=split, target="word", split_by="speaker", pairing=0.9)
    made = compute.split_of(toy, split, "word", "speaker", 0.9, 0)
    speakers = toy.factors["speaker"].to_numpy()
    bars = {bar.name: list(bar.y) for bar in explorer.views["split"].figure.data}
    assert bars["clips"] == [len(made.train), len(made.validation), len(made.test)]
    known = set(speakers[made.train])
    assert bars["of these also in training"][2] == len(known & set(speakers[made.test]))
    if split == "disjoint":
        assert bars["of these also in training"][1:] == [0, 0]
    if split == "confounded":
        assert bars["Cramer's V (bias-corrected)"][0] > 0.5 > bars["Cramer's V (bias-corrected)"][2]


def test_the_split_begins_as_the_studys_own_and_says_so(toy, tmp_path):
    settings = Settings(
        **{"data": str(toy.path), "target": "speaker", "orthogonal": "word", "strategy": "baseline", "width": 1 / 32},
        **{"split": "confounded", "pairing": 0.75, "split_seed": 2, "clips": 8},
    )
    write_run(tmp_path, "paired", settings, toy, "speaker")
    explorer = page("data", study=str(tmp_path / "paired"))
    s = explorer.state
    assert _offers(explorer, "noise") and "space" in explorer.shortcuts.labels
    assert (s.split, s.target, s.split_by, s.pairing, s.seed, s.clips) == ("confounded", "speaker", "word", 0.75, 2, 8)
    assert explorer.controls["clips"].value == 8 and explorer.controls["pairing"].value == 0.75
    whole = settings.split_spec().make(toy, "speaker")
    mine = splits.cut(whole, 8, 2)
    bars = {bar.name: list(bar.y) for bar in explorer.views["split"].figure.data}
    assert bars["clips"] == [len(mine.train), len(mine.validation), len(mine.test)] and len(whole.train) > 8
    assert "The split of the study&#39;s first student: confounded, speaker by word, pairing 0.75" in _split_text(
        explorer
    )
    explorer.change(pairing=0.0)
    assert explorer.state.pairing == 0.0 and "Not the study&#39;s split, which is: confounded" in _split_text(explorer)
    explorer.change(data=str(toy.path))
    assert explorer.state.pairing == 0.9 and "study" not in _split_text(explorer)


def _split_text(explorer) -> str:
    return explorer.texts["split"].value


def test_buttons_browse_the_clips_that_match(explorer):
    buttons = {b.description: b for b in _buttons(explorer)}
    first = explorer.state.clip
    buttons["next ▶"].click()
    second = explorer.state.clip
    buttons["◀ previous"].click()
    assert explorer.state.clip == first != second
    buttons["◀ previous"].click()
    assert explorer.state.clip == explorer.controls["clip"].options[-1]


def _buttons(widget):
    for child in getattr(widget, "children", ()):
        if type(child).__name__ == "Button":
            yield child
        yield from _buttons(child)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "nowhere"}, "No data set at 'nowhere'"),
        (
            {"clip": "spk00-sad-one-1"},
            "There is no clip 'spk00-sad-one-1' in toy (48 clips): it belongs to another data set",
        ),
        ({"clip": "word0-speaker0-9"}, "nearest: 'word0-speaker0-"),
        ({"down": "emotion"}, "Unknown factor 'emotion'"),
        ({"filter_by": "word", "filter_value": "word9"}, "Unknown value of 'word' 'word9'; nearest: 'word"),
        ({"noise": "rain"}, "Unknown noise 'rain'"),
        ({"split": "even"}, "Unknown split 'even'"),
        ({"split": "disjoint", "split_by": "word", "target": "word"}, "both 'word': they must differ"),
    ],
)
def test_what_cannot_be_shown_is_said(explorer, change, said):
    explorer.change(**change)
    assert said in explorer.message


def test_a_silent_clip_has_no_ratio():
    with pytest.raises(AtlabError, match="this clip is silent"):
        compute.with_noise(np.zeros(100, np.int16), "pink", 0.0, 16000)


def test_sounds_beyond_full_scale_are_turned_down():
    heard, _ = soundfile.read(io.BytesIO(compute.wav(np.array([0.5, -2.0]), 16000)))
    np.testing.assert_allclose(heard, [0.25, -1.0], atol=1e-4)


def test_state_and_code_bring_the_view_back(explorer, toy):
    explorer.change(clip="word1-speaker2-0", noise="hum", split="random", seed=3)
    again = explore.open(explorer.state, threaded=False).explorer
    assert again.state == explorer.state
    space: dict = {}
    exec(explorer.code.rpartition("for figure")[0], space)
    for name, figure in space["figures"].items():
        assert figure == explorer.views[name].figure


def test_data_is_found_from_a_notebooks_folder(toy, tmp_path, monkeypatch):
    (tmp_path / "atlab.toml").write_text("")
    (tmp_path / "notebooks/explorers").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine").symlink_to(toy.path)
    monkeypatch.chdir(tmp_path / "notebooks/explorers")
    monkeypatch.delenv("ATLAB_DATA", raising=False)
    assert len(studies.open_data("mine")) == len(studies.open_data("data/mine")) == 48
    assert catalog.data_sets()[0] == "mine"


def test_pictures_are_shown_without_noise(tmp_path):
    from atlab.data import Clip, build

    items = list(range(12))
    fs = build(
        tmp_path / "pictures",
        items,
        _picture,
        card={
            "name": "p",
            "kind": "image",
            "licence": "",
            "recipe": "p",
            "recipe_version": 1,
            "seed": 0,
            "parameters": {},
            "sample_rate": None,
        },
        factors=["kind", "ink"],
        workers=0,
    )
    assert isinstance(_picture(0)[0], Clip)
    explorer = page("data", data=str(fs.path), split="random")
    assert explorer.views["clip"].figure.data[0].type == "image" and explorer.message == ""
    assert explorer.controls["clip"].description == "picture" and "12 pictures" in explorer.texts["facts"].value
    assert "space" not in explorer.shortcuts.labels and explorer.shortcuts.labels["n"] == "next picture"
    assert not _offers(explorer, "noise") and "clip" not in explorer.controls["filter_by"].description
    explorer.change(noise="hum")
    assert explorer.message == "Noise is mixed into sound: this data set holds images."


def _offers(explorer, name: str) -> bool:
    """Whether a control, or the row that holds it, is shown."""
    control = explorer.controls[name]
    rows = [box for box in _boxes(explorer) if control in box.children]
    return all(box.layout.display != "none" for box in (control, *rows))


def _boxes(widget):
    for child in getattr(widget, "children", ()):
        if hasattr(child, "children"):
            yield child
            yield from _boxes(child)


def _picture(item):
    from atlab.data import Clip

    image = np.full((1, 32, 32), item, np.uint8)
    return [
        Clip(
            image,
            {"id": f"p{item}", "source": f"p{item}", "duration": 0.0, "kind": f"k{item % 2}", "ink": f"i{item % 3}"},
        )
    ]
