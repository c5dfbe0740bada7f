"""Networks as a sequence of layers that can be cut between any two of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError


def layers(model: nn.Module) -> dict[str, nn.Sequential]:
    """The layers of a network in the order of computation, by name; they share its parameters.

    A layer is a convolution or linear map with what follows it up to the next: non-linearity, pooling, flattening. Dropout
    acts on a layer's input and belongs to the layer after it. VGG16 has 16 (conv1 to conv13, fc14 to fc16) and AlexNet 8
    (conv1 to conv5, fc6 to fc8), the names of Caffe's reference network; networks with `stages` (DenseNet-40, models A and
    B) have these.

    Raises AtlabError for a network that is not one of atlab's.

    >>> import atlab
    >>> list(layers(atlab.models.alexnet(10, width=1 / 16)))
    ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8']
    """
    if isinstance(stages := getattr(model, "stages", None), nn.Sequential):
        return {name: nn.Sequential(stage) for name, stage in stages.named_children()}
    if not all(hasattr(model, part) for part in ("features", "avgpool", "classifier")):
        raise AtlabError(
            f"{type(model).__name__} cannot be cut into layers: it has neither `stages` nor torchvision's features, avgpool and classifier"
        )
    groups: list[list[nn.Module]] = []
    waiting: list[nn.Module] = []
    for module in (*model.features, model.avgpool, nn.Flatten(1), *model.classifier):
        if isinstance(module, nn.Dropout):
            waiting.append(module)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            groups.append([*waiting, module])
            waiting = []
        else:
            groups[-1].append(module)
    kinds = ["conv" if any(isinstance(m, nn.Conv2d) for m in group) else "fc" for group in groups]
    return {f"{kind}{n}": nn.Sequential(*group) for n, (kind, group) in enumerate(zip(kinds, groups, strict=True), 1)}


def check_layer(model: nn.Module, n: int) -> int:
    """A number of layers from 0 to all of the network's; AtlabError otherwise."""
    count = len(layers(model))
    if isinstance(n, bool) or int(n) != n or not 0 <= n <= count:
        raise AtlabError(f"n must be a number of layers from 0 to {count} of {type(model).__name__}, found {n!r}")
    return int(n)


class Normalise(nn.Module):
    """A network's own normalisation of its input: (x - input_mean) / input_std."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mean", model.input_mean)
        self.register_buffer("std", model.input_std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Cut(nn.Module):
    """A network cut after its first n layers; `prefix` and `rest` share the parameters and buffers of `model`.

    While `frozen`, the prefix keeps its parameters and stays in evaluation mode, so that neither batch-norm statistics nor
    dropout move it. (Caffe, which Yosinski et al. 2014 used, leaves dropout on in layers that do not learn; here a frozen
    layer gives each clip one activation.)

    >>> import atlab
    >>> net = atlab.models.alexnet(10, width=1 / 16, images="small")
    >>> cut = Cut(net, 2, frozen=True)
    >>> cut.prefix(torch.zeros(1, 3, 32, 32)).shape, cut(torch.zeros(1, 3, 32, 32)).shape
    (torch.Size([1, 12, 7, 7]), torch.Size([1, 10]))
    """

    def __init__(self, model: nn.Module, n: int, frozen: bool) -> None:
        super().__init__()
        parts, n = list(layers(model).values()), check_layer(model, n)
        self.n, self.frozen = n, frozen and n > 0
        self.__dict__["model"] = model  # the whole network, not one of the parts: its parameters are theirs
        self.prefix, self.rest = nn.Sequential(Normalise(model), *parts[:n]), nn.Sequential(*parts[n:])
        if self.frozen:
            self.prefix.requires_grad_(False)
        self.train(model.training)

    def train(self, mode: bool = True) -> Cut:
        super().train(mode)
        if self.frozen:
            self.prefix.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x = self.prefix(x)
        return self.rest(x)


@torch.no_grad()
def copy_layers(source: nn.Module, target: nn.Module, n: int) -> list[str]:
    """Copy the first n layers, with the normalisation of the input if n > 0, bit for bit: -> the layers' names.

    The output layers may differ in size; nothing else may. AtlabError for an n that is not there and for layers of other
    shapes, listed, before anything is copied.

    >>> import atlab
    >>> a, b = (atlab.models.alexnet(k, width=1 / 16, images="small") for k in (4, 6))
    >>> copy_layers(a, b, 3), bool((a.features[6].weight == b.features[6].weight).all())
    (['conv1', 'conv2', 'conv3'], True)
    """
    n, names = check_layer(target, n), list(layers(target))[:n]
    pairs = [(name, layers(source).get(name), layers(target)[name]) for name in names]
    for name, found, wanted in pairs:
        shapes = [
            {k: tuple(t.shape) for k, t in part.state_dict().items()} if part else None for part in (found, wanted)
        ]
        if shapes[0] != shapes[1]:
            raise AtlabError(f"layer {name} of the source does not fit the target: {shapes[0]} instead of {shapes[1]}")
    for _, found, wanted in pairs:
        wanted.load_state_dict(found.state_dict())
    if n:
        target.input_mean.copy_(source.input_mean)
        target.input_std.copy_(source.input_std)
    return names
