"""The frozen network of the orthogonal task, run only as far as it is needed."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError
from atlab.taps import Taps, find_layer, run_up_to, unwrap, without_taps


class Teacher:
    """A frozen copy of a network trained for the orthogonal task.

    It never trains: evaluation mode, no gradient, no drift of batch-norm statistics. Its forward stops at the last of
    `layers`; of a network of atlab, what lies behind that is not even copied. It follows its input to another device. A network of atlab normalises the input by its own statistics;
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
        from atlab.models import weights_hash

        model, layers = unwrap(model), [layers] if isinstance(layers, str) else list(layers)
        behind = _behind(model, layers)
        self._weights = weights_hash(model) if behind else ""
        memo = {id(module): _NotCopied(name) for name, module in behind.items()}
        self.model = without_taps(copy.deepcopy(model, memo)).eval().requires_grad_(False)
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

    def targets(self, x: Tensor, index: Tensor | None = None, channels_last: bool = False) -> dict[str, Tensor]:
        """What the student is compared with at each layer; `index` is for teachers that remember clips."""
        return self(x, channels_last)

    @property
    def identity(self) -> str:
        """Hash of the network's weights, copied or not, and the layers."""
        from atlab.models import weights_hash

        return f"{self._weights or weights_hash(self.model)} {','.join(self.layers)}"

    def close(self) -> None:
        """Remove every hook."""
        self._taps.close()


class _NotCopied(nn.Module):
    """Stands for a part of the network that the teacher does not need."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *_: object) -> Tensor:
        raise AtlabError(
            f"the teacher's copy of the network ends before {self.name!r}: run the network itself, or tap a later layer"
        )


def _behind(model: nn.Module, layers: list[str]) -> dict[str, nn.Module]:
    """The parts of a network of atlab that run after the last of `layers`; none of another network, whose order is unknown."""
    features = getattr(model, "features", None)
    if not (hasattr(model, "tap_points") and isinstance(features, nn.Sequential) and hasattr(model, "classifier")):
        return {}
    parts = dict(features.named_children())
    last = 0
    for layer in layers:
        find_layer(model, layer)
        room, _, rest = model.tap_points.get(layer, layer).partition(".")
        if room != "features" or not rest:
            return {}
        last = max(last, list(parts).index(rest.partition(".")[0]))
    later = {f"features.{name}": part for name, part in list(parts.items())[last + 1 :]}
    return later | {"classifier": model.classifier}
