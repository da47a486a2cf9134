"""Texture warping (VQFR, Gu et al. 2022, arXiv 2205.06803): the decoder's texture is moved to where the input's shapes are.

The deformable convolution is Zhu et al. 2019, arXiv 1811.11168.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .residual import group_norm

OFFSET_GROUPS = 4  # channels of one group are moved together


class DeformableConv(nn.Module):
    """A 3x3 convolution whose samples are taken at places, and weighted by a mask, that other features predict."""

    def __init__(self, dim: int, operations: Any = nn) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, dim, 3, 3))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.conv_offset = operations.Conv2d(dim, OFFSET_GROUPS * 9 * 3, 3, padding=1)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """x, guide: (B, C, H, W) -> (B, C, H, W); float32 inside, and face by face, for its buffers are nine maps."""
        from torchvision.ops import deform_conv2d

        offset, mask = self.conv_offset(guide).float().split((OFFSET_GROUPS * 18, OFFSET_GROUPS * 9), dim=1)
        weight, bias = self.weight.to(offset), self.bias.to(offset)
        faces = zip(x.float().split(1), offset.split(1), mask.sigmoid().split(1), strict=True)
        moved = [deform_conv2d(face, to, weight, bias, padding=(1, 1), mask=share) for face, to, share in faces]
        return torch.cat(moved).to(x.dtype)


class TextureWarping(nn.Module):
    """One level of it.

    Args:
        dim: channels of the texture.
        input_dim: channels of the features of the input image.
        previous_dim: channels of the guide of the next coarser level; 0 at the coarsest.
    """

    def __init__(self, dim: int, input_dim: int, previous_dim: int, operations: Any = nn) -> None:
        super().__init__()
        self.offset_conv1 = nn.Sequential(
            operations.Conv2d(dim + input_dim, dim, 1),
            group_norm(dim, operations),
            nn.SiLU(),
            operations.Conv2d(dim, dim, 7, padding=3, groups=dim),
            group_norm(dim, operations),
            nn.SiLU(),
            operations.Conv2d(dim, dim, 1),
        )
        self.offset_conv2 = nn.Sequential(
            operations.Conv2d(dim + previous_dim, dim, 3, padding=1), group_norm(dim, operations), nn.SiLU()
        )
        self.dcn = DeformableConv(dim, operations)

    def forward(self, texture: Tensor, seen: Tensor, previous: Tensor | None) -> tuple[Tensor, Tensor]:
        """texture (B, C, H, W), the input's features `seen` at the same size, the coarser level's guide -> warped, guide."""
        guide = self.offset_conv1(torch.cat([seen, texture], dim=1))
        if previous is not None:
            larger = F.interpolate(previous, scale_factor=2, mode="bilinear", align_corners=False) * 2
            guide = torch.cat([guide, larger], dim=1)
        guide = self.offset_conv2(guide)
        return self.dcn(texture, guide), guide


def shrink(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) to (B, C, side, side), bilinear without smoothing, as these networks were trained."""
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
