"""The Grad-CAM explorer: its maps, sounds, profiles and scores against computations made here."""

from __future__ import annotations

import io
import itertools
import types
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from scipy import signal, stats

from atlab import AtlabError, explore, models, plots, runs
from atlab.data import frontend
from atlab.explore import naming, studies
from atlab.explore.compute import maps as compute
from atlab.explore.compute import pairs
from atlab.explore.widgets.inputs import values
from atlab.invariance.maps.gradcam import class_activation_map
from tests.explore.small_study import page

CLIP = "word1-speaker2-1"
NETWORKS = ("baseline seed 0", "speaker network", "WI seed 0", "AT conv1 beta 0.5 seed 0")


@pytest.fixture
def explorer(study):
    return page("grad-cam", study=str(study), clip=CLIP, networks=NETWORKS, layer="conv13", pair_by="-", pairs=0)


def by_hand(fs, study, label, clip, layer="conv13", method="GradCAM", target=None):
    """The map of a clip [frequency, time] without the explorer's code."""
    net = models.load(studies.networks(str(study))[label].path)
    x = frontend(fs)(torch.from_numpy(fs.read([fs.factors["id"].tolist().index(clip)])))
    return class_activation_map(net, x, layer, target, method)[0].T


def drawn(explorer, name) -> np.ndarray:
    """The map in the column of a network, first clip."""
    heats = [trace for trace in explorer.views["maps"].figure.data if trace.name.startswith(name)]
    return np.asarray(heats[0].z)


def test_it_opens_paired_by_the_orthogonal_factor_on_a_layer_whose_maps_are_not_empty(study, toy):
    explorer = page("grad-cam", study=str(study))
    assert explorer.message == ""
    best = max((n for n in studies.networks(str(study)).values() if n.strategy == "at"), key=lambda n: n.validation)
    table = runs.table(study).query("strategy == 'at'")
    assert best.validation == table["validation_accuracy"].max()
    base = f"baseline seed {best.seed}"  # the same clips in training
    assert explorer.state.networks == (base, best.label, "speaker network")
    assert (explorer.state.reference, explorer.state.network) == (base, best.label)
    assert (explorer.state.pair_by, explorer.state.pair_value) == ("speaker", "speaker1")
    figure = explorer.views["maps"].figure
    assert [t.name.split("<br>")[0] for t in figure.data[2:8:2]] == list(explorer.state.networks)
    assert figure.layout.xaxis5.title.text == "time (s)" and "frequency (Hz)" in figure.layout.yaxis.title.text
    assert explorer.state.layer == best.layers[-1]  # where anti-transfer acts
    assert not empty_maps(toy, study, explorer.state)
    explorer.change(networks=("baseline seed 0", "speaker network"), layer="")
    state = explorer.state
    deeper = [f"conv{n}" for n in range(13, int(state.layer[4:]), -1)]
    assert not empty_maps(toy, study, state) and all(empty_maps(toy, study, state, layer) for layer in deeper)


def empty_maps(toy, study, state, layer="") -> int:
    """How many of the pair's maps are empty."""
    return sum(
        not by_hand(toy, study, name, clip, layer or state.layer, target=target).any()
        for name in state.networks
        for clip, target in (("word0-speaker0-0", 0), (other(toy), int(name == "speaker network")))
    )


def other(toy) -> str:
    return toy.factors["id"].iloc[pairs.counterparts(toy, 0, "speaker", "word")["speaker1"]]


def test_an_empty_map_is_said_to_be_empty():
    ground = plots.Picture(np.zeros((4, 5)), np.arange(5), np.arange(4))
    figure = plots.class_maps([ground], {"a": [np.zeros((4, 5))], "b": [np.eye(4, 5)]}, method="LayerCAM")
    notes = [note for note in figure.layout.annotations if "zero here" in note.text]
    assert [(note.text, note.xref, note.x, note.y) for note in notes] == [("LayerCAM is<br>zero here", "x2", 2, 1.5)]


def test_pixels_of_pictures_are_square():
    ground = plots.Picture(np.zeros((4, 5)), np.arange(5), np.arange(4), upward=False)
    figure = plots.class_maps([ground, ground], {"a": [np.zeros((4, 5))] * 2})
    axes = list(figure.select_yaxes())
    assert len(axes) == 4 and [axis.scaleanchor for axis in axes] == [axis.anchor for axis in axes]
    sound = plots.class_maps([ground._replace(upward=True)], {"a": [np.zeros((4, 5))]})
    assert not any(axis.scaleanchor for axis in sound.select_yaxes())


@pytest.mark.parametrize(
    ("layer", "method"),
    [("conv13", "GradCAM"), ("conv5", "LayerCAM"), ("conv1", "GradCAMPlusPlus"), ("conv9", "EigenCAM")],
)
def test_the_maps_are_those_of_the_chosen_layer_and_method(explorer, study, toy, layer, method):
    explorer.controls["layer"].value, explorer.controls["method"].value = layer, method
    mine = by_hand(toy, study, "baseline seed 0", CLIP, layer, method, target=1)  # word1
    np.testing.assert_allclose(drawn(explorer, "baseline seed 0"), mine, atol=1e-5)
    speaker = by_hand(toy, study, "speaker network", CLIP, layer, method, target=2)  # speaker2
    np.testing.assert_allclose(drawn(explorer, "speaker network"), speaker, atol=1e-5)


def test_the_explained_class_can_be_chosen(explorer, study, toy):
    explorer.controls["target"].value = "word2"
    np.testing.assert_allclose(
        drawn(explorer, "WI seed 0"), by_hand(toy, study, "WI seed 0", CLIP, target=2), atol=1e-5
    )
    explorer.controls["target"].value = "predicted"
    np.testing.assert_allclose(drawn(explorer, "WI seed 0"), by_hand(toy, study, "WI seed 0", CLIP), atol=1e-5)


def test_opacity_and_difference_to_the_baseline(explorer, study, toy):
    explorer.controls["opacity"].value = 0.25
    assert {t.opacity for t in explorer.views["maps"].figure.data[2::2]} == {0.25}
    explorer.controls["difference"].value = True
    at, base = (by_hand(toy, study, n, CLIP, target=1) for n in ("AT conv1 beta 0.5 seed 0", "baseline seed 0"))
    np.testing.assert_allclose(drawn(explorer, "AT conv1"), at - base, atol=1e-5)
    np.testing.assert_allclose(drawn(explorer, "baseline seed 0"), base, atol=1e-5)
    explorer.controls["reference"].value = "WI seed 0"
    np.testing.assert_allclose(
        drawn(explorer, "AT conv1"), at - by_hand(toy, study, "WI seed 0", CLIP, target=1), atol=1e-5
    )


def test_the_crossed_design_pairs_the_clip(explorer, study, toy):
    explorer.controls["pair_by"].value = "speaker"
    assert values(explorer.controls["pair_value"]) == ["speaker0", "speaker1", "speaker3"]
    explorer.controls["pair_value"].value = "speaker3"
    explorer.change(align=False, layer="conv5", method="EigenCAM")
    rows = pairs.counterparts(toy, studies.row_of(toy, CLIP), "speaker", "word")
    other = toy.factors.iloc[rows["speaker3"]]
    assert (other["word"], other["speaker"]) == ("word1", "speaker3")
    one, two = (by_hand(toy, study, "baseline seed 0", clip, "conv5", "EigenCAM", 1) for clip in (CLIP, other["id"]))
    heats = [t for t in explorer.views["maps"].figure.data if t.name.startswith("baseline seed 0")]
    np.testing.assert_allclose(heats[1].z, two, atol=1e-5)
    shown = [a.text for a in explorer.views["maps"].figure.layout.annotations]
    assert f"r = {stats.pearsonr(one.ravel(), two.ravel()).statistic:.2f}" in shown


def test_agreement_is_averaged_over_pairs_with_its_interval(explorer, study, toy):
    explorer.change(pair_by="speaker", align=False, pairs=5, layer="conv5", method="EigenCAM")
    points = next(t for t in explorer.views["agreement"].figure.data if t.name == "baseline seed 0, pairs")
    drawn = pairs.drawn(toy, np.arange(48), "speaker", "word", 5, 0.0)
    mine = []
    for one, two in drawn:
        first, second = toy.factors.iloc[one.row], toy.factors.iloc[two.row]
        assert first["word"] == second["word"] and first["speaker"] != second["speaker"]
        target = int(first["word"][-1])
        a, b = (by_hand(toy, study, "baseline seed 0", c["id"], "conv5", "EigenCAM", target) for c in (first, second))
        mine.append(stats.pearsonr(a.ravel(), b.ravel()).statistic)
    np.testing.assert_allclose(points.y, mine, atol=1e-4)
    half = stats.t.ppf(0.975, 4) * np.std(mine, ddof=1) / np.sqrt(5)
    said = (
        f"baseline seed 0 {np.mean(mine):.2f} [{max(np.mean(mine) - half, -1):.2f}, {min(np.mean(mine) + half, 1):.2f}]"
    )
    assert said in explorer.texts["agreement"].value
    explorer.controls["pairs"].value = 0
    assert explorer.views["agreement"].layout.display == "none" and explorer.texts["agreement"].value == ""


def test_noise_makes_a_pair_of_the_clip_with_itself(explorer, toy):
    explorer.change(pair_by="noise", pair_value="hum", snr_db=0.0)
    grounds = [t.name for t in explorer.views["maps"].figure.data if t.name.endswith("hum at 0 dB SNR")]
    assert explorer.message == "" and len(grounds) == 5
    heard, _ = soundfile.read(io.BytesIO(explorer.player.sounds["pair"]), dtype="int16")
    clean = toy.read([studies.row_of(toy, CLIP)])[0]
    assert len(heard) == len(clean) and not np.array_equal(heard, clean)
    assert "second clip" not in explorer.views["maps"].figure.layout.title.text  # the same clip: no lag


def test_counterparts_are_alike_in_all_else():
    """Against a search through the whole table of a crossed design."""
    import itertools
    from types import SimpleNamespace

    import pandas as pd

    rows = list(itertools.product(["a", "b"], ["s0", "s1", "s2"], ["sad", "happy"], [0, 1]))
    table = pd.DataFrame(rows, columns=["word", "speaker", "emotion", "repetition"]).sample(
        frac=1, random_state=1, ignore_index=True
    )

    class Table(SimpleNamespace):
        def __len__(self):
            return len(self.factors)

    fs = Table(factors=table, factor_names=["word", "speaker", "emotion"], classes=lambda f: sorted(set(table[f])))
    for row in range(0, len(table), 5):
        clip = table.iloc[row]
        for factor in fs.factor_names:
            for value, found in pairs.counterparts(fs, row, factor, "word").items():
                assert table.iloc[found].to_dict() == {**clip.to_dict(), factor: value}
    assert set(pairs.counterparts(fs, 0, "speaker", "word")) == {"s0", "s1", "s2"} - {table["speaker"][0]}
    one = Table(
        factors=table[table["speaker"] == "s0"].reset_index(), factor_names=fs.factor_names, classes=lambda f: ["s0"]
    )
    with pytest.raises(AtlabError, match="no clip differs from this one in 'speaker' alone"):
        pairs.counterparts(one, 0, "speaker", "word")


def test_the_sound_under_a_map_is_the_masked_transform_with_its_phase(toy):
    wave = toy.read([5])[0]
    mask = np.random.default_rng(0).random((129, 33)).astype(np.float32)
    options = {"window": signal.get_window("hamming", 256), "nperseg": 256, "noverlap": 128}
    _, _, spectrum = signal.stft(wave / 32768, boundary="zeros", padded=False, **options)
    for threshold, gain in ((0.0, mask), (0.4, mask >= 0.4)):
        _, mine = signal.istft(spectrum * gain, boundary=True, **options)
        np.testing.assert_allclose(compute.masked_sound(wave, mask, threshold), mine[: len(wave)], atol=1e-5)
    with pytest.raises(AtlabError, match=r"a map of \(2, 3\) does not fit"):
        compute.masked_sound(wave, np.ones((2, 3)))


def test_what_is_heard_follows_network_and_threshold(explorer, study, toy):
    explorer.change(layer="conv5", method="EigenCAM", network="WI seed 0", networks=NETWORKS, threshold=0.5)
    heard, _ = soundfile.read(io.BytesIO(explorer.player.sounds["selected"]))
    wave = toy.read([studies.row_of(toy, CLIP)])[0]
    mine = compute.masked_sound(wave, by_hand(toy, study, "WI seed 0", CLIP, "conv5", "EigenCAM", 1), 0.5)
    np.testing.assert_allclose(heard, mine, atol=1e-4)
    explorer.controls["threshold"].value = 0.0
    assert not np.allclose(soundfile.read(io.BytesIO(explorer.player.sounds["selected"]))[0], heard)


def test_profiles_are_shares_by_band_and_time(explorer, study, toy):
    explorer.change(layer="conv5", method="EigenCAM")
    mine = by_hand(toy, study, "WI seed 0", CLIP, "conv5", "EigenCAM", 1).astype(float)
    edges = [0, 250, 500, 1000, 2000, 4000, np.inf]
    bands = np.zeros(6)
    for frequency, row in zip(np.arange(129) * 62.5, mine, strict=True):
        bands[[low <= frequency < high for low, high in itertools.pairwise(edges)].index(True)] += row.sum()
    traces = {(t.type, t.name): t for t in explorer.views["profiles"].figure.data}
    np.testing.assert_allclose(traces["bar", "WI seed 0"].y, bands / bands.sum(), rtol=1e-4)
    np.testing.assert_allclose(traces["scatter", "WI seed 0"].y, mine.sum(0) / mine.sum(), rtol=1e-4)
    assert list(traces["bar", "sound"].x)[-1] == "4-8"


def test_sounds_that_come_later_are_aligned(toy):
    wave = toy.read([3])[0].copy()
    wave[:1024] = 0
    wave[2560:] = 0
    late = np.roll(wave, 5 * 128)
    one, other = (compute.Sample(("lag", n), w, n, "") for n, w in enumerate((wave, late)))
    assert pairs.lag(toy, one, other) == 5 and pairs.lag(toy, other, one) == -5
    maps = np.random.default_rng(0).random((2, 129, 33))
    assert pairs.agreement(maps[0], np.roll(maps[0], 5, axis=1), 5) == pytest.approx(1)
    mine = stats.pearsonr(maps[0][:, 3:].ravel(), maps[1][:, :-3].ravel()).statistic
    assert pairs.agreement(maps[0], maps[1], -3) == pytest.approx(mine)
    assert np.isnan(pairs.agreement(maps[0], maps[1], 33))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"study": "runs/absent"}, "There is no study folder 'runs/absent'"),
        ({"layer": "conv55"}, "Unknown layer 'conv55'; nearest: 'conv5'"),
        ({"clip": "spk01-sad-one-0"}, "it belongs to another data set"),
        ({"networks": ("AT seed 9",)}, "Unknown network 'AT seed 9'"),
        ({"extra": "gone/model.safetensors"}, "gone"),
        ({"method": "SaliencyCAM"}, "Unknown map method 'SaliencyCAM'"),
        ({"target": "word77"}, "Unknown class 'word77'; nearest: 'word"),
        ({"network": "nobody", "networks": NETWORKS}, "Unknown network to hear 'nobody'"),
        ({"pair_by": "accent"}, "Unknown factor 'accent'"),
        ({"pair_by": "speaker", "pair_value": "speaker7"}, "Unknown value of 'speaker' for the pair 'speaker7'"),
        ({"data": "nowhere"}, "No data set at 'nowhere'"),
    ],
)
def test_what_cannot_be_shown_is_said(explorer, change, said):
    explorer.change(**change)
    assert said in explorer.message and "Traceback" not in explorer.message


def test_an_empty_study_a_lost_model_and_foreign_data_are_said(explorer, study, toy, tmp_path):
    import shutil

    import atlab

    (tmp_path / "empty").mkdir()
    explorer.change(study=str(tmp_path / "empty"))
    assert "has no finished run yet" in explorer.message
    shutil.copytree(study, tmp_path / "small")
    shutil.copytree(study.parent / "networks", tmp_path / "networks")
    explorer.change(study=str(tmp_path / "small"), networks=NETWORKS, layer="conv5")
    lost = studies.networks(str(tmp_path / "small"))["WI seed 0"].path
    lost.unlink()
    explorer.refresh()
    assert f"The model file of 'WI seed 0' is gone: {lost}" in explorer.message
    assert len(explorer.views["maps"].figure.data) == 2 * (1 + 2 * 3)  # the others are shown
    other = atlab.data.toy(tmp_path / "other", words=3, speakers=4, repetitions=2, samples=4096, seed=7)
    explorer.change(study=str(study), data=str(other.path), networks=NETWORKS)
    assert "baseline seed 0 was trained on another data set than toy" in explorer.message


def test_another_model_file_joins_the_columns(explorer, study):
    path = studies.networks(str(study))["WI seed 2"].path
    explorer.change(extra=str(path))
    assert explorer.views["maps"].figure.data[-1].name.startswith(path.parent.name)
    explorer.change(extra="", networks=(path.parent.name,))  # a run's id names it too
    assert explorer.views["maps"].figure.data[-1].name.startswith("WI seed 2")


def test_state_and_code_bring_the_view_back(explorer):
    explorer.change(layer="conv9", pair_by="speaker", opacity=0.3, difference=True)
    assert explore.open(explorer.state, threaded=False).explorer.state == explorer.state
    space: dict = {}
    exec(explorer.code.rpartition("for figure")[0], space)
    assert space["figures"]["maps"] == explorer.views["maps"].figure


def test_labels_tell_runs_apart():
    run = {"role": "student", "strategy": "at", "layers": "conv5", "beta": 1.0, "seed": 3, "orthogonal": "speaker"}
    assert naming.arm_name(run, {"layers", "beta"}) == "AT conv5 beta 1.0"
    assert naming.arm_name(run | {"strategy": "baseline"}, {"layers", "beta", "orthogonal"}) == "baseline"
    assert naming.arm_name(run | {"strategy": "wi"}, {"layers", "orthogonal"}) == "WI speaker"
    assert naming.unique(["a", "a", "b"], ["1234567", "7654321", "x"]) == ["a (123456)", "a (765432)", "b"]


class Crossed:
    """Pictures by factor, of which several are made from one source."""

    factor_names = ("digit", "ink", "background")

    def __init__(self, *rows):
        self.factors = pd.DataFrame(rows, columns=["source", *self.factor_names])

    def classes(self, factor):
        return sorted(set(self.factors[factor]))


def test_the_other_picture_is_made_from_the_same_source_where_there_is_one_and_else_it_is_said():
    first, foreign, own = ("a", "1", "red", "sky"), ("b", "1", "green", "sky"), ("a", "1", "green", "sky")
    apart = ("a", "1", "green", "leaves")
    fs = Crossed(first, foreign, own, apart)
    one = compute.Sample("one", np.zeros(1), 0, "")
    assert pairs.counterparts(fs, 0, "ink", "digit") == {"green": 2}
    assert pairs.told(fs, one, replace(one, row=2), "ink") == ""
    fs = Crossed(first, foreign, apart)
    assert pairs.counterparts(fs, 0, "ink", "digit") == {"green": 1}
    assert "differs in more than ink: in source (a / b). Two sources are two originals" in pairs.told(
        fs, one, replace(one, row=1), "ink"
    )
    assert pairs.also(fs, 0, 2, "ink") == ["background"]


def test_a_speaker_of_the_same_voice_is_paired_first():
    words, speakers = ("no", "yes"), {"ann": "low", "bob": "high", "cid": "low"}
    table = pd.DataFrame([(w, s, v) for w in words for s, v in speakers.items()], columns=["word", "speaker", "voice"])
    crossed = types.SimpleNamespace(
        factors=table, factor_names=["word", "speaker", "voice"], classes=lambda name: sorted(set(table[name]))
    )
    values = pairs.counterparts(crossed, 0, "speaker", "word")
    assert values == {"bob": 1, "cid": 2} and pairs.closest(crossed, 0, values, "speaker") == ["cid"]
    assert pairs.also(crossed, 0, 1, "speaker") == ["voice"] and pairs.also(crossed, 0, 2, "speaker") == []
