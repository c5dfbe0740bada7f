"""What each of two processes runs: one half of the batch, and the gradients of the first process into a file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import torch
from safetensors.torch import save_file

import atlab
from tests.frameworks.naive import LAYERS, Small, batch


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(rank: int, port: int) -> slice:
    """Join the group of two; the clips of this process."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    return slice(4 * rank, 4 * rank + 4)


def step(model: torch.nn.Module, at: atlab.AntiTransferLoss, part: slice) -> None:
    """One backward pass on this process's half of the batch."""
    x, y = batch()
    logits = model(x[part])
    (torch.nn.functional.cross_entropy(logits, y[part]) + at(x[part])).backward()


def finish(rank: int, gradients: dict, folder: str) -> None:
    """Leave the group; the first process writes the gradients."""
    if rank == 0:
        save_file(gradients, Path(folder) / "gradients.safetensors")
    torch.distributed.destroy_process_group()


def ddp(rank: int, port: int, folder: str, student: torch.nn.Module, at: atlab.AntiTransferLoss) -> None:
    """Student and loss come pickled from the parent process, as ddp_spawn sends them."""
    part = start(rank, port)
    step(torch.nn.parallel.DistributedDataParallel(student), at, part)
    finish(rank, {name: p.grad for name, p in student.named_parameters()}, folder)


def fsdp(rank: int, port: int, folder: str) -> None:
    """The student's parameters are shared out between the processes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    part = start(rank, port)
    student, mesh = Small(0), init_device_mesh("cpu", (2,))
    fully_shard(student.features, mesh=mesh)
    fully_shard(student, mesh=mesh)
    at = atlab.AntiTransferLoss(student, atlab.Teacher(Small(1), LAYERS))
    step(student, at, part)
    finish(rank, {name: p.grad.full_tensor() for name, p in student.named_parameters()}, folder)
