"""Read named layers' activations in the forward pass that happens anyway."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError, unknown


class Taps:
    """Keeps the output of named layers from the model's latest forward pass, with its gradient.

    A layer is a name of the model's `tap_points` ("conv5": after the non-linearity of the fifth convolution,
    "conv5.pre": before it) or of its `named_modules()`. A module called several times in one forward keeps its
    last output; one that returns a tuple keeps its first tensor. Wrapped models (DistributedDataParallel,
    torch.compile) are looked through. Use it as a context manager, or `close()` it, to remove every hook.

    Raises:
        AtlabError: unknown layer (with the nearest names); a layer read before a forward pass filled it.

    >>> import atlab
    >>> net = atlab.models.vgg16(num_classes=10, width=1 / 8)
    >>> with Taps(net, ["conv1", "conv5"]) as taps:
    ...     logits = net(torch.randn(2, 1, 126, 129))
    ...     taps["conv5"].shape
    torch.Size([2, 32, 31, 32])
    """

    def __init__(self, model: nn.Module, layers: str | Iterable[str], of: str = "") -> None:
        self.layers = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
        if not self.layers:
            raise AtlabError("no layer to tap: name at least one")
        model = unwrap(model)
        modules = {layer: find_layer(model, layer, of) for layer in self.layers}
        self._outputs: dict[str, Tensor] = {}
        self._versions: dict[str, int | None] = {}
        handles = [
            module.register_forward_hook(functools.partial(_record, self._outputs, self._versions, layer))
            for layer, module in modules.items()
        ]
        self._close = weakref.finalize(self, _remove, handles)

    def __getitem__(self, layer: str) -> Tensor:
        """The layer's output in the latest forward pass."""
        if layer not in self.layers:
            raise unknown("tapped layer", layer, self.layers)
        if layer not in self._outputs:
            raise AtlabError(
                f"layer {layer!r} has no activation: run the model's forward pass first (once a step; the loss takes it). "
                "If the model was compiled, tap it before its first compiled call."
            )
        output, version = self._outputs[layer], self._versions[layer]
        if version is not None and output._version != version:
            raise AtlabError(
                f"layer {layer!r} was overwritten in place by a later module; tap that later module instead"
            )
        return output

    def pop(self, layer: str) -> Tensor:
        """The layer's output, forgotten here so that its graph is not kept alive after the step."""
        output = self[layer]
        del self._outputs[layer], self._versions[layer]
        return output

    def clear(self) -> None:
        """Forget all outputs."""
        self._outputs.clear()
        self._versions.clear()

    def close(self) -> None:
        """Remove every hook from the model and forget all outputs."""
        self._close()
        self.clear()

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Stop(Exception):
    """Ends a forward pass whose last tapped layer was reached."""


def run_up_to(model: nn.Module, taps: Taps, x: Tensor) -> dict[str, Tensor]:
    """Run `model` on x until every tapped layer is filled, then stop: {layer: output}."""
    taps.clear()

    def stop_when_full(*_: object) -> None:
        if len(taps._outputs) == len(taps.layers):
            raise _Stop

    modules = [find_layer(model, layer) for layer in taps.layers]
    handles = [module.register_forward_hook(stop_when_full) for module in modules]
    try:
        model(x)
    except _Stop:
        pass
    finally:
        _remove(handles)
    return {layer: taps.pop(layer) for layer in taps.layers}


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside torch.compile and (distributed) data-parallel wrappers."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def find_layer(model: nn.Module, layer: str, of: str = "") -> nn.Module:
    """The module of a layer name; AtlabError with the nearest names if there is none."""
    tap_points = getattr(model, "tap_points", {})
    modules = dict(model.named_modules())
    path = tap_points.get(layer, layer)
    if not path or path not in modules:
        raise unknown(f"layer{of}", layer, [*tap_points, *(name for name in modules if name)])
    return modules[path]


def _record(outputs: dict, versions: dict, layer: str, module: nn.Module, _: object, output: object) -> None:
    tensor = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(tensor, Tensor):
        raise AtlabError(f"layer {layer!r} ({type(module).__name__}) returns {type(output).__name__}, not a tensor")
    if getattr(module, "inplace", False):
        # The in-place activation is what is asked for, and nothing that writes in place follows one in practice;
        # its version is kept to notice if something does.
        outputs[layer] = tensor
        versions[layer] = None if torch.compiler.is_compiling() or tensor.is_inference() else tensor._version
    else:
        # A copy, because an in-place activation or addition after this layer would overwrite it.
        outputs[layer], versions[layer] = tensor.clone(), None


def _remove(handles: list) -> None:
    for handle in handles:
        handle.remove()


def without_taps(model: nn.Module) -> nn.Module:
    """A copy of a tapped network must not go on recording into the copied taps."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, functools.partial) and hook.func is _record:
                del module._forward_hooks[key]
    return model
