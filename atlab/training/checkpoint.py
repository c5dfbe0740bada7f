"""Everything a training needs to go on after a kill exactly as if nothing had happened, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from atlab.errors import AtlabError

FORMAT = "atlab-checkpoint-2"
OPTIMIZER = "optimizer."  # before the names of its tensors: moments, steps
# At an epoch's end a checkpoint is written if that takes at most this share of the time since the last one.
CHEAP = 0.05


@dataclass
class Position:
    """Where a training stands: `step` steps into epoch number `epoch`, with that epoch's sums so far."""

    epoch: int = 0
    step: int = 0
    clips: int = 0
    sums: list[float] = field(default_factory=list)
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)


@dataclass
class State:
    """All that changes in a training; `best` holds the weights of the epoch with the lowest validation loss.

    `model` is all that trains: the network, or a container of it and the modules of the loss terms.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    best: dict[str, Tensor] = field(default_factory=dict)
    at: Position = field(default_factory=Position)

    def remember_best(self) -> None:
        """Keep a copy of the present weights."""
        self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}


class Checkpoint:
    """Writes a `State` when it is due and reads it back; does nothing if `path` is None.

    `configuration` is what must agree for a checkpoint to be taken up again. A write replaces the file at once; a
    kill at any moment leaves the old one or the new one.
    """

    def __init__(self, path: str | Path | None, configuration: dict, every: float) -> None:
        self.path = None if path is None else Path(path)
        self.configuration = json.loads(json.dumps({"format": FORMAT} | configuration))
        self.every = every
        self._last, self._cost = time.monotonic(), 0.0

    def due(self, epoch_ended: bool = False) -> bool:
        """Whether to write now: `every` seconds have passed, or an epoch ended and writing costs little."""
        passed = time.monotonic() - self._last
        return self.path is not None and (passed >= self.every or (epoch_ended and self._cost <= CHEAP * passed))

    def write(self, state: State) -> None:
        """Replace the file by the present state; AtlabError if it cannot be written; the old one is kept."""
        start = time.monotonic()
        metadata = {"configuration": json.dumps(self.configuration), "at": json.dumps(asdict(state.at))}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One fixed temporary name: what a kill leaves behind is overwritten by the next write.
            safetensors.torch.save_file(_separate(_tensors(state)), self._temporary, metadata)
            os.replace(self._temporary, self.path)
        except (OSError, safetensors.SafetensorError) as error:
            if self.path.parent.is_dir():
                self._temporary.unlink(missing_ok=True)
            raise AtlabError(f"the checkpoint {self.path} could not be written: {error}") from None
        self._last = time.monotonic()
        self._cost = self._last - start

    def restore(self, state: State) -> bool:
        """Bring `state` to what the file holds; False if there is no file.

        Raises AtlabError if the file is no checkpoint, or one of another configuration, naming the difference.
        """
        if self.path is None or not self.path.exists():
            return False
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                found = json.loads(file.metadata()["configuration"])
                at = Position(**json.loads(file.metadata()["at"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError):
            raise AtlabError(
                f"{self.path} is not a training checkpoint of atlab; delete it to train from the start"
            ) from None
        _require_same(self.path, found, self.configuration)
        _put_back(state, tensors)
        state.at = at
        return True

    def remove(self) -> None:
        """Delete the file and what a kill left of an unfinished one."""
        if self.path is not None:
            self._temporary.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.name}.tmp")


def describe_parameters(model: nn.Module) -> str:
    """A hash of names, shapes, dtypes and what is frozen; not of the values."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    lines = [f"{name} {list(t.shape)} {t.dtype} {name in frozen}" for name, t in model.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of PyTorch's generators that a training on `device` draws from (uint8)."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Undo what was drawn since `random_states`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])


def _tensors(state: State) -> dict[str, Tensor]:
    names = {parameter: name for name, parameter in state.model.named_parameters()}
    return {
        **{f"model.{name}": tensor for name, tensor in state.model.state_dict().items()},
        **{f"best.{name}": tensor for name, tensor in state.best.items()},
        **{f"random.{name}": tensor for name, tensor in random_states(state.device).items()},
        **{
            f"{OPTIMIZER}{part}.{names[parameter]}": tensor
            for parameter, parts in state.optimizer.state.items()
            for part, tensor in parts.items()
            if tensor is not None
        },
    }


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, no two sharing memory (tied weights do), as safetensors wants them."""
    separate, seen = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        separate[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return separate


def _put_back(state: State, tensors: dict[str, Tensor]) -> None:
    def group(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.model.load_state_dict(group("model."))
    present, parameters = state.model.state_dict(), dict(state.model.named_parameters())
    state.best = {name: _like(tensor, present[name]) for name, tensor in group("best.").items()}
    for name, tensor in group(OPTIMIZER).items():
        part, _, parameter = name.partition(".")
        parameter = parameters[parameter]
        state.optimizer.state[parameter][part] = tensor.to(state.device) if part == "step" else _like(tensor, parameter)
    set_random_states(group("random."), state.device)


def _like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """The values of one tensor with the device, dtype and layout of another."""
    return torch.empty_like(pattern.detach()).copy_(tensor)


def _require_same(path: Path, found: dict, wanted: dict) -> None:
    different = [key for key in wanted | found if found.get(key) != wanted.get(key)]
    if different:
        parts = [f"{key} {found.get(key)!r} instead of {wanted.get(key)!r}" for key in different]
        raise AtlabError(
            f"the checkpoint {path} belongs to another training: {'; '.join(parts)}. Delete it to train from the start"
        )
