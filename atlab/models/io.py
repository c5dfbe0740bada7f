"""Model files: safetensors with their model card; no pickle is ever read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from atlab.errors import AtlabError, unknown
from atlab.files import write_atomic
from atlab.models.vgg import VGG16, vgg16

FORMAT = "atlab-model-1"
ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"vgg16": vgg16}


def save(model: nn.Module, path: str | Path, **card: object) -> Path:
    """Write `model.safetensors` and, beside it, the model card `model.json`: -> path.

    The card (architecture, its arguments, and what is passed, e.g. classes, task) is also inside the weights'
    file, which is written in one rename: killed while saving, the old file or the new one is there, whole.
    Raises AtlabError for a model whose class is not one of atlab's, or a card that is not JSON.

    >>> import tempfile
    >>> path = save(vgg16(3, width=1 / 16), tempfile.mkdtemp() + "/model.safetensors", classes=["a", "b", "c"])
    >>> load(path).card["classes"]
    ['a', 'b', 'c']
    """
    path = Path(path)
    card = {"format": FORMAT, **_describe(model), **card, "weights_hash": weights_hash(model)}
    try:
        text = json.dumps(card, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AtlabError(f"the model card must be JSON (strings, numbers, lists): {error}") from None
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomic(path, to_bytes(state, metadata={"card": text}))
    write_atomic(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return path


def load(path: str | Path) -> nn.Module:
    """The model of a file that `save` wrote, in evaluation mode on the CPU, with its `card`.

    Raises AtlabError for a missing file, a pickle, a truncated or foreign file, an unknown architecture, and
    for tensors that are missing, unexpected or of another shape (all of them listed).
    """
    path = Path(path)
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("card")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise AtlabError(f"{path} is not a readable safetensors file (truncated, or of another kind): {error}") from None
    try:
        card = json.loads(text or "{}")
    except json.JSONDecodeError:
        card = {}
    if card.get("format") != FORMAT:
        raise AtlabError(f"{path} holds tensors but no atlab model card (format {FORMAT!r}): it was written by another program")
    if card["architecture"] not in ARCHITECTURES:
        raise unknown(f"architecture in {path}:", card["architecture"], ARCHITECTURES)
    model = ARCHITECTURES[card["architecture"]](**card["arguments"])
    _check(state, model.state_dict(), f"{path} does not fit {card['architecture']} {card['arguments']}")
    model.load_state_dict(state)
    model.card = card
    return model.eval()


def copy_weights(source: nn.Module, target: nn.Module, prefix: str) -> list[str]:
    """Copy every tensor whose name starts with `prefix` from source to target: -> their names.

    Raises AtlabError, and copies nothing, if a tensor is missing, unexpected or of another shape on either side,
    or if there is none: weights that silently stay random are how a published experiment went wrong.

    >>> len(copy_weights(vgg16(3, width=1 / 16), vgg16(5, width=1 / 16), "features."))
    26
    """
    ours, theirs = (
        {name: value for name, value in model.state_dict().items() if name.startswith(prefix)} for model in (target, source)
    )
    if not ours:
        raise AtlabError(f"no tensor of the target network starts with {prefix!r}; its tensors: {', '.join(list(target.state_dict())[:8])} ...")
    _check(theirs, ours, f"weights under {prefix!r} cannot be copied")
    with torch.no_grad():
        for name, value in ours.items():
            value.copy_(theirs[name])
    return list(ours)


def weights_hash(model: nn.Module) -> str:
    """SHA-256 (first 16 hexadecimal digits) of all tensors, their names, shapes and types.

    >>> torch.manual_seed(0) and weights_hash(vgg16(2, width=1 / 16)) == weights_hash(vgg16(2, width=1 / 16))
    False
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _describe(model: nn.Module) -> dict:
    if not isinstance(model, VGG16):
        raise AtlabError(
            f"models.save knows atlab's architectures ({', '.join(ARCHITECTURES)}), found {type(model).__name__}; "
            "save others with safetensors.torch.save_model"
        )
    first, dropout = model.features[0], model.classifier[2].p
    arguments = {"num_classes": model.classifier[6].out_features, "width": model.width, "in_channels": first.in_channels, "dropout": dropout}
    return {"architecture": "vgg16", "arguments": arguments}


def _check(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    shaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    problems = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": shaped,
    }
    told = "; ".join(f"{kind}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}" for kind, names in problems.items() if names)
    if told:
        raise AtlabError(f"{what}: {told}")


def _refuse_pickle(path: Path) -> None:
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.safetensors"))[:5] if path.parent.is_dir() else []
        raise AtlabError(f"no model file {path}" + (f"; in that folder: {', '.join(near)}" if near else ""))
    with open(path, "rb") as file:
        magic = file.read(4)
    if path.suffix in (".pt", ".pth", ".pkl", ".bin") or magic[:2] == b"PK" or magic[:1] == b"\x80":
        raise AtlabError(
            f"{path} looks like a pickle, which can run code when it is read: atlab opens safetensors only; if you trust it, "
            "convert it with torch.load(..., weights_only=True) and safetensors.torch.save_file in a script of your own"
        )
