"""ParseNet: which part of a face each pixel of an aligned crop shows.

The network facexlib ships (MIT), from Chen et al. 2021, "Progressive Semantic-Aware Style Transformation for Blind
Face Restoration" (PSFRGAN), arXiv 2009.08709. Parameter names are facexlib's, so that its file loads strictly.
"""

from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.batch_norm import BatchNorm2d

RESOLUTION = 512
CLASSES = 19
_WIDTHS = (64, 128, 256, 256, 256)  # at 512, 256, ... 32 pixels
_DEPTH = 10
_SLOPE = 0.2


class ParseNet(nn.Module):
    """(B, 3, 512, 512) in [-1, 1] to class logits (B, 19, 512, 512) and a picture (B, 3, 512, 512) nobody uses."""

    def __init__(self, operations: Any = nn) -> None:
        super().__init__()
        steps = list(pairwise(_WIDTHS))
        down = (Residual(fine, coarse, operations, 0.5) for fine, coarse in steps)
        up = (Residual(coarse, fine, operations, 2) for fine, coarse in reversed(steps))
        self.encoder = nn.Sequential(Convolution(3, _WIDTHS[0], operations), *down)
        self.body = nn.Sequential(*(Residual(_WIDTHS[-1], _WIDTHS[-1], operations) for _ in range(_DEPTH)))
        self.decoder = nn.Sequential(*up)
        self.out_img_conv = Convolution(_WIDTHS[0], 3, operations)
        self.out_mask_conv = Convolution(_WIDTHS[0], CLASSES, operations)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.encoder(x)
        x = self.decoder(x + self.body(x))
        return self.out_mask_conv(x), self.out_img_conv(x)


class Residual(nn.Module):
    """Two convolutions beside a shortcut; `scale` 0.5 halves the resolution in the second, 2 doubles it in the first."""

    def __init__(self, in_dim: int, dim: int, operations: Any, scale: float = 1) -> None:
        super().__init__()
        first, second = (1, scale) if scale < 1 else (scale, 1)
        self.shortcut_func = nn.Identity() if scale == 1 else Convolution(in_dim, dim, operations, scale)
        self.conv1 = Convolution(in_dim, dim, operations, first, is_normed=True)
        self.conv2 = Convolution(dim, dim, operations, second, is_normed=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut_func(x) + self.conv2(F.leaky_relu(self.conv1(x), _SLOPE))


class Convolution(nn.Module):
    """3x3 over mirrored edges, after nearest upsampling (`scale` 2) or with a stride (0.5), perhaps normalised."""

    def __init__(self, in_dim: int, dim: int, operations: Any, scale: float = 1, *, is_normed: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.conv2d = operations.Conv2d(in_dim, dim, 3, stride=2 if scale < 1 else 1, bias=not is_normed)
        self.norm = Norm(dim) if is_normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.scale > 1:
            x = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return self.norm(self.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect")))


class Norm(nn.Module):
    """Batch normalisation under facexlib's name, `norm.norm`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)
