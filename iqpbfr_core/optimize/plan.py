"""How to climb, whatever is searched."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..restorer import check_range
from .objective import Consistency
from .result import Callback


@dataclass(frozen=True)
class Plan:
    """The fields are arguments of `optimize_codes` and described there."""

    steps: int
    patience: int | None = None
    target: float | Tensor | None = None
    fidelity: float | Tensor = 0.0
    adain: bool = True
    consistency: Consistency | None = None
    chunk: int | None = None
    checkpointing: bool = False
    callback: Callback | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        for name in ("patience", "chunk"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.target is not None:
            check_target(self.target)

    def chunks(self, batch: int) -> list[slice]:
        """`batch` faces in parts of at most `chunk`."""
        size = self.chunk or batch
        return [slice(first, min(first + size, batch)) for first in range(0, batch, size)]

    def select(self, faces: slice, batch: int) -> "Plan":
        """The plan for some of `batch` faces; fields that are given per face must be given for all."""
        return replace(
            self,
            target=None if self.target is None else select("target", self.target, faces, batch),
            fidelity=select("fidelity", self.fidelity, faces, batch),
            consistency=None if self.consistency is None else self.consistency.select(faces, batch),
        )


def check_count(name: str, value: int) -> None:
    """Raise InputError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number, at least 1, got {value!r}.")


def check_target(target: float | Tensor) -> None:
    """Raise InputError unless every score that is wanted lies in [0, 1]."""
    for value in torch.as_tensor(target, dtype=torch.float64).flatten().tolist():
        check_range("target", value, 0, 1)


def select(name: str, value: float | Tensor, faces: slice, batch: int) -> float | Tensor:
    """A number, or some faces' part of a tensor (B,); any other shape raises InputError."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if tuple(value.shape) != (batch,):
        raise InputError(f"{name} must be a number or have shape ({batch},), got {tuple(value.shape)}.")
    return value[faces].clone()
