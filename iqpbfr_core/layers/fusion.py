"""Fidelity: encoder features modulate the generator (CodeFormer's controllable feature transformation, eq. 5)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .residual import ResidualBlock, group_norm


class FidelityFusion(nn.Module):
    """generator + w * (scale * generator + shift), with scale and shift predicted from both feature maps.

    `dim` are the generator's channels, `encoder_dim` the other map's, as many unless given.
    """

    def __init__(
        self,
        dim: int,
        operations: Any = nn,
        norm: Callable[[int, Any], nn.Module] = group_norm,
        encoder_dim: int | None = None,
    ) -> None:
        super().__init__()

        def branch() -> nn.Sequential:
            last = operations.Conv2d(dim, dim, 3, padding=1)
            nn.init.zeros_(last.weight)  # a fresh fusion is the identity
            nn.init.zeros_(last.bias)
            return nn.Sequential(operations.Conv2d(dim, dim, 3, padding=1), nn.LeakyReLU(0.2), last)

        self.encode_enc = ResidualBlock((encoder_dim or dim) + dim, dim, operations, norm=norm)
        self.scale = branch()
        self.shift = branch()

    @property
    def is_trained(self) -> bool:
        """Training leaves no normalisation at exactly one and zero."""
        norm: Any = self.encode_enc.norm1
        return not (bool((norm.weight == 1).all()) and bool((norm.bias == 0).all()))

    def forward(self, encoder: Tensor, generator: Tensor, weight: float | Tensor) -> Tensor:
        """encoder, generator: (B, encoder_dim, H, W), (B, dim, H, W); weight: number or (B, 1, 1, 1) in [0, 1]."""
        h = self.encode_enc(torch.cat([encoder, generator], dim=1))
        return generator + weight * (generator * self.scale(h) + self.shift(h))
