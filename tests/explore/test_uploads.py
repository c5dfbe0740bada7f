"""Sounds of the user's own: kept as files, cut and set to the level of the clip they are compared with."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from atlab import AtlabError, explore
from atlab.explore import studies
from atlab.explore.compute import maps, uploads
from tests.explore.small_study import page


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # the runs of the folder that the tests are started in come first


def tone(samples: int, hertz: float = 700.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(samples) / 16000)).astype(np.float32)


def test_an_own_sound_is_the_other_clip_of_a_pair(study, toy):
    explorer = page("grad-cam", study=str(study), networks=("baseline seed 0",), layer="conv1", method="EigenCAM")
    recorder = next(w for w in walk(explorer) if "atlab-recorder" in w._dom_classes)
    assert recorder.rate == toy.sample_rate
    sound = np.concatenate([np.zeros(5000, np.float32), tone(2000), np.zeros(5000, np.float32)])
    recorder._handle_custom_msg({"name": "my word.m4a", "rate": 16000}, [sound.tobytes()])
    state = explorer.state
    assert (explorer.message, state.pair_by) == ("", uploads.OWN) and state.pair_value.startswith(
        "runs/.sounds/my-word-"
    )
    clip, own = (soundfile.read(io.BytesIO(explorer.player.sounds[n]), dtype="int16")[0] for n in ("clip", "pair"))
    assert len(own) == len(clip) == 4096
    assert np.abs(np.fft.rfft(own)).argmax() == round(700 * 4096 / 16000)
    rms = [np.sqrt((w[np.abs(w) > 0.01 * np.abs(w).max()].astype(float) ** 2).mean()) for w in (clip, own)]
    assert rms[0] == pytest.approx(rms[1], rel=0.03)
    assert "own sound" not in explorer.texts["agreement"].value  # one pair: nothing to average
    again = explore.figures(state)
    assert np.array_equal(again["maps"].data[-1].z, explorer.views["maps"].figure.data[-1].z)
    assert studies.finished() == []  # the folder of sounds is no study


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def test_the_loudest_stretch_is_taken(toy):
    sound = 0.01 * np.random.default_rng(0).standard_normal(16000)
    sound[9000:13096] += tone(4096)
    file = uploads.keep("x", sound.astype(np.float32), 16000)
    like = maps.sample(toy, 0)
    own = uploads.sample(toy, file, like)
    assert np.corrcoef(own.array, sound[9000:13096])[0, 1] > 0.999
    assert own.row == like.row and own.key != like.key and len(own.array) == len(like.array)
    assert uploads.keep("x", sound.astype(np.float32), 16000) == file and uploads.kept() == [file]


@pytest.mark.parametrize(
    ("samples", "rate", "said"),
    [
        (np.zeros(100, np.float32), 16000, "silent or broken"),
        (np.full(100, np.nan, np.float32), 16000, "silent or broken"),
        (tone(100), 1, "100 s long: expected 60 s at most"),
    ],
)
def test_a_sound_that_cannot_be_used_is_refused(samples, rate, said):
    with pytest.raises(AtlabError, match=said):
        uploads.keep("x", samples, rate)
    assert uploads.kept() == []


def test_what_is_missing_is_said(study, toy, tmp_path):
    explorer = page("grad-cam", study=str(study), networks=("baseline seed 0",), layer="conv1", pair_by=uploads.OWN)
    assert "choose a file or record one" in explorer.message
    like, slow = maps.sample(toy, 0), uploads.keep("slow", tone(8000), 8000)
    with pytest.raises(AtlabError, match="has 8000 Hz, toy 16000 Hz"):
        uploads.sample(toy, slow, like)
    elsewhere = tmp_path / "elsewhere.wav"  # a link to a view may name any file
    soundfile.write(elsewhere, np.ones(100) / 2, toy.sample_rate)
    for file in (str(elsewhere), "../elsewhere.wav", "runs/.sounds/../../elsewhere.wav"):
        with pytest.raises(AtlabError, match="unknown sound of your own"):
            uploads.sample(toy, file, like)
