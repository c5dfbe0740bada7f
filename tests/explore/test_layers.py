"""The layer explorer: similarities, CKA, Gram matrices, channels and a study's effect against computations made here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from atlab import AtlabError, Taps, explore, models, runs
from atlab.data import frontend, splits
from atlab.explore import studies
from atlab.explore.compute import ablation
from atlab.explore.compute import layers as compute
from atlab.functional.anti_transfer import anti_transfer_loss
from atlab.functional.similarities import linear_cka
from tests.explore.small_study import page

STUDENT = "AT conv5 beta 1.0 seed 1"


@pytest.fixture
def explorer(study):
    return page("layers", study=str(study), teacher="speaker network", network=STUDENT, layer="conv5", clips=8)


def features(fs, study, label, rows, layers):
    """{layer: [B, C, H, W]} without the explorer's code."""
    net = models.load(studies.networks(str(study))[label].path)
    with torch.no_grad(), Taps(net, layers) as taps:
        net(frontend(fs)(torch.from_numpy(fs.read(rows))))
        return {layer: taps[layer].clone() for layer in layers}


def rows_of(fs, count=8, seed=0):
    return np.sort(np.random.default_rng([seed, 11]).permutation(len(fs))[:count])


def test_lines_are_the_loss_at_each_layer_averaged_over_the_seeds_of_baseline_and_at(explorer, study, toy):
    assert explorer.message == ""
    figure = explorer.views["similarity"].figure
    layers, lines = ["conv1", "conv5", "conv13"], {line.name: line for line in figure.data}
    assert list(lines) == ["AT conv5 beta 1.0", "baseline"]
    teacher = features(toy, study, "speaker network", rows_of(toy), layers)
    for arm, line in lines.items():
        students = [features(toy, study, f"{arm} seed {seed}", rows_of(toy), layers) for seed in (0, 1, 2)]
        for layer in layers:
            place = list(line.x).index(layer)
            mine = np.array([float(anti_transfer_loss(one[layer], teacher[layer])) for one in students])
            assert line.y[place] == pytest.approx(mine.mean(), abs=1e-5)
            half = stats.t.ppf(0.975, 2) * mine.std(ddof=1) / np.sqrt(3)
            assert line.error_y.array[place] == pytest.approx(min(half, 1 - mine.mean()), abs=1e-5)
            assert line.error_y.arrayminus[place] == pytest.approx(min(half, mine.mean()), abs=1e-5)
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(3.6, 4.4)]  # where anti-transfer acts: conv5


def test_the_cka_map_compares_every_layer_with_every_layer(explorer, study, toy):
    heat = explorer.views["cka"].figure.data[0]
    assert len(heat.x) == len(heat.y) == 13
    one, other = (
        features(toy, study, name, rows_of(toy), [layer])
        for name, layer in (("speaker network", "conv3"), (STUDENT, "conv7"))
    )
    mine = float(linear_cka(one["conv3"], other["conv7"]))
    assert np.asarray(heat.z)[list(heat.y).index("conv3"), list(heat.x).index("conv7")] == pytest.approx(mine, abs=1e-4)


@pytest.mark.parametrize(
    ("aggregation", "similarity"), [("mean", "cka"), ("position_gram", "squared_cosine"), ("clip_kernel", "cka")]
)
def test_aggregation_and_similarity_can_be_chosen(explorer, study, toy, aggregation, similarity):
    explorer.controls["aggregation"].value, explorer.controls["similarity"].value = aggregation, similarity
    names = ("speaker network", *(f"AT conv5 beta 1.0 seed {seed}" for seed in (0, 1, 2)))
    one, *others = (features(toy, study, name, rows_of(toy), ["conv4"])["conv4"] for name in names)
    mine = np.mean([float(anti_transfer_loss(other, one, aggregation, similarity)) for other in others])
    assert explorer.views["similarity"].figure.data[0].y[3] == pytest.approx(mine, abs=1e-5)


def test_gram_matrices_and_their_product_add_up_to_the_cosine(explorer, study, toy):
    row = 17
    explorer.change(layer="conv6", clip=toy.factors["id"][row])
    flat = [
        features(toy, study, name, [row], ["conv6"])["conv6"][0].flatten(1).double().numpy()
        for name in ("speaker network", STUDENT)
    ]
    mine = [f @ f.T / np.linalg.norm(f @ f.T) for f in flat]
    shown = [np.asarray(t.z) for t in explorer.views["grams"].figure.data]
    for found, wanted in zip(shown, [*mine, mine[0] * mine[1]], strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    cosine = (mine[0] * mine[1]).sum()
    assert f"cosine {cosine:.3f}, squared {cosine**2:.3f}" in explorer.views["grams"].figure.layout.title.text


def test_channel_maps_are_the_teachers_strongest_channels(explorer, study, toy):
    row = 30
    explorer.change(layer="conv2", clip=toy.factors["id"][row], channels=2)
    teacher, student = (
        features(toy, study, n, [row], ["conv2"])["conv2"][0].numpy() for n in ("speaker network", STUDENT)
    )
    order = np.argsort(-(teacher**2).sum((1, 2)))[:2]
    heats = explorer.views["channels"].figure.data
    assert [h.name for h in heats[:2]] == [f"teacher: speaker network, channel {k}" for k in order]
    for heat, (maps, k) in zip(
        heats, [(teacher, order[0]), (teacher, order[1]), (student, order[0]), (student, order[1])], strict=True
    ):
        np.testing.assert_allclose(heat.z, maps[k].T, atol=1e-6)
    assert heats[0].y[-1] < 8000 < heats[0].y[-1] * 1.02  # Hz


def test_large_gram_matrices_show_the_channels_that_matter():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 80, 3, 3))
    one[7] *= 100
    teacher, student, product, cosine, channels = compute.grams(one, other)
    assert (
        teacher.shape == student.shape == product.shape == (64, 64) and 7 in channels and (np.diff(channels) > 0).all()
    )
    flat = [z.reshape(80, -1) for z in (one, other)]
    a, b = (f @ f.T for f in flat)
    assert cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    with pytest.raises(AtlabError, match="Gram matrices of 80 and 4 channels"):
        compute.grams(one, other[:4])


def test_a_click_on_a_layer_opens_it(explorer):
    explorer.views["similarity"].clicked = {"x": "conv11", "y": 0.5, "curve": 0, "count": 1}
    assert explorer.state.layer == "conv11" and "conv11" in explorer.views["grams"].figure.layout.title.text
    explorer.views["cka"].clicked = {"x": "conv2", "y": "conv9", "curve": 0, "count": 1}
    assert explorer.state.layer == "conv2" == explorer.controls["layer"].value


def test_the_effect_is_paired_by_seed(explorer, study):
    table = runs.table(study)
    base = table[table["strategy"] == "baseline"].set_index("seed")
    for trace in explorer.views["effect"].figure.data:
        column = f"{trace.name}_accuracy"
        at = table[table["strategy"] == "at"]
        for layer, mean, half, said in zip(["conv1", "conv5"], trace.y, trace.error_y.array, trace.text, strict=True):
            part = at[at["layers"] == layer]
            mine = 100 * (part[column].to_numpy() - base.loc[part["seed"], column].to_numpy())
            assert (mean, said) == (pytest.approx(mine.mean()), "n = 6")
            assert half == pytest.approx(stats.t.ppf(0.975, 5) * mine.std(ddof=1) / np.sqrt(6))
    explorer.controls["effect"].value = "test"
    assert [t.name for t in explorer.views["effect"].figure.data] == ["test"]


def test_a_baseline_belongs_to_its_seed_data_and_split():
    rows = [
        {
            "strategy": strategy,
            "seed": seed,
            "split": "disjoint",
            "split_by": by,
            "orthogonal": orthogonal,
            "width": 1.0,
            "score": score,
        }
        for strategy, seed, by, orthogonal, score in [
            ("baseline", 0, "speaker", "", 0.5),
            ("baseline", 1, "", "speaker", 0.6),
            ("at", 0, "", "speaker,emotion", 0.8),
            ("at", 1, "speaker", "emotion", 0.5),
            ("at", 1, "", "emotion", 0.9),
            ("at", 2, "", "speaker", 0.9),
        ]
    ]
    table = ablation.students(pd.DataFrame(rows))
    found = ablation.above_baseline(table, "score")
    np.testing.assert_allclose(found, [np.nan, np.nan, 0.3, -0.1, np.nan, np.nan], atol=1e-12)
    with pytest.raises(AtlabError, match="no baseline to subtract"):
        ablation.above_baseline(table[table["strategy"] == "at"], "score")


def test_clips_come_from_a_part_of_the_students_split(study, toy, tmp_path):
    split = splits.random(toy)
    split.save(tmp_path / "split.json", toy)
    found = compute.batch_rows(toy, tmp_path / "model.safetensors", "test", 4, 0)
    assert set(found) <= set(split.test.tolist()) and len(found) == min(4, len(split.test))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": "conv77"}, "Unknown layer 'conv77'; nearest: 'conv7'"),
        ({"layer": "classifier.0"}, "Layer 'classifier.0' has no channel maps"),
        ({"teacher": "nobody"}, "Unknown network 'nobody'"),
        ({"part": "test"}, "is not a stored split"),
        ({"clips": 3}, "CKA needs at least 4 clips, found 3"),
        ({"aggregation": "variance"}, "unknown aggregation 'variance'"),
        ({"study": "runs/gone"}, "There is no study folder 'runs/gone'"),
    ],
)
def test_what_cannot_be_shown_is_said(explorer, change, said):
    explorer.change(**change)
    assert said in explorer.message and "Traceback" not in explorer.message


def test_networks_of_different_width_are_compared_where_they_can_be(explorer, study, toy, tmp_path):
    wide = models.vgg16(3, width=1 / 16)
    models.save(wide, tmp_path / "wide.safetensors", classes=["a", "b", "c"], task="word", data="elsewhere")
    explorer.change(network=str(tmp_path / "wide.safetensors"))
    assert "No anti-transfer similarity" in explorer.message and "cannot be multiplied" in explorer.message
    assert "wide was trained on another data set than toy." in explorer.message
    assert np.isnan(np.asarray(explorer.views["similarity"].figure.data[0].y, float)).all()
    assert np.isfinite(np.asarray(explorer.views["cka"].figure.data[0].z)).all()


def test_a_study_without_baseline_has_no_effect_and_says_so(study, toy, tmp_path):
    import shutil

    for run in runs.table(study).query("strategy == 'at' and seed == 0")["path"]:
        shutil.copytree(run, tmp_path / "at_only" / run.rpartition("/")[2])
    explorer = page("layers", study=str(tmp_path / "at_only"), clips=4)
    assert "no baseline to subtract" in explorer.texts["effect"].value and explorer.message == ""
    assert "<code>atlab sweep fig6_layers</code>" in explorer.texts["effect"].value
    assert explorer.views["effect"].layout.display == "none"
    assert explorer.views["similarity"].figure is not None


def test_state_and_code_bring_the_view_back(explorer):
    explorer.change(layer="conv9", clip="word1-speaker0-1", similarity="cka")
    assert explore.open(explorer.state, threaded=False).explorer.state == explorer.state
    space: dict = {}
    exec(explorer.code.rpartition("for figure")[0], space)
    assert set(space["figures"]) == {"effect", "similarity", "cka", "grams", "channels"}
    for name, figure in space["figures"].items():
        assert figure == explorer.views[name].figure


def test_networks_are_read_in_one_pass_where_memory_allows(study, monkeypatch):
    def opened() -> tuple[list[str], list]:
        explorer = page("layers", study=str(study), clips=4)
        figures = [explorer.views[name].figure for name in ("similarity", "cka")]
        values = [np.asarray(t.z if t.type == "heatmap" else t.y, float) for f in figures for t in f.data]
        return passes, values

    passes: list[tuple] = []
    features = compute._features
    monkeypatch.setattr(
        compute,
        "_features",
        lambda net, fs, samples, layers: (
            passes.append((len(samples), len(layers))) or features(net, fs, samples, layers)
        ),
    )
    _, together = opened()
    assert [layers for clips, layers in passes if clips == 4] == [13] * 7  # a teacher, three baselines, three of AT
    explore.clear()
    passes.clear()
    monkeypatch.setattr(compute, "MEMORY", 1)
    _, apart = opened()
    assert [layers for clips, layers in passes if clips == 4] == [1] * 7 * 13
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
