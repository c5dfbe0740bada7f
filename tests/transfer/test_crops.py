"""Crops of images: where they are cut, how often they are mirrored, the order of the images, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import atlab
from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.transfer.crops import Crops


def images(clips: int = 400, side: int = 6) -> InMemory:
    """Every pixel says where it is: row in channel 0, column in channel 1."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    x = torch.stack([rows, columns]).float().expand(clips, 2, side, side).contiguous()
    return InMemory(x, torch.arange(clips) % 2, batch_size=64, shuffle=True, rows=torch.arange(clips) + 7)


def test_random_crops_are_cut_evenly_and_mirrored_half_of_the_time():
    torch.manual_seed(0)
    x = torch.cat([batch.x for batch in Crops(images(), 4, random=True).epoch(0)]).numpy()
    top, left, mirrored = x[:, 0, 0, 0], x[:, 1].min((1, 2)), x[:, 1, 0, 0] > x[:, 1, 0, -1]
    for k in range(len(x)):
        columns = left[k] + np.arange(4)
        assert np.array_equal(x[k, 0], np.repeat(top[k] + np.arange(4), 4).reshape(4, 4))
        assert np.array_equal(x[k, 1], np.tile(columns[::-1] if mirrored[k] else columns, (4, 1)))
    places = np.bincount((3 * top + left).astype(int), minlength=9)
    assert len(places) == 9 and places.min() > 20 and 150 < mirrored.sum() < 250


def test_central_crops_are_the_middle_and_order_and_labels_stay():
    whole, data = Crops(images(), 4), images()
    for crop, image in zip(whole.epoch(3), data.epoch(3), strict=True):
        assert torch.equal(crop.x, image.x[:, :, 1:5, 1:5])
        assert torch.equal(crop.y, image.y) and torch.equal(crop.index, image.index)
    assert (whole.clips, len(whole), whole.augmented) == (400, 7, False)
    again = Crops(images(), 4, random=True)
    assert again.augmented and len({whole.identity, again.identity, Crops(images(), 5).identity}) == 3


def test_a_training_on_crops_killed_and_taken_up_again_sees_the_same_ones(tmp_path, monkeypatch):
    def train(path=None, stop=False):
        torch.manual_seed(1)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32, 2))
        calls = iter(range(100))

        def term(x, index):
            if stop and next(calls) == 9:
                raise KeyboardInterrupt
            return 0 * x.sum()

        options = {"epochs": 2, "checkpoint": path, "checkpoint_every": 0, "progress": False, "device": "cpu"}
        return atlab.training.fit(net, Crops(images(), 4, True), Crops(images(90), 4), loss_terms=[term], **options)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c", stop=True)
    resumed, whole = train(tmp_path / "c"), train()
    assert resumed["train_loss"].tolist() == whole["train_loss"].tolist()


def test_a_crop_that_is_larger_than_the_images_is_refused():
    with pytest.raises(AtlabError, match="a crop of 7 x 7 cannot be cut from images of 6 x 6"):
        Crops(images(), 7)
