"""Convolutional blocks of the VQGAN autoencoder (Esser et al. 2021, arXiv 2012.09841), named as CodeFormer stores them."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def group_norm(dim: int, operations: Any = nn) -> nn.Module:
    """32 groups as published; narrow layers get groups of four channels, so that no group is a single channel."""
    return operations.GroupNorm(32 if dim >= 64 else max(1, dim // 4), dim, eps=1e-6)


class ResidualBlock(nn.Module):
    """(B, in_dim, H, W) -> (B, out_dim, H, W): norm, SiLU, conv, twice, plus the input, 1x1 convolved where the width changes.

    `shortcut` is the name of that convolution in the checkpoint.
    """

    def __init__(self, in_dim: int, out_dim: int, operations: Any = nn, shortcut: str = "conv_out") -> None:
        super().__init__()
        self.norm1 = group_norm(in_dim, operations)
        self.conv1 = operations.Conv2d(in_dim, out_dim, 3, padding=1)
        self.norm2 = group_norm(out_dim, operations)
        self.conv2 = operations.Conv2d(out_dim, out_dim, 3, padding=1)
        self.shortcut = shortcut if in_dim != out_dim else None
        if self.shortcut is not None:
            self.add_module(self.shortcut, operations.Conv2d(in_dim, out_dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.shortcut is None else self.get_submodule(self.shortcut)(x))


class Downsample(nn.Module):
    """Halve the resolution; padded at the right and bottom only, as the published weights expect."""

    def __init__(self, dim: int, operations: Any = nn) -> None:
        super().__init__()
        self.conv = operations.Conv2d(dim, dim, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the resolution: nearest neighbour, then a convolution (no checkerboard)."""

    def __init__(self, dim: int, operations: Any = nn) -> None:
        super().__init__()
        self.conv = operations.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
