"""What the published code does with networks: layers, initial weights, inputs, the choice of an epoch."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from atlab import functional
from atlab.models import VGG16, vgg16
from atlab.taps import Taps

# Where the published code cuts torchvision's `features` for "layer n", n = 1..13: before convolution n.
CUTS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def published_layer(model: VGG16, n: int, x: Tensor) -> Tensor:
    """What the published code calls the feature map of layer n (1..13): `features[:i]`, normalised input [B, C, H, W]."""
    return model.features[: CUTS[n - 1]](x)


@torch.no_grad()
def layer_names(model: VGG16, x: Tensor) -> dict[int, str]:
    """The true name of every published layer, found by comparing activations: "conv4, pooled" for 5, "input" for 1."""
    names = [f"conv{n}" for n in range(1, 14)]
    with Taps(model, names) as taps:
        model(x)
        candidates = {name: taps[name].clone() for name in names}
    inputs = (x - model.input_mean) / model.input_std
    candidates = {"input": inputs} | candidates
    candidates |= {f"{name}, pooled": nn.functional.max_pool2d(maps, 2) for name, maps in candidates.items()}
    found = {}
    for n in range(1, 14):
        maps = published_layer(model, n, inputs)
        found[n] = next(k for k, v in candidates.items() if v.shape == maps.shape and torch.equal(v, maps))
    return found


def first_layer(student: VGG16, teacher: VGG16, x: Tensor) -> dict[str, float]:
    """The loss at the published "layer 1" and the norm of its gradient for all of the student's weights; the same at conv1."""
    numbers = {}
    for name, n in (("layer_1", 1), ("conv1", 2)):
        maps = [published_layer(model, n, x) for model in (student, teacher)]
        loss = functional.anti_transfer_loss(maps[0], maps[1].detach())
        slopes = []
        if loss.requires_grad:
            slopes = [
                s for s in torch.autograd.grad(loss, list(student.parameters()), allow_unused=True) if s is not None
            ]
        numbers[f"{name}_loss"] = float(loss.detach())
        numbers[f"{name}_gradient"] = float(torch.stack([s.norm() for s in slopes]).norm()) if slopes else 0.0
    return numbers


def weight_initialisation(student: VGG16, orthogonal: VGG16) -> tuple[dict[str, float], pd.DataFrame]:
    """A whole network's state dict loaded into `features` with strict=False, as published: what it matches and changes.

    -> numbers, and the first names on both sides that find no partner.
    """
    published = copy.deepcopy(student)
    before = copy.deepcopy(published.state_dict())
    left = published.features.load_state_dict(orthogonal.state_dict(), strict=False)
    changed = sum(not torch.equal(before[name], tensor) for name, tensor in published.state_dict().items())
    right = {
        name.removeprefix("features."): t for name, t in orthogonal.state_dict().items() if name.startswith("features.")
    }
    proper = copy.deepcopy(student)
    proper.features.load_state_dict(right)
    numbers = {
        "given": len(orthogonal.state_dict()),
        "wanted": len(published.features.state_dict()),
        "matched": len(published.features.state_dict()) - len(left.missing_keys),
        "changed": changed,
        "changed_by_prefix": sum(not torch.equal(before[n], t) for n, t in proper.state_dict().items()),
    }
    names = pd.DataFrame(
        {
            "wanted by features": left.missing_keys[:4],
            "given": [name for name in left.unexpected_keys if name.startswith("features.")][:4],
        }
    )
    return numbers, names


def permuted_copy(model: VGG16, seed: int = 0) -> VGG16:
    """The same function with the channels of every convolution in another order."""
    twin, rng = copy.deepcopy(model), np.random.default_rng(seed)
    convolutions = [module for module in twin.features if isinstance(module, nn.Conv2d)]
    linear = twin.classifier[0]
    with torch.no_grad():
        for place, convolution in enumerate(convolutions):
            order = torch.from_numpy(rng.permutation(convolution.out_channels))
            convolution.weight.copy_(convolution.weight[order])
            convolution.bias.copy_(convolution.bias[order])
            if place + 1 < len(convolutions):
                convolutions[place + 1].weight.copy_(convolutions[place + 1].weight[:, order])
            else:
                columns = linear.weight.reshape(len(linear.weight), len(order), -1)[:, order]
                linear.weight.copy_(columns.flatten(1))
    return twin


@torch.no_grad()
def similarities(student: VGG16, teacher: VGG16, x: Tensor, layers: Sequence[str]) -> pd.DataFrame:
    """Similarity of two networks on x [B, ...] by layer: of channel Grams (the paper's), position Grams, and clips (CKA)."""
    student.eval(), teacher.eval()
    with Taps(student, layers) as left, Taps(teacher, layers) as right:
        student(x), teacher(x)
        rows = [
            {
                "layer": layer,
                "gram": float(functional.anti_transfer_loss(left[layer], right[layer])),
                "position_gram": float(
                    functional.anti_transfer_loss(left[layer], right[layer], aggregation="position_gram")
                ),
                "clip_kernel": float(functional.linear_cka(left[layer], right[layer])),
            }
            for layer in layers
        ]
    return pd.DataFrame(rows)


@torch.no_grad()
def floor(width: float, x: Tensor, layers: Sequence[str], pairs: int = 5, seed: int = 0) -> dict[str, float]:
    """Similarity (eq. 2) of two random networks on standardised inputs x by layer, mean over `pairs` pairs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = [[vgg16(2, width, in_channels=x.shape[1]) for _ in "ab"] for _ in range(pairs)]
    totals = dict.fromkeys(layers, 0.0)
    for student, teacher in made:
        student.eval(), teacher.eval()
        with Taps(student, layers) as left, Taps(teacher, layers) as right:
            student(x), teacher(x)
            for layer in layers:
                totals[layer] += float(functional.anti_transfer_loss(left[layer], right[layer])) / pairs
    return totals


@torch.no_grad()
def permutation(
    model: VGG16, unrelated: VGG16, x: Tensor, layers: Sequence[str]
) -> tuple[dict[str, float], pd.DataFrame]:
    """A network compared with its own permuted copy and with an unrelated one: -> numbers over layers, and by layer."""
    twin = permuted_copy(model)
    outputs = float((model.eval()(x) - twin.eval()(x)).abs().max() / model(x).abs().max())
    pairs = {"itself, permuted": twin, "an unrelated network": unrelated}
    table = pd.concat([similarities(model, other, x, layers).assign(pair=pair) for pair, other in pairs.items()])
    own = table[table["pair"] == "itself, permuted"]
    other = table[table["pair"] != "itself, permuted"]
    own, other = (part[part["layer"].isin([f"conv{n}" for n in range(5, 14)])] for part in (own, other))
    numbers = {
        "outputs_differ_by": outputs,
        "gram": float(own["gram"].median()),
        "gram_unrelated": float(other["gram"].median()),
        "position_gram": float(own["position_gram"].min()),
        "clip_kernel": float(own["clip_kernel"].min()),
    }
    return numbers, table


@torch.no_grad()
def normalisation(teacher: VGG16, x: Tensor, mean: float, std: float, layer: str) -> dict[str, float]:
    """Features of the same clips, normalised by the teacher's own mean and std and by another data set's.

    -> relative difference of its feature maps, similarity (eq. 2) of the two, share of clips given another class.
    """
    other = copy.deepcopy(teacher).eval()
    other.set_normalisation(mean, std)
    maps, answers = [], []
    for model in (teacher.eval(), other):
        with Taps(model, layer) as taps:
            answers.append(model(x).argmax(1))
            maps.append(taps[layer].clone())
    return {
        "difference": float((maps[1] - maps[0]).norm() / maps[0].norm()),
        "similarity": float(functional.anti_transfer_loss(*maps)),
        "answers_changed": float((answers[0] != answers[1]).double().mean()),
    }


def chosen_epoch(history: pd.DataFrame, beta: float = 1.0) -> dict[str, int]:
    """Epochs that the two rules keep, and the last ones they train: validation cross-entropy with patience 5 (paper), its
    sum with beta x AT and a stop after 3 epochs without improvement (published).

    >>> history = pd.DataFrame({"validation_loss": [2, 1.9, 1.8, 2.0, 2.0, 1.5], "validation_at": [0.1, 0, 0.3, 0.3, 0.2, 0.2]})
    >>> chosen_epoch(history)
    {'paper': 6, 'published': 2, 'paper_last': 6, 'published_last': 5}
    """
    cross_entropy = history["validation_loss"].to_numpy()
    criteria = {
        "paper": (cross_entropy, 5),
        "published": (cross_entropy + beta * history["validation_at"].to_numpy(), 3),
    }
    kept, last = {}, {}
    for name, (values, patience) in criteria.items():
        best = 0
        for epoch, value in enumerate(values):
            best = epoch if value < values[best] else best
            last[f"{name}_last"] = epoch + 1
            if epoch - best >= patience:
                break
        kept[name] = best + 1
    return kept | last
