"""Model files: safetensors whose metadata hold a model card, with a readable copy of the card next to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from atlab import __version__
from atlab.errors import AtlabError, unknown
from atlab.models.architectures import ARCHITECTURES
from atlab.system.files import write_atomic
from atlab.system.hashing import weights_hash

FORMAT = "atlab-model-1"
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt")
SHOWN = 20


def save(model: nn.Module, path: str | Path, **card: object) -> Path:
    """Write a model and its card: `path` (.safetensors) and a readable copy of the card next to it (.json).

    The card holds architecture, arguments, weights hash, atlab's version and whatever is passed: classes, task,
    data hash, anything that JSON can hold. It is stored inside the model file; a process killed at any moment
    leaves the old file or the new one whole, and the copy is absent or that of the file.

    Raises:
        AtlabError: a path that does not end in .safetensors; a model without `architecture` and `arguments`, or with
            weights that are not float32; a card entry that is reserved or that JSON cannot hold.

    >>> import atlab, tempfile
    >>> net = atlab.models.vgg16(num_classes=2, width=1 / 64)
    >>> path = save(net, tempfile.mkdtemp() + "/model.safetensors", classes=["no", "yes"], task="answer")
    >>> load(path).card["classes"]
    ['no', 'yes']
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise AtlabError(f"a model file's name ends in .safetensors, found {path.name!r}")
    if not hasattr(model, "architecture") or not hasattr(model, "arguments"):
        raise AtlabError(
            f"{type(model).__name__} cannot be saved: only networks of atlab.models know how to be built again"
        )
    if other := [f"{n} {_type(p)}" for n, p in model.named_parameters() if p.dtype != torch.float32]:
        raise AtlabError(f"expected float32 weights to save, got {_shown(other)}: save model.float()")
    text = _card_text(model, card)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    data = safetensors.torch.save(tensors, metadata={"atlab": text})
    # The copy goes first and comes back last, so that it never describes another file than its neighbour.
    path.with_suffix(".json").unlink(missing_ok=True)
    write_atomic(path, data)
    write_atomic(path.with_suffix(".json"), json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n")
    return path


def load(path: str | Path) -> nn.Module:
    """The model of a file that `save` wrote, in evaluation mode on the CPU, its card in `.card`.

    Raises:
        AtlabError: no such file; a pickle (they can run code); a truncated or foreign file; an architecture
            that atlab does not have; missing or unexpected tensors and those of another shape or type, listed;
            weights that are not those the card was written for, or not finite.

    >>> import atlab, tempfile
    >>> path = save(atlab.models.vgg16(num_classes=2, width=1 / 64), tempfile.mkdtemp() + "/model.safetensors")
    >>> type(load(path)).__name__, load(path).card["arguments"]["width"]
    ('VGG16', 0.015625)
    """
    path = Path(path)
    if not path.is_file():
        raise AtlabError(f"no model file at {str(path)!r}")
    _refuse_pickle(path)
    card, tensors = _read(path)
    model = _built(card, path)
    _require_equal_tensors(f"{path} does not fit {card['architecture']}", tensors, model.state_dict())
    wanted = model.state_dict()
    if types := [
        f"{n} {_type(t)} instead of {_type(wanted[n])}" for n, t in tensors.items() if t.dtype != wanted[n].dtype
    ]:
        raise AtlabError(f"{path} does not fit {card['architecture']}; of another type: {_shown(types)}")
    model.load_state_dict(tensors, assign=True)
    if (found := weights_hash(model)) != card.get("weights_hash"):
        raise AtlabError(
            f"{path} is damaged: its weights have the hash {found[:16]}..., its card says {str(card.get('weights_hash'))[:16]!r}"
        )
    if odd := [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
        raise AtlabError(
            f"{path} holds weights that are infinite or not a number, in {_shown(odd)}: was its training stable?"
        )
    vars(model)["card"] = card
    return model.eval()


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module, prefix: str = "features.") -> list[str]:
    """Copy every parameter and buffer whose name starts with `prefix` from source to target: -> their names.

    Raises:
        AtlabError: nothing has the prefix, or a tensor under it is missing from the source, unexpected there or
            mis-shaped; all are listed and nothing is copied.

    >>> import atlab
    >>> a, b = (atlab.models.vgg16(num_classes=n, width=1 / 64) for n in (2, 5))
    >>> len(copy_weights(a, b)), bool((a.features[0].weight == b.features[0].weight).all())
    (26, True)
    """
    found, wanted = ({n: t for n, t in m.state_dict().items() if n.startswith(prefix)} for m in (source, target))
    if not wanted:
        first = dict.fromkeys(name.split(".")[0] + "." for name in target.state_dict())
        raise unknown("prefix of parameter names", prefix, first)
    _require_equal_tensors(f"the source's weights under {prefix!r} do not fit the target", found, wanted)
    for name, tensor in wanted.items():
        tensor.copy_(found[name])
    return list(wanted)


def _built(card: dict, path: Path) -> nn.Module:
    """The card's network, its weights on the meta device: without memory or random numbers, for they are replaced at once."""
    name, arguments = card.get("architecture"), card.get("arguments")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise unknown(f"architecture in {path.name}:", name, ARCHITECTURES)
    if not isinstance(arguments, dict):
        raise AtlabError(
            f"{path}: the model card's arguments do not fit {name}: expected a mapping, got {str(arguments)[:40]!r}"
        )
    try:
        with torch.device("meta"):
            return ARCHITECTURES[name](**arguments)
    except AtlabError as error:
        raise AtlabError(f"{path}: {error}") from None
    except Exception as error:  # PyTorch's modules raise a dozen types for arguments of odd types and sizes
        reason = str(error).splitlines() or [type(error).__name__]
        raise AtlabError(f"{path}: the model card's arguments do not fit {name}: {reason[0]}") from None


def _card_text(model: nn.Module, card: dict) -> str:
    own = {
        "format": FORMAT,
        "architecture": model.architecture,
        "arguments": model.arguments,
        "weights_hash": weights_hash(model),
        "atlab": __version__,
    }
    if reserved := own.keys() & card.keys():
        raise AtlabError(f"the model card's {', '.join(sorted(reserved))} cannot be passed: save() writes it itself")
    for name, value in card.items():
        try:
            card[name] = json.loads(json.dumps(value, default=_plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise AtlabError(f"the model card's entry {name!r} cannot be written as JSON: {error}") from None
    return json.dumps(own | card, ensure_ascii=False)


def _plain(value: object) -> object:
    """numpy's numbers and arrays as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _refuse_pickle(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(9)
    # Pickles of protocol 2 to 5 start with 0x80 and that number, PyTorch's newer files are zip archives of them; a
    # safetensors file starts with its header's length (8 bytes, which may look like either) and a brace.
    magic = start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")) and start[8:] != b"{"
    if magic or path.suffix in PICKLES:
        raise AtlabError(
            f"{path} is a pickle (PyTorch's .pt and .pth are), and opening a pickle can run any code it holds, so atlab does not. "
            "If you trust it, read its state dict with PyTorch yourself (weights_only=True), put it into a network with "
            "load_state_dict and write that with atlab.models.save(network, 'model.safetensors')"
        )


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # A copy: tensors that map the file would change, or crash, when somebody overwrites it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise AtlabError(f"{path} is truncated or not a safetensors file: {error}") from None
    try:
        card = json.loads(metadata["atlab"])
        known = card["format"] == FORMAT
    except (KeyError, TypeError, ValueError, RecursionError):
        raise AtlabError(f"{path} holds no model card: it was not written by atlab.models.save") from None
    if not known:
        raise AtlabError(f"{path} has format {card['format']!r}; this version of atlab reads {FORMAT!r}")
    return card, tensors


def _require_equal_tensors(problem: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """AtlabError listing the tensors that are missing, unexpected or of another shape."""
    shapes = [
        f"{name} {list(found[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    lists = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "mis-shaped": shapes,
    }
    if any(lists.values()):
        parts = [f"{kind}: {_shown(names)}" for kind, names in lists.items() if names]
        raise AtlabError(f"{problem}; {'; '.join(parts)}")


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
