"""Agreement and checks of maps, with networks that look at a known place."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as scipy_stats
from torch import nn

import atlab
from atlab.errors import AtlabError
from atlab.invariance import use
from atlab.invariance.maps import agreement, sanity

SIZE = 24


class Looks(nn.Module):
    """Tells whether there is much in one channel of its input; the other channel does not matter to it."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)
        self.conv.weight.data = torch.eye(2)[:, :, None, None]
        self.head = nn.Linear(2, 2)
        self.head.weight.data = torch.zeros(2, 2)
        self.head.weight.data[:, channel] = torch.tensor([-40.0, 40.0])
        self.head.bias.data = torch.tensor([2.0, -2.0])

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))


def scenes(clips: int, moved: bool = False) -> torch.Tensor:
    """[clips, 2, 24, 24]: a square at the upper left in channel 0, one at the lower right in channel 1, faint noise."""
    x = 0.02 * torch.rand((clips, 2, SIZE, SIZE), generator=torch.Generator().manual_seed(clips))
    place = (13, 3) if moved else (3, 3)
    x[:, 0, place[0] : place[0] + 7, place[1] : place[1] + 7] += 1
    x[:, 1, 14:21, 14:21] += 1
    return x


def test_overlap_equals_a_naive_count():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 5, 8, 9))
    for share in (0.1, 0.3, 0.8):
        count = round(share * 72)
        for i, got in enumerate(agreement.top_overlap(a, b, share)):
            one, other = (set(sorted(range(72), key=lambda k, m=m: -m[i].flat[k])[:count]) for m in (a, b))
            assert got == pytest.approx(len(one & other) / len(one | other))
    assert agreement.top_overlap(a, np.exp(5 * a), 0.2) == pytest.approx(np.ones(5))
    ones = np.stack([np.zeros((8, 9)), np.eye(8, 9)])
    assert np.isnan(agreement.top_overlap(ones, ones)).tolist() == [True, False]
    many = rng.random((2, 400, 20, 20))
    assert agreement.top_overlap(*many, 0.2).mean() == pytest.approx(0.2 / 1.8, abs=0.01)


def test_networks_that_look_at_the_same_place_agree_and_others_do_not():
    clips = atlab.data.InMemory(scenes(5), torch.ones(5, dtype=torch.long), batch_size=2)
    same = agreement.between_models(Looks(0), Looks(0), clips, "conv", progress=False)
    other = agreement.between_models(Looks(0), Looks(1), clips, "conv", progress=False)
    assert same["row"].tolist() == list(range(5)) and same["correlation"].min() > 0.999 and same["overlap"].min() == 1
    assert other["correlation"].max() < 0.1 and other["overlap"].max() < 0.2


class _Scenes:
    """As much of a data set as pairs of maps need: channel 0 moves with the speaker of rows 2 and 3."""

    kind, sample_rate, content_hash = "image", None, "0"
    arrays = torch.cat([scenes(2), scenes(2, moved=True)]).clamp(0, 1).mul(255).byte().numpy()

    def __len__(self):
        return 4

    def read(self, rows):
        return self.arrays[np.asarray(rows)]


def test_pairs_agree_where_nothing_moves():
    factors = pd.DataFrame({"word": ["y"] * 4, "speaker": ["a", "a", "b", "b"]})
    pairs = use.pairs(factors, "speaker", ["word"])
    codes = np.ones(4, int)
    table = agreement.across_pairs(Looks(0), _Scenes(), codes, pairs, "conv", share=0.08, batch_size=1, progress=False)
    by_kind = table.groupby("kind")[["correlation", "overlap"]].mean()
    assert by_kind.loc["repetition"].min() > 0.7 and by_kind.loc["counterfactual"].max() < 0.2
    still = agreement.across_pairs(Looks(1), _Scenes(), codes, pairs, "conv", progress=False)
    assert still["correlation"].min() > 0.9
    whole = agreement.across_pairs(Looks(0), _Scenes(), codes, pairs, "conv", share=0.08, batch_size=8, progress=False)
    pd.testing.assert_frame_equal(table, whole, rtol=1e-5)
    with pytest.raises(AtlabError, match="no pair of clips"):
        agreement.across_pairs(Looks(0), _Scenes(), codes, pairs.iloc[:0], "conv")


@pytest.mark.parametrize("insert", [False, True])
def test_curves_equal_a_naive_loop(insert):
    net, x = Looks(0).train(), scenes(3)
    maps = np.random.default_rng(1).random((3, SIZE, SIZE)).astype(np.float32)
    shares = (0.0, 0.1, 0.5, 1.0)
    got = sanity.perturbation_curve(net, x, maps, [1, 0, 1], insert, shares)
    assert net.training
    for i in range(3):
        order = sorted(range(SIZE**2), key=lambda k, i=i: -maps[i].flat[k])
        for s, share in enumerate(shares):
            top, clip = set(order[: round(share * SIZE**2)]), x[i].clone()
            for k in range(SIZE**2):
                if (k in top) != insert:
                    clip[:, k // SIZE, k % SIZE] = x[i].mean((1, 2))
            want = net(clip[None]).softmax(1)[0, (1, 0, 1)[i]]
            assert got[i, s] == pytest.approx(want.item(), abs=1e-5)


def test_a_true_map_passes_every_check_and_one_of_another_place_fails():
    net, x, classes = Looks(0), scenes(4), [1, 1, 1, 1]
    clips = atlab.data.InMemory(x, torch.tensor(classes), batch_size=3)
    table = sanity.sanity(net, clips, "conv", progress=False)
    found = sanity.summary(table).set_index("check")
    assert len(table) == 4 and (found.loc[["deletion", "insertion", "road"], "low"] > 0).all()
    wrong = atlab.invariance.maps.gradcam.class_activation_map(Looks(1), x, "conv", classes)
    right = atlab.invariance.maps.gradcam.class_activation_map(net, x, "conv", classes)
    assert (sanity.road(net, x, right, classes) > sanity.road(net, x, wrong, classes) + 0.05).all()
    repeated = sanity.road(net, x, right, classes)
    assert np.array_equal(repeated, sanity.road(net, x, right, classes))


def test_road_does_not_depend_on_the_scale_of_inputs_or_maps():
    net, x, classes = Looks(0), scenes(2), [1, 1]
    maps = atlab.invariance.maps.gradcam.class_activation_map(net, x, "conv", classes)

    class Scaled(nn.Module):
        def forward(self, z):
            return net(z / 500)

    want = sanity.road(net, x, maps, classes)
    assert sanity.road(Scaled(), 500 * x, np.sqrt(maps), classes) == pytest.approx(want, abs=1e-3)


def test_weights_are_shuffled_in_a_copy_and_the_map_changes():
    torch.manual_seed(0)
    net = atlab.models.vgg16(4, width=1 / 16)
    before = {name: p.clone() for name, p in net.named_parameters()}
    shuffled = sanity.randomised(net, seed=1)
    for (name, p), q in zip(net.named_parameters(), shuffled.parameters(), strict=True):
        assert torch.equal(p, before[name])
        assert torch.equal(p.flatten().sort().values, q.flatten().sort().values)
        assert p.unique().numel() < 3 or not torch.equal(p, q)
    again = sanity.randomised(net, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(shuffled.parameters(), again.parameters(), strict=True))
    clips = atlab.data.InMemory(torch.rand(4, 1, 32, 32), torch.arange(4))
    table = sanity.sanity(net, clips, "conv3", with_road=False, progress=False)
    assert table["weights"].abs().mean() < 0.9


def test_the_summary_is_the_paired_difference():
    rng = np.random.default_rng(2)
    names = ["deletion", "insertion", "road", "moved_deletion", "moved_insertion", "moved_road", "weights"]
    table = pd.DataFrame(rng.random((200, 7)), columns=names).assign(row=range(200))
    table.loc[3, "weights"] = np.nan
    assert sanity.summary(table.assign(weights=np.nan)).iloc[-1].tolist()[1:] == pytest.approx(
        [np.nan] * 3 + [0], nan_ok=True
    )
    found = sanity.summary(table).set_index("check")
    differences = {"deletion": table["moved_deletion"] - table["deletion"], "road": table["road"] - table["moved_road"]}
    for name, d in differences.items():
        want = scipy_stats.ttest_1samp(d, 0).confidence_interval()
        assert found.loc[name].tolist() == pytest.approx([d.mean(), want.low, want.high, 200], abs=0.01)
    assert found.loc["weights", "n"] == 199


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: agreement.top_overlap(np.ones((1, 2, 2)), np.ones((1, 2, 3))), "maps .* of the same clips and size"),
        (lambda: agreement.top_overlap(np.ones((1, 2, 2)), np.ones((1, 2, 2)), 1.0), "lies between 0 and 1"),
        (lambda: sanity.road(Looks(0), scenes(2), np.ones((2, 3, 3)), [0, 0]), "one map and one class per clip"),
        (
            lambda: sanity.perturbation_curve(Looks(0), scenes(2), np.ones((2, SIZE, SIZE)), [0]),
            "one map and one class",
        ),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call()
