"""What a clip can be compared with besides the teacher's features: predictions, class means, labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError
from atlab.teachers.cached import CachedTeacher, Clips
from atlab.teachers.live import Teacher
from atlab.teachers.residual import class_means


class StoredTeacher:
    """A teacher that returns a stored value for every clip and runs no network.

    `of_predictions`, `of_class_means` and `of_labels` make one. Predictions and labels are vectors [B, K], which have neither
    positions nor the student's channels: only `clip_kernel` compares them, with the student's features averaged over positions.

    Args:
        what: what is stored, in words.
        values: {layer: values [M, ...]}.
        codes: which of the M values belongs to each clip of the data set [N], -1 for none.

    Raises AtlabError at the call for a clip without a value, and without row numbers.

    >>> teacher = of_labels(["conv5"], torch.tensor([0, 1, 1]))
    >>> teacher.targets(index=torch.tensor([2, 0]))["conv5"]
    tensor([[0., 1.],
            [1., 0.]])
    """

    def __init__(self, what: str, values: Mapping[str, Tensor], codes: Tensor) -> None:
        self.what, self.layers, self._values = what, list(values), dict(values)
        self._codes = torch.as_tensor(codes).cpu()

    def targets(
        self, *inputs: object, index: Tensor | None = None, channels_last: bool = False, **keywords: object
    ) -> dict[str, Tensor]:
        """The value of each layer for the clips of `index` [B] (row numbers); the first input only names the device."""
        if index is None:
            raise AtlabError("a stored teacher needs the clips' row numbers: call at(x, index=batch.index)")
        index = torch.as_tensor(index).cpu()
        known = (index >= 0) & (index < len(self._codes))
        codes = self._codes[index.clamp(0, len(self._codes) - 1)]
        if not bool((known & (codes >= 0)).all()):
            missing = index[~known | (codes < 0)][:5].tolist()
            raise AtlabError(f"clips in rows {missing} have no stored {self.what}")
        device = inputs[0].device if inputs and isinstance(inputs[0], Tensor) else codes.device
        for layer, values in self._values.items():
            self._values[layer] = values.to(device)
        return {layer: values[codes.to(device)] for layer, values in self._values.items()}

    @property
    def identity(self) -> str:
        """Hash of the values and of which clip has which."""
        digest = hashlib.sha256(self._codes.numpy().tobytes())
        for layer, values in self._values.items():
            digest.update(f"{layer} {list(values.shape)}".encode() + values.cpu().contiguous().numpy().tobytes())
        return f"{self.what} {digest.hexdigest()[:16]}"

    @property
    def without_positions(self) -> bool:
        """Whether the values are vectors [B, K]."""
        return any(values.ndim == 2 for values in self._values.values())

    def check_use(self, aggregation: object, wants_features: bool) -> None:
        """AtlabError for an aggregation that needs channels and positions where there are none."""
        if aggregation != "clip_kernel" and self.without_positions:
            raise AtlabError(
                f"{self.what} have neither channels nor positions: expected aggregation 'clip_kernel', got {aggregation!r}"
            )

    def describe(self, layer: str) -> str:
        """What is stored, in words."""
        return self.what

    def close(self) -> None:
        """Nothing is held open."""


AnyTeacher = Teacher | CachedTeacher | StoredTeacher


@torch.no_grad()
def of_predictions(model: nn.Module, layers: Iterable[str], parts: Sequence[Clips]) -> StoredTeacher:
    """The class probabilities [K] that a network predicts for each clip of `parts`, by softmax; float32, computed once.

    >>> import atlab
    >>> clips = atlab.data.InMemory(torch.randn(6, 1, 32, 32), torch.zeros(6, dtype=torch.long))
    >>> teacher = of_predictions(atlab.models.vgg16(num_classes=4, width=1 / 16), ["conv5"], [clips])
    >>> teacher.targets(index=torch.tensor([5]))["conv5"].shape
    torch.Size([1, 4])
    """
    training = model.training
    model.eval()
    found = [(model(x).float().softmax(1), index) for part in parts for x, _, index in part.epoch(0)]
    model.train(training)
    rows = torch.cat([index.cpu() for _, index in found])
    codes = torch.full((int(rows.max()) + 1,), -1)
    codes[rows] = torch.arange(len(rows))
    probabilities = torch.cat([p for p, _ in found])
    return StoredTeacher("predictions", dict.fromkeys(layers, probabilities), codes)


def of_class_means(teacher: Teacher, parts: Sequence[Clips], codes: Tensor) -> StoredTeacher:
    """The teacher's mean feature maps [C, ...] over the clips of `parts` that have a clip's class; over all for a class without any.

    Args:
        codes: class number of every clip of the data set [N], -1 where it is unknown.
    """
    means = class_means(teacher, parts, codes)
    return StoredTeacher("class means", means, _unknown_last(codes))


def of_labels(layers: Iterable[str], codes: Tensor) -> StoredTeacher:
    """Each clip's class as a one-hot vector [K]; zeros where it is unknown (-1)."""
    codes = torch.as_tensor(codes).cpu()
    classes = int(codes.max()) + 1
    if classes < 2:
        raise AtlabError("labels to compare with need at least two classes among the clips")
    one_hot = torch.cat([torch.eye(classes), torch.zeros(1, classes)])
    return StoredTeacher("labels", dict.fromkeys(layers, one_hot), _unknown_last(codes))


def _unknown_last(codes: Tensor) -> Tensor:
    """Class numbers with those that are unknown (-1) after all others."""
    return torch.where(codes < 0, codes.max() + 1, codes)
