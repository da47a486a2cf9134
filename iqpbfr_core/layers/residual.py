"""Convolutional blocks of the VQGAN autoencoder (Esser et al. 2021, arXiv 2012.09841), named as CodeFormer stores them."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelAffine(nn.Module):
    """Scale and shift every channel: stands where a norm would, but a pixel's result depends on that pixel alone."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same."""
        return x * self.scale.to(x)[:, None, None] + self.shift.to(x)[:, None, None]


def channel_affine(dim: int, operations: Any = nn) -> nn.Module:
    """`ChannelAffine` with the signature of `group_norm`."""
    return ChannelAffine(dim)


def group_norm(dim: int, operations: Any = nn) -> nn.Module:
    """32 groups as published; narrow layers get groups of four channels, so that no group is a single channel."""
    return operations.GroupNorm(32 if dim >= 64 else max(1, dim // 4), dim, eps=1e-6)


class ResidualBlock(nn.Module):
    """(B, in_dim, H, W) -> (B, out_dim, H, W): norm, SiLU, conv, twice, plus the input, 1x1 convolved where the width changes.

    `shortcut` is the name of that convolution in the checkpoint, `norm` makes the norms.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        operations: Any = nn,
        shortcut: str = "conv_out",
        norm: Callable[[int, Any], nn.Module] = group_norm,
    ) -> None:
        super().__init__()
        self.norm1 = norm(in_dim, operations)
        self.conv1 = operations.Conv2d(in_dim, out_dim, 3, padding=1)
        self.norm2 = norm(out_dim, operations)
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
    """Double the resolution: nearest neighbour, then a 3x3 convolution (no checkerboard).

    Computed before enlarging, with 4/9 of the multiplications: of the four pixels that a pixel becomes, each one's 3x3
    neighbourhood holds only 2x2 different pixels (the sub-pixel view of Shi et al. 2016, arXiv 1609.07009).
    """

    def __init__(self, dim: int, operations: Any = nn) -> None:
        super().__init__()
        self.conv = operations.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        kernels, bias = _phase_kernels(self.conv.weight.to(x)), self.conv.bias.to(x)
        phases = F.conv2d(F.pad(x, (1, 1, 1, 1)), kernels.flatten(0, 2), bias.repeat(4)).unflatten(1, (2, 2, -1))
        rows = [torch.stack([phases[:, a, b, :, a : a + height, b : b + width] for b in (0, 1)], -1) for a in (0, 1)]
        return torch.stack(rows, 3).flatten(4, 5).flatten(2, 3)


def _phase_kernels(weight: Tensor) -> Tensor:
    """(O, C, 3, 3) -> (2, 2, O, C, 2, 2): the kernel that gives the pixels of even or odd row and column."""
    first, middle, last = weight.unbind(2)
    rows = torch.stack([torch.stack((first, middle + last), 2), torch.stack((first + middle, last), 2)])
    first, middle, last = rows.unbind(-1)
    return torch.stack([torch.stack((first, middle + last), -1), torch.stack((first + middle, last), -1)], 1)
