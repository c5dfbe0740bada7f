"""Features against plain loops over taps, in memory and in files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atlab import Taps
from atlab.data import Batches, InMemory
from atlab.errors import AtlabError
from atlab.invariance import features


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_pooling_is_mean_and_standard_deviation_over_positions(layout, dtype):
    maps = (5 + torch.randn(7, 6, 33, 41)).to(dtype).contiguous(memory_format=layout)
    want = maps.double().flatten(2)
    exact = 1e-12 if dtype == torch.float64 else 1e-5
    both = torch.cat([want.mean(2), want.std(2, correction=0)], 1)
    torch.testing.assert_close(features.mean_std(maps).double(), both, rtol=exact, atol=exact)
    torch.testing.assert_close(features.pooled(maps, "mean").double(), want.mean(2), rtol=exact, atol=exact)


def test_pooling_takes_any_number_of_positions(monkeypatch):
    x = torch.randn(5, 3, 40)
    monkeypatch.setattr(features, "BLOCK", 130)  # one clip at a time
    torch.testing.assert_close(features.pooled(x), torch.cat([x.mean(2), x.std(2, correction=0)], 1))
    assert features.pooled(x[:, :, 0]) is not None and torch.equal(features.pooled(x[:, :, 0]), x[:, :, 0])


def test_extracting_equals_a_loop_over_clips(tones, networks):
    rows = np.array([3, 50, 7, 80, 81])
    found = features.extract(networks[0], features.batches_of(tones, rows, batch_size=2), precision="fp32")
    assert list(found) == [f"conv{n}" for n in range(1, 14)] and found.rows.tolist() == rows.tolist()
    with torch.no_grad(), Taps(networks[0], ["conv3", "conv13"]) as taps:
        for i, batch in enumerate(features.batches_of(tones, rows, batch_size=1).epoch(0)):
            logits = networks[0](batch.x)
            np.testing.assert_allclose(found.logits[i], logits[0], atol=1e-5)
            for layer in ("conv3", "conv13"):
                maps = taps[layer][0].flatten(1).numpy()
                np.testing.assert_allclose(found[layer][i], np.r_[maps.mean(1), maps.std(1)], rtol=1e-3, atol=1e-6)


def test_files_hold_what_memory_would(tones, networks, tmp_path, monkeypatch):
    batches = features.batches_of(tones, range(20), batch_size=8)
    inside = features.extract(networks[0], batches, ["conv1", "conv5.pre", "classifier.0"])
    filed = features.extract(networks[0], batches, ["conv1", "conv5.pre", "classifier.0"], folder=tmp_path / "f")
    monkeypatch.setattr(features, "IN_MEMORY", 100)
    spilled = features.extract(networks[0], batches, ["conv1", "conv5.pre", "classifier.0"])
    assert inside.folder is None and filed.folder == tmp_path / "f"
    for layer, array in inside.items():
        assert isinstance(filed[layer], np.memmap) and isinstance(spilled[layer], np.memmap)
        np.testing.assert_array_equal(array, filed[layer])
        np.testing.assert_array_equal(array, spilled[layer])
    assert (
        inside["classifier.0"].shape == (20, 256) and (inside["conv5.pre"] < 0).any()
    )  # vectors stay, convolutions have signs
    place = spilled.folder
    assert place.is_dir()
    del spilled
    assert not place.exists()


def test_the_network_is_left_as_it_was(tones, networks):
    model = networks[0]
    model.train()
    before = sum(len(m._forward_hooks) for m in model.modules())
    features.extract(model, features.batches_of(tones, range(4)), "conv1")
    assert model.training and sum(len(m._forward_hooks) for m in model.modules()) == before
    model.eval()


def test_what_cannot_be_extracted_is_named(tones, networks):
    batches = features.batches_of(tones, range(4))
    with pytest.raises(AtlabError, match="nearest: 'conv1'"):
        features.extract(networks[0], batches, "convv1")
    with pytest.raises(AtlabError, match="unknown pooling rule 'max'"):
        features.extract(networks[0], batches, "conv1", "max")
    with pytest.raises(AtlabError, match="must not be shuffled"):
        features.extract(networks[0], Batches(tones, range(4), tones.codes("word"), shuffle=True), "conv1")
    with pytest.raises(AtlabError, match=r"must be \[B, C, ...\]"):
        features.pooled(torch.zeros(3))
    with pytest.raises(AtlabError, match="name the layers"):
        features.extract(torch.nn.Linear(2, 2), InMemory(torch.zeros(4, 2), torch.zeros(4)))
    with pytest.raises(AtlabError, match="unknown layer 'conv2'; nearest: 'conv1'"):
        features.extract(networks[0], batches, "conv1")["conv2"]


def test_named_layers_of_any_network():
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    x = torch.randn(9, 4)
    found = features.extract(model, InMemory(x, torch.zeros(9), batch_size=4), ["0", "1"], precision="fp32")
    with torch.no_grad():
        np.testing.assert_allclose(found["1"], model[:2](x), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["0"], model[0](x), rtol=1e-5, atol=1e-6)  # before the non-linearity
