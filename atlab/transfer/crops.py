"""Photographs as AlexNet is trained on them: random mirrored crops, and the central crop for everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torchvision.transforms import v2

from atlab.data.loaders import Batch, Source
from atlab.errors import AtlabError


def check_side(side: int, shape: Sequence[int]) -> None:
    """AtlabError for a crop that does not fit into images [..., H, W] of this shape."""
    height, width = shape[-2:]
    if not 1 <= side <= min(height, width):
        raise AtlabError(f"a crop of {side} x {side} cannot be cut from images of {height} x {width}")


class Crops(Source):
    """Batches of crops [B, C, side, side] of the images of `batches`; order and labels are theirs.

    Args:
        batches: a source of batches of images [B, C, H, W].
        side: of the crop, in pixels.
        random: a random place in the image and a mirror image half of the time, anew in every epoch (drawn from PyTorch's
            random state, as dropout is); the centre if False.

    Raises AtlabError for images that are smaller than the crop.

    >>> import atlab
    >>> images = atlab.data.InMemory(torch.rand(5, 3, 32, 32), torch.arange(5), batch_size=2)
    >>> [tuple(batch.x.shape) for batch in Crops(images, 28).epoch(0)]
    [(2, 3, 28, 28), (2, 3, 28, 28), (1, 3, 28, 28)]
    """

    def __init__(self, batches: Source, side: int, random: bool = False) -> None:
        check_side(side, next(iter(batches.epoch(0))).x.shape)
        self.batches, self.side, self.augmented = batches, side, random
        self.rows, self.batch_size, self.shuffle, self.seed = (
            batches.rows,
            batches.batch_size,
            batches.shuffle,
            batches.seed,
        )
        self._random = v2.Compose([v2.RandomCrop(side), v2.RandomHorizontalFlip()])
        self._central = v2.CenterCrop(side)

    @property
    def identity(self) -> str:
        """Hash of the images and of how they are cropped."""
        text = f"{self.batches.identity} {self.side} {self.augmented}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        for x, y, index in self.batches.epoch(number, start):
            crops = torch.stack([self._random(image) for image in x]) if self.augmented else self._central(x)
            yield Batch(crops, y, index)
