"""How well a network does on a set of clips, computed over all clips at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from atlab.errors import AtlabError
from atlab.system import devices

if TYPE_CHECKING:
    from atlab.data.loaders import Batch, Batches


@dataclass(frozen=True)
class Evaluation:
    """How a network does on a set of clips; everything is computed over all clips at once.

    Attributes:
        loss: mean cross-entropy (nats). accuracy: share of clips that are right.
        unweighted_average_recall: mean over the classes present of the share of their clips that are right.
        probabilities: [N, K] float64. predictions, codes: [N] predicted and true class numbers, int64.
        rows: [N] the clips' row numbers in their data set, int64.
    """

    loss: float
    accuracy: float
    unweighted_average_recall: float
    probabilities: np.ndarray
    predictions: np.ndarray
    codes: np.ndarray
    rows: np.ndarray


def outputs(
    model: nn.Module,
    batches: Batches,
    mode: devices.Precision,
    *,
    run: Callable[[Tensor], Any] | None = None,
    title: str = "evaluating",
    progress: bool = True,
) -> Iterator[tuple[Batch, Any]]:
    """Every batch with what the network gives for it: without gradients and dropout, on the device and in the precision of `mode`.

    `run` is called with the inputs instead of the network: to stop at a layer, say. The network is left in the mode it had.

    >>> import atlab
    >>> clips = atlab.data.InMemory(torch.zeros(3, 1, 32, 32), torch.tensor([0, 1, 0]), batch_size=2)
    >>> found = outputs(atlab.models.vgg16(num_classes=2, width=1 / 16), clips, devices.precision("fp32", "cpu"))
    >>> [(batch.y.tolist(), tuple(logits.shape)) for batch, logits in found]
    [([0, 1], (2, 2)), ([0], (1, 2))]
    """
    was_training = model.training
    mode.place(model).eval()
    try:
        for batch in tqdm(batches.epoch(0), total=len(batches), desc=title, delay=2, leave=False, disable=not progress):
            with torch.no_grad(), mode.settings(), mode.autocast():
                found = (run or model)(batch.x.to(mode.device))
            yield batch, found
    finally:
        model.train(was_training)


def evaluate(model: nn.Module, batches: Batches, *, precision: str = "auto", progress: bool = True) -> Evaluation:
    """Run the network over all clips, without dropout, on the device where its parameters are.

    Raises AtlabError if there is no clip, or a class number outside the network's.

    >>> import atlab
    >>> clips = atlab.data.InMemory(torch.zeros(3, 1, 32, 32), torch.tensor([0, 1, 0]))
    >>> found = evaluate(atlab.models.vgg16(num_classes=2, width=1 / 16), clips)
    >>> found.probabilities.shape, found.codes.tolist()
    ((3, 2), [0, 1, 0])
    """
    mode = devices.precision(precision, next(model.parameters()).device)
    found = outputs(model, batches, mode, progress=progress)
    parts = [(logits.float(), batch.y, batch.index) for batch, logits in found]
    if not parts:
        raise AtlabError("nothing to evaluate: there is no clip")
    logits, codes, rows = (torch.cat([part[i].cpu() for part in parts]) for i in range(3))
    check_codes(codes, logits.shape[1])
    logs = torch.log_softmax(logits.double(), 1)
    predictions, codes = logs.argmax(1).numpy(), codes.numpy()
    right = predictions == codes
    return Evaluation(
        loss=float(-logs[torch.arange(len(codes)), torch.from_numpy(codes)].mean()),
        accuracy=float(right.mean()),
        unweighted_average_recall=float(np.mean([right[codes == code].mean() for code in np.unique(codes)])),
        probabilities=logs.exp().numpy(),
        predictions=predictions,
        codes=codes,
        rows=rows.numpy(),
    )


def check_codes(codes: Tensor, classes: int) -> None:
    """AtlabError unless all class numbers are those of a network with so many classes."""
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= classes:
        raise AtlabError(
            f"class number {low if low < 0 else high} in the data; the network has {classes} classes, 0 to {classes - 1}"
        )
