"""The frozen network of the orthogonal task, run only as far as it is needed."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from atlab.taps import Taps, _record, run_up_to, unwrap


class Teacher:
    """A frozen copy of a network trained for the orthogonal task.

    It never trains: evaluation mode, no gradient, no drift of batch-norm statistics. Its forward stops at the last of
    `layers`. It follows its input to another device. A network of atlab normalises the input by its own statistics;
    another one sees what the student sees.

    Args:
        model: any network trained for the orthogonal task; copied, so the original may go on training.
        layers: layer name or names (see `Taps`).

    Raises:
        AtlabError: unknown layer.

    >>> import atlab
    >>> teacher = Teacher(atlab.models.vgg16(num_classes=24, width=1 / 8), layers=["conv5", "conv9"])
    >>> {layer: tuple(f.shape) for layer, f in teacher(torch.randn(2, 1, 126, 129)).items()}
    {'conv5': (2, 32, 31, 32), 'conv9': (2, 64, 15, 16)}
    """

    def __init__(self, model: nn.Module, layers: str | Iterable[str]) -> None:
        self.model = _without_taps(copy.deepcopy(unwrap(model))).eval().requires_grad_(False)
        self._taps = Taps(self.model, layers)
        self.layers = self._taps.layers
        self._layout = (None, None)

    @torch.no_grad()
    def __call__(self, x: Tensor, channels_last: bool = False) -> dict[str, Tensor]:
        """Feature maps of x [B, ...] at each layer, without gradient: {layer: [B, C, H, W]}."""
        layout = (x.device, torch.channels_last if channels_last else torch.contiguous_format)
        if layout != self._layout:
            self.model.to(device=layout[0], memory_format=layout[1])
            self._layout = layout
        return run_up_to(self.model, self._taps, x)

    def targets(
        self, x: Tensor, index: Tensor | None = None, channels_last: bool = False
    ) -> dict[str, Tensor]:
        """What the student is compared with at each layer; `index` is for teachers that remember clips."""
        return self(x, channels_last)

    @property
    def identity(self) -> str:
        """Hash of the weights, and the layers."""
        from atlab.models import weights_hash

        return f"{weights_hash(self.model)} {','.join(self.layers)}"

    def close(self) -> None:
        """Remove every hook."""
        self._taps.close()


def _without_taps(model: nn.Module) -> nn.Module:
    """A copy of a tapped network must not go on recording into the copied taps."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, functools.partial) and hook.func is _record:
                del module._forward_hooks[key]
    return model
