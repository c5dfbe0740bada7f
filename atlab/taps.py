"""Read named layers' activations in the forward pass that happens anyway."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from atlab.errors import AtlabError, unknown
from atlab.functional.axes import Axes, recognise, to_maps


class Taps:
    """Keeps the output of named layers from the model's latest forward pass, with its gradient.

    A layer is a name of the model's `tap_points` ("conv5": after the non-linearity of the fifth convolution,
    "conv5.pre": before it) or of its `named_modules()`. A module called several times in one forward keeps its
    last output; one that returns a tuple or mapping keeps its first value. Outputs are seen as [B, C, ...].
    Wrapped models (DistributedDataParallel, torch.compile) are looked through. What runs outside the model's own forward
    pass (one of its parts alone, a checkpointed part in the backward pass) is not recorded. A copied or pickled model
    takes no recording along; copied `Taps` tap the copied model. Use it as a context manager, or `close()` it, to remove
    every hook.

    Args:
        model: the network.
        layers: layer name or names.
        of: said after "unknown layer" in an error.
        channel_dim: axis of the channels in the layers' outputs, 1 for [B, C, ...] and -1 for [B, ..., C]; recognised
            if None (see `functional.axes.recognise`).
        batch_dim: axis of the clips, recognised if None.

    Raises:
        AtlabError: unknown layer (with the nearest names); a layer read before a forward pass filled it, or overwritten
            in place; an output whose axes have to be named.

    >>> import atlab
    >>> net = atlab.models.vgg16(num_classes=10, width=1 / 8)
    >>> with Taps(net, ["conv1", "conv5"]) as taps:
    ...     logits = net(torch.randn(2, 1, 126, 129))
    ...     taps["conv5"].shape
    torch.Size([2, 32, 31, 32])
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Iterable[str],
        of: str = "",
        channel_dim: int | None = None,
        batch_dim: int | None = None,
    ) -> None:
        self.layers = layer_names(layers)
        for name, dim in (("channel_dim", channel_dim), ("batch_dim", batch_dim)):
            if dim is not None and not isinstance(dim, int):
                raise AtlabError(f"{name} is the number of an axis, such as 1 or -1; found {dim!r}")
        self.model, self.channel_dim, self.batch_dim = unwrap(model), channel_dim, batch_dim
        self._paths = {layer: find_path(self.model, layer, of) for layer in self.layers}
        self._axes: dict[str, Axes] = {}
        self._tap()

    def _tap(self) -> None:
        self._record = record = _Record(len(self.layers))
        handles = [
            self.model.register_forward_pre_hook(_Hook(_start, record), with_kwargs=True),
            self.model.register_forward_hook(_Hook(_end, record)),
        ]
        for layer, path in self._paths.items():
            handles.append(self.model.get_submodule(path).register_forward_hook(_Hook(_fill, record, layer)))
        self._close = weakref.finalize(self, _remove, handles)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name not in ("_record", "_close")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        if "_modules" not in vars(self.model):
            raise AtlabError(
                "a tapped network that holds its own taps cannot be copied or pickled: tap the network inside it"
            )
        without_taps(self.model)
        self._tap()

    def __getitem__(self, layer: str) -> Tensor:
        """The layer's output in the latest forward pass, [B, C, ...]."""
        found = self._found(layer)
        if layer not in self._axes:
            self._axes[layer] = recognise(
                self.model, self._paths[layer], found.output, self.channel_dim, self.batch_dim
            )
        return to_maps(found.output, self._axes[layer])

    def _found(self, layer: str) -> _Filled:
        if layer not in self.layers:
            raise unknown("tapped layer", layer, self.layers)
        if layer not in self._record.filled:
            if not self._close.alive:
                raise AtlabError(f"layer {layer!r} has no activation: its taps were closed; make new ones")
            if self._record.taken:
                cause = "the latest forward pass was used already: run the model again before each call of the loss"
            elif self._record.inputs is not None:
                cause = "the model's latest forward pass did not run it (LayerDrop, a branch not taken)"
            else:
                cause = (
                    "run the model's forward pass first, that of the whole model and not of a part of it; a model that was compiled "
                    "before it was tapped records nothing"
                )
            raise AtlabError(f"layer {layer!r} has no activation: {cause}")
        found = self._record.filled[layer]
        if found.version is not None and found.output._version != found.version:
            raise AtlabError(
                f"layer {layer!r} was overwritten in place by a later module; tap that later module instead"
            )
        return found

    def take(self, inputs: object) -> dict[str, Tensor]:
        """Every layer's output in the latest forward pass, forgotten here: {layer: [B, C, ...]}, for a loss on them.

        Raises:
            AtlabError: the first tensor in `inputs` is none that the forward pass was given; a layer that ran several times; a
                layer that has no gradient although gradients and trainable parameters are on.
        """
        self.check_once()
        found = {layer: self[layer] for layer in self.layers}
        given = tensors(inputs)
        _check_same(given[0] if given else None, self._record.inputs or [])
        if torch.is_grad_enabled():
            for layer, maps in found.items():
                if not maps.requires_grad and not self._record.filled[layer].graph and _trains(self.model):
                    raise AtlabError(
                        f"layer {layer!r} was computed without gradient (under no_grad, or in a part checkpointed with use_reentrant=True): "
                        "run the model with gradients, checkpoint with use_reentrant=False"
                    )
        self.clear()
        return found

    def check_once(self) -> None:
        """AtlabError if a layer ran several times in the latest forward pass: its calls return different maps."""
        for layer, calls in self._record.calls.items():
            if calls > 1:
                raise AtlabError(
                    f"layer {layer!r} ran {calls} times in one forward pass: choose a module that runs once, such as the block around it"
                )

    def pop(self, layer: str) -> Tensor:
        """The layer's output, forgotten here so that its graph is not kept alive after the step."""
        output = self[layer]
        del self._record.filled[layer]
        self._record.taken = True
        return output

    def clear(self) -> None:
        """Forget all outputs."""
        self._record.filled, self._record.inputs, self._record.taken = {}, None, True

    def close(self) -> None:
        """Remove every hook from the model and forget all outputs."""
        self._close()
        self.clear()

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Filled(NamedTuple):
    output: Tensor
    version: int | None  # of an output that a later module might overwrite
    graph: bool  # whether gradients were on


class _Record:
    """What the hooks write: the inputs and the layers' outputs of the latest forward pass."""

    def __init__(self, layers: int) -> None:
        self.layers, self.running, self.taken, self.stop = layers, False, False, False
        self.inputs: list[tuple[Tensor, int | None]] | None = None
        self.filled: dict[str, _Filled] = {}
        self.calls: dict[str, int] = {}


class _Hook:
    """A hook that a copy or pickle of its module replaces by one that does nothing."""

    def __init__(self, function, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __call__(self, *given: object) -> None:
        self.function(*self.arguments, *given)

    def __reduce__(self) -> tuple:
        return _Hook, (_nothing,)


def _nothing(*_: object) -> None:
    pass


def _start(record: _Record, _: nn.Module, arguments: tuple, keywords: dict) -> None:
    if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
        return  # checkpointing runs the model again in the backward pass
    record.inputs = [(x, _version(x)) for x in tensors((arguments, keywords))]
    record.filled, record.calls, record.running, record.taken = {}, {}, True, False


def _end(record: _Record, *_: object) -> None:
    record.running = False


def _fill(record: _Record, layer: str, module: nn.Module, _: object, output: object) -> None:
    if not record.running:
        return
    while isinstance(output, (tuple, list, Mapping)) and output and not isinstance(output, PackedSequence):
        output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    if not isinstance(output, Tensor):
        raise AtlabError(f"layer {layer!r} ({type(module).__name__}) returns {type(output).__name__}, not a tensor")
    record.calls[layer] = record.calls.get(layer, 0) + 1
    if getattr(module, "inplace", False):
        # The in-place activation is what is asked for, and nothing that writes in place follows one in practice;
        # its version is kept to notice if something does.
        record.filled[layer] = _Filled(output, _version(output), torch.is_grad_enabled())
    else:
        # A copy, because an in-place activation or addition after this layer would overwrite it.
        record.filled[layer] = _Filled(output.clone(), None, torch.is_grad_enabled())
    if record.stop and len(record.filled) == record.layers:
        raise _Stop


def _version(x: Tensor) -> int | None:
    return None if torch.compiler.is_compiling() or x.is_inference() else x._version


def _remove(handles: list) -> None:
    for handle in handles:
        handle.remove()


def tensors(value: object) -> list[Tensor]:
    """The tensors in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def _check_same(x: Tensor | None, seen: list[tuple[Tensor, int | None]]) -> None:
    """AtlabError unless x is one of the inputs seen, by identity or (moved or cast by a wrapper) by value."""
    if x is None:
        raise AtlabError("expected the input that the model was given, to know that its activations belong to it")
    for other, version in seen:
        if x is other:
            if version not in (None, _version(x)):
                raise AtlabError("the model's input was changed in place since its forward pass: give it a new tensor")
            return
    for other, _ in seen:
        if x.shape == other.shape and torch.equal(x.detach().to(other), other.detach()):
            return
    shapes = ", ".join(str(tuple(other.shape)) for other, _ in seen) or "no tensor"
    alike = any(x.shape == other.shape for other, _ in seen)
    raise AtlabError(
        "the model's latest forward pass was on another input: call the loss with the same input, right after the forward pass on it "
        + (
            f"(both have shape {tuple(x.shape)}, but other values)"
            if alike
            else f"(that input had shape {shapes}, this one has {tuple(x.shape)})"
        )
    )


def _trains(model: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in model.parameters())


class _Stop(Exception):
    """Ends a forward pass whose last tapped layer was reached."""


def run_up_to(
    model: nn.Module, taps: Taps, *inputs: object, whole: bool = False, **keywords: object
) -> dict[str, Tensor]:
    """Run `model` on its inputs until every tapped layer is filled, then stop (or not, if `whole`): {layer: [B, C, ...]}."""
    taps._record.stop = not whole
    try:
        model(*inputs, **keywords)
    except _Stop:
        pass
    finally:
        taps._record.stop = taps._record.running = False
    taps.check_once()
    return {layer: taps.pop(layer) for layer in taps.layers}


def layer_names(layers: str | Iterable[str]) -> list[str]:
    """One name or several as a list without repetitions; AtlabError for what is no name."""
    found = [layers] if isinstance(layers, str) or not isinstance(layers, Iterable) else list(dict.fromkeys(layers))
    for layer in found:
        if not isinstance(layer, str):
            shown = type(layer).__name__ if isinstance(layer, nn.Module) else repr(layer)
            raise AtlabError(f"a layer is given by its name in named_modules(), such as 'features.5'; found {shown}")
    if not found:
        raise AtlabError("no layer to tap: name at least one")
    return found


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside torch.compile and (distributed) data-parallel wrappers."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def find_path(model: nn.Module, layer: str, of: str = "") -> str:
    """The module path of a layer name; AtlabError with the nearest names if there is none."""
    tap_points = getattr(model, "tap_points", {})
    modules = dict(model.named_modules())
    path = tap_points.get(layer, layer)
    if not path or path not in modules:
        raise unknown(f"layer{of}", layer, [*tap_points, *(name for name in modules if name)])
    return path


def find_layer(model: nn.Module, layer: str, of: str = "") -> nn.Module:
    """The module of a layer name; AtlabError with the nearest names if there is none."""
    return model.get_submodule(find_path(model, layer, of))


def without_taps(model: nn.Module) -> nn.Module:
    """The network without the idle hooks that a copy keeps of a tapped one."""
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if isinstance(hook, _Hook) and hook.function is _nothing]:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
    return model
