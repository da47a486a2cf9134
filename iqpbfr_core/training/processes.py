"""One batch shared by several processes (`accelerate launch`): each sees its part of the faces, all learn the same.

Every process draws the same random numbers, those for the whole batch, and keeps the part that belongs to its faces; so
a run does not depend on how many processes share its batches, but for rounding. With one process nothing here changes
anything.
"""

import os
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import TrainingError


def check_shares(accelerator: Accelerator, modules: dict[str, nn.Module], batch_size: int) -> None:
    """Raise TrainingError unless these processes can share the batches of a stage with these modules."""
    count, launched = accelerator.num_processes, int(os.environ.get("WORLD_SIZE", 1))
    if count != launched:
        raise TrainingError(
            f"launched as {launched} processes, which do not find each other: no graphics card that they could use was "
            "found. Set ACCELERATE_USE_CPU=1 to use processors, or start one process."
        )
    if batch_size % count:
        raise TrainingError(f"{count} processes cannot share batches of {batch_size}: use a multiple of {count}.")
    layers = [layer for module in modules.values() for layer in module.modules()]
    if count > 1 and any(isinstance(layer, nn.BatchNorm2d) for layer in layers):
        raise TrainingError(
            f"this network normalises over its batch, which {count} processes would each see a part of: train it with one."
        )


def draw_part(accelerator: Accelerator, *shape: int, device: torch.device | None = None) -> Tensor:
    """Uniform random numbers of `shape` (B, ...) for this process's B faces."""
    return torch.rand(accelerator.num_processes, *shape, device=device)[accelerator.process_index]


def gather(accelerator: Accelerator, values: Tensor) -> Tensor:
    """The faces (B, ...) of all processes, in their order."""
    gathered = accelerator.gather(values)
    assert isinstance(gathered, Tensor)
    return gathered


@dataclass(frozen=True)
class Part:
    """This process's faces, `count` from `first` on, among the `total` of all processes."""

    first: int
    count: int
    total: int


def find_part(accelerator: Accelerator, count: int) -> Part:
    """Where `count` faces of this process stand; others may have more or fewer."""
    counts = [count]
    if accelerator.num_processes > 1:
        counts = gather(accelerator, torch.tensor(counts, device=accelerator.device)).tolist()
    return Part(sum(counts[: accelerator.process_index]), count, sum(counts))


def share_state(*modules: nn.Module) -> None:
    """Give every process the weights and buffers that the first one has."""
    for module in modules:
        for value in (*module.parameters(), *module.buffers()):
            broadcast(value.data)


def average_gradients(accelerator: Accelerator, optimizer: Optimizer) -> None:
    """Give every process the mean of all processes' gradients."""
    if accelerator.num_processes == 1:
        return
    learnt = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for parameter, gradient in zip(learnt, accelerator.reduce([p.grad for p in learnt], "mean"), strict=True):
        parameter.grad = gradient
