"""What a family of restorers is to the rest of the house: a network with this interface, and how its files are known.

Every family has one file in this folder; `checkpoint` tries their `FAMILY` in order.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..config import RestorerConfig, Supports
from .codebook import Codebook, to_map, to_tokens

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Site:
    """A place that a score adapter modulates.

    Attributes:
        name: of the module whose output it is.
        dim: its channels.
        is_gate: it is scaled alone, as the branch of a residual layer is.
    """

    name: str
    dim: int
    is_gate: bool = False

    @property
    def num_values(self) -> int:
        """A scale per channel, and a shift where it is no gate."""
        return self.dim if self.is_gate else 2 * self.dim


class Network(nn.Module):
    """A restorer: images (B, 3, R, R) in [-1, 1] -> features -> codes -> images.

    What stands here suits a model without codes, whose `generate` takes what `encode` gave.
    """

    config: RestorerConfig

    @property
    def weights_device(self) -> torch.device:
        """Where the weights are. Not called `device`, which ComfyUI sets on every network that it moves."""
        return self._a_weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self._a_weight.dtype

    @property
    def _a_weight(self) -> Tensor:
        return next(chain(self.parameters(), self.buffers()))

    @property
    def supports(self) -> Supports:
        """What these weights were trained for."""
        raise NotImplementedError

    @property
    def codebooks(self) -> tuple[Codebook, ...]:
        """In the order of the logits' and indices' last axis."""
        return ()

    @property
    def sites(self) -> tuple[Site, ...]:
        """Layers that a score adapter modulates."""
        return ()

    def telling(self, score: Tensor | None) -> contextlib.AbstractContextManager[None]:
        """A context in which `generate` knows the score, for networks whose layers are told it from outside."""
        return contextlib.nullcontext()

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """(B, 3, R, R) -> features z (B, C, t, t) and skips {key: map}."""
        raise NotImplementedError

    def score(self, quality: Tensor) -> Tensor:
        """The scores that a wanted quality in [0, 1] stands for; only asked of models that take one."""
        raise NotImplementedError

    def condition(self, z: Tensor, score: Tensor | None) -> Tensor:
        """Features that know the score, for models that are told it that way."""
        return z

    def logits(self, z: Tensor, score: Tensor | None) -> Tensor:
        """(B, C, t, t) -> logits over codes (B, N, K, books)."""
        raise NotImplementedError

    def quantise(self, indices: Tensor, alpha: Tensor | float, like: Tensor) -> Tensor:
        """Indices (B, N, books) -> z_q (B, C, t, t), in the dtype of `like`. alpha: number or (B, 1, 1)."""
        raise NotImplementedError

    def mix(self, weights: Tensor, alpha: Tensor | float) -> Tensor:
        """Weights over codes (B, N, K, books) -> z_q (B, C, t, t), differentiable; one-hot weights give `quantise`."""
        raise NotImplementedError

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        """z_q (B, C, t, t) -> image (B, 3, R, R); `z`, `skips`: from `encode`. Knobs a family has not change nothing."""
        raise NotImplementedError


class SingleBook(Network):
    """A restorer with one codebook whose lookup, unless it says otherwise, is the nearest code."""

    @property
    def codebook(self) -> Codebook:
        raise NotImplementedError

    @property
    def codebooks(self) -> tuple[Codebook, ...]:
        return (self.codebook,)

    @property
    def supports(self) -> Supports:
        return Supports()

    def logits(self, z: Tensor, score: Tensor | None) -> Tensor:
        """Negative squared distances to every code, (B, N, K, 1)."""
        return -self.codebook.distances(to_tokens(z))[..., None]

    def quantise(self, indices: Tensor, alpha: Tensor | float, like: Tensor) -> Tensor:
        return to_map(self.codebook.lookup(indices[..., 0], like), self.config.token_side)

    def mix(self, weights: Tensor, alpha: Tensor | float) -> Tensor:
        return to_map(self.codebook.mix(weights[..., 0]), self.config.token_side)


@dataclass(frozen=True)
class Family:
    """How the files of a family are known, and what they become.

    Attributes:
        names: values of `RestorerConfig.family`.
        keys: a file of this family holds all these tensors.
        read_config: tensors -> config; KeyError, IndexError or ValueError where they do not fit.
        build: (config, operations) -> network with untrained weights.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    read_config: Callable[[StateDict], RestorerConfig]
    build: Callable[[RestorerConfig, Any], Network]


def transformer_sites(config: RestorerConfig) -> tuple[Site, ...]:
    """Of CodeFormer's `ft_layers`, what AdaLN modulates: both norms' outputs, and a gate on both branches."""
    parts = {"norm1": False, "self_attn": True, "norm2": False, "linear2": True}
    return tuple(
        Site(f"ft_layers.{layer}.{part}", config.lookup_dim, is_gate)
        for layer in range(config.lookup_layers)
        for part, is_gate in parts.items()
    )


def square_root(number: float) -> int:
    """Of a square number; ValueError for others."""
    root = math.isqrt(round(number))
    if root * root != number:
        raise ValueError(f"{number} is not a square number")
    return root


def count(weights: StateDict, prefix: str) -> int:
    """How many numbered parts a module list has: 1 + the largest n of the keys `<prefix>.<n>.*`; 0 without any."""
    rests = (key.removeprefix(f"{prefix}.") for key in weights if key.startswith(f"{prefix}."))
    parts = 1 + max((int(rest.split(".")[0]) for rest in rests), default=-1)
    if parts > len(weights):
        raise ValueError(f"{prefix} has a part number {parts - 1}, in a file of {len(weights)} tensors")
    return parts
