"""The frozen network of the orthogonal task, run only as far as it is needed."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError
from atlab.system.hashing import weights_hash
from atlab.taps import Taps, find_path, layer_names, run_up_to, tensors, unwrap, without_taps


class Teacher:
    """A frozen copy of a network trained for the orthogonal task.

    It never trains: evaluation mode, no gradient, no drift of batch-norm statistics. Its forward stops at the last of
    `layers`; of a network of atlab, what lies beyond is not even copied. It follows its input to another device and
    floating-point type. A network of atlab normalises the input by its own statistics; another one sees what the student sees.

    Args:
        model: any network trained for the orthogonal task; copied, so the original may go on training.
        layers: layer name or names (see `Taps`).
        channel_dim, batch_dim: axes of the layers' outputs, recognised if None (see `Taps`).

    Raises:
        AtlabError: unknown layer; at the call: an input with another number of channels than the network takes, a layer that
            runs several times in one forward pass (the first one is run to its end to see that).

    >>> import atlab
    >>> teacher = Teacher(atlab.models.vgg16(num_classes=24, width=1 / 8), layers=["conv5", "conv9"])
    >>> {layer: tuple(f.shape) for layer, f in teacher(torch.randn(2, 1, 126, 129)).items()}
    {'conv5': (2, 32, 31, 32), 'conv9': (2, 64, 15, 16)}
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Iterable[str],
        channel_dim: int | None = None,
        batch_dim: int | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise AtlabError(
                f"the teacher must be a network (nn.Module), found {type(model).__name__}; a file is read by atlab.models.load"
            )
        model, layers = unwrap(model), layer_names(layers)
        behind = _behind(model, layers)
        self._weights = weights_hash(model)
        memo = {id(module): _NotCopied(name) for name, module in behind.items()}
        self.model = without_taps(copy.deepcopy(model, memo)).eval().requires_grad_(False)
        self._taps = Taps(self.model, layers, " of the teacher", channel_dim, batch_dim)
        self.layers, self.channel_dim, self.batch_dim = self._taps.layers, channel_dim, batch_dim
        self._channels_last = False
        self._runs_once = bool(behind)  # known of a network of atlab, seen in the first forward pass of another

    @torch.no_grad()
    def __call__(self, *inputs: object, channels_last: bool = False, **keywords: object) -> dict[str, Tensor]:
        """Feature maps of the inputs (x [B, ...] first) at each layer, without gradient: {layer: [B, C, ...]}."""
        given = tensors((inputs, keywords))
        self._follow(given, channels_last)
        try:
            maps = run_up_to(self.model, self._taps, *inputs, whole=not self._runs_once, **keywords)
        except AtlabError as error:
            raise AtlabError(f"the teacher, called as the student was: {error}") from None
        except TypeError as error:
            raise AtlabError(
                f"the teacher cannot be called as the student was ({error}); row numbers of clips are given as index=..."
            ) from error
        except RuntimeError as error:
            raise _misfit(self.model, given) or error from None
        self._runs_once = True
        return maps

    def _follow(self, given: list[Tensor], channels_last: bool) -> None:
        """To the device, the floating-point type and the memory format of the inputs, where the weights are not there yet."""
        own = next((p for p in self.model.parameters() if p.is_floating_point()), None)
        if own is None or not given:
            return
        x = next((tensor for tensor in given if tensor.is_floating_point()), None)
        keeps = x is None or x.dtype == own.dtype or torch.is_autocast_enabled(x.device.type)
        dtype = own.dtype if x is None or keeps else x.dtype
        if own.device != given[0].device or own.dtype != dtype:
            self.model.to(given[0].device, dtype)
        if channels_last != self._channels_last:
            layout = torch.channels_last if channels_last else torch.contiguous_format
            self.model.to(memory_format=layout)  # type: ignore[call-overload]  # torch's annotations lack it
            self._channels_last = channels_last

    def targets(
        self, *inputs: object, index: Tensor | None = None, channels_last: bool = False, **keywords: object
    ) -> dict[str, Tensor]:
        """What the student is compared with at each layer; `index` is for teachers that remember clips."""
        return self(*inputs, channels_last=channels_last, **keywords)

    @property
    def identity(self) -> str:
        """Hash of the network's weights, copied or not, and the layers."""
        axes = [
            f"{name}={dim}"
            for name, dim in (("channel_dim", self.channel_dim), ("batch_dim", self.batch_dim))
            if dim is not None
        ]
        return " ".join([self._weights, ",".join(self.layers), *axes])

    def describe(self, layer: str) -> str:
        """The network and one of its layers, in words."""
        return f"{type(self.model).__name__} {layer}"

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
        room, _, rest = find_path(model, layer, " of the teacher").partition(".")
        if room != "features" or not rest:
            return {}
        last = max(last, list(parts).index(rest.partition(".")[0]))
    later = {f"features.{name}": part for name, part in list(parts.items())[last + 1 :]}
    return later | {"classifier": model.get_submodule("classifier")}


def _misfit(model: nn.Module, given: list[Tensor]) -> AtlabError | None:
    """The error for an input of other axes or another number of channels than the network's first convolution takes, if that is so."""
    first: Any = next((m for m in model.modules() if hasattr(m, "in_channels") and hasattr(m, "kernel_size")), None)
    x = given[0] if given else None
    if first is None or x is None:
        return None
    axes = 2 + len(first.kernel_size)
    if x.ndim != axes:
        return AtlabError(
            f"the teacher {type(model).__name__} begins with {type(first).__name__}, which takes inputs of {axes} axes [B, C, ...], found shape "
            f"{tuple(x.shape)}: give the student and the teacher inputs that both take"
        )
    if x.shape[1] == first.in_channels:
        return None
    return AtlabError(
        f"the teacher {type(model).__name__} takes inputs of {first.in_channels} channels, found {x.shape[1]} in shape {tuple(x.shape)}: "
        "give the student and the teacher inputs that both take"
    )
