"""Face alignment network: heat maps of landmarks, by stacked hourglasses that are told where in the picture they are.

Wang et al. 2019, "Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression", arXiv 1904.07399, after Bulat
and Tzimiropoulos 2017, arXiv 1703.07332, and CoordConv, Liu et al. 2018, arXiv 1807.03247. Parameter names are
facexlib's (MIT), so that its `alignment_WFLW_4HG.pth` loads strictly.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.batch_norm import BatchNorm2d

SIDE = 256  # pixels of the picture it takes
HEAT_SIDE = 64  # of the heat maps
LANDMARKS = 98  # as WFLW numbers them (Wu et al. 2018, arXiv 1805.10483)
_WIDTH = 256
_DEPTH = 4  # levels of an hourglass
_ON_BOUNDARY = 0.05  # of the boundary's heat map


class FAN(nn.Module):
    """(B, 3, 256, 256) in [0, 1] to the last hourglass's heat maps (B, num_landmarks + 1, 64, 64); the one behind the
    landmarks is of the lines through them.
    """

    def __init__(self, num_stacks: int = 4, num_landmarks: int = LANDMARKS, operations: Any = nn) -> None:
        super().__init__()
        self.num_stacks = num_stacks
        self.conv1 = CoordConv(3, 64, operations, kernel_size=7, stride=2, padding=3)
        self.bn1 = BatchNorm2d(64)
        self.conv2 = ConvBlock(64, 128, operations)
        self.conv3 = ConvBlock(128, 128, operations)
        self.conv4 = ConvBlock(128, _WIDTH, operations)
        for stack in range(num_stacks):
            self.add_module(f"m{stack}", Hourglass(stack > 0, operations))
            self.add_module(f"top_m_{stack}", ConvBlock(_WIDTH, _WIDTH, operations))
            self.add_module(f"conv_last{stack}", operations.Conv2d(_WIDTH, _WIDTH, 1))
            self.add_module(f"bn_end{stack}", BatchNorm2d(_WIDTH))
            self.add_module(f"l{stack}", operations.Conv2d(_WIDTH, num_landmarks + 1, 1))
            if stack < num_stacks - 1:
                self.add_module(f"bl{stack}", operations.Conv2d(_WIDTH, _WIDTH, 1))
                self.add_module(f"al{stack}", operations.Conv2d(num_landmarks + 1, _WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.conv4(self.conv3(F.avg_pool2d(self.conv2(x), 2)))
        heat = None
        for stack in range(self.num_stacks):
            y = self._part("top_m_", stack)(self._part("m", stack)(x, heat))
            y = F.relu(self._part("bn_end", stack)(self._part("conv_last", stack)(y)))
            heat = self._part("l", stack)(y)
            if stack < self.num_stacks - 1:
                x = x + self._part("bl", stack)(y) + self._part("al", stack)(heat)
        assert heat is not None
        return heat

    def _part(self, name: str, stack: int) -> nn.Module:
        return self.get_submodule(f"{name}{stack}")


class Hourglass(nn.Module):
    """(B, 256, 64, 64) to the same: down by halves and up again, with a branch past each level.

    After the first of a stack it is also told where the `heat` (B, n, 64, 64) before it has seen the face's lines.
    """

    def __init__(self, sees_heat: bool, operations: Any) -> None:
        super().__init__()
        self.coordconv = CoordConv(_WIDTH, _WIDTH, operations, sees_heat)
        names = [f"{branch}_{level}" for level in range(1, _DEPTH + 1) for branch in ("b1", "b2", "b3")]
        for name in (*names, "b2_plus_1"):
            self.add_module(name, ConvBlock(_WIDTH, _WIDTH, operations))

    def forward(self, x: Tensor, heat: Tensor | None) -> Tensor:
        return self._level(_DEPTH, self.coordconv(x, heat))

    def _level(self, level: int, x: Tensor) -> Tensor:
        low = self.get_submodule(f"b2_{level}")(F.avg_pool2d(x, 2))
        low = self._level(level - 1, low) if level > 1 else self.get_submodule("b2_plus_1")(low)
        low = self.get_submodule(f"b3_{level}")(low)
        return self.get_submodule(f"b1_{level}")(x) + F.interpolate(low, scale_factor=2, mode="nearest")


class ConvBlock(nn.Module):
    """Three 3x3 convolutions, each of what the last one gave, side by side; beside a shortcut."""

    def __init__(self, in_dim: int, dim: int, operations: Any) -> None:
        super().__init__()
        widths = (in_dim, dim // 2, dim // 4, dim // 4)
        for number in (1, 2, 3):
            before, after = widths[number - 1 : number + 1]
            self.add_module(f"bn{number}", BatchNorm2d(before))
            self.add_module(f"conv{number}", operations.Conv2d(before, after, 3, padding=1, bias=False))
        self.downsample = None
        if in_dim != dim:
            self.downsample = nn.Sequential(
                BatchNorm2d(in_dim), nn.ReLU(), operations.Conv2d(in_dim, dim, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        y, parts = x, []
        for number in (1, 2, 3):
            y = self.get_submodule(f"conv{number}")(F.relu(self.get_submodule(f"bn{number}")(y)))
            parts.append(y)
        return torch.cat(parts, 1) + (x if self.downsample is None else self.downsample(x))


class CoordConv(nn.Module):
    """A convolution that also sees each place's row, column and distance from the middle, and perhaps the first two
    again where a heat map's last channel is warm.
    """

    def __init__(self, in_dim: int, dim: int, operations: Any, sees_heat: bool = False, **options: int) -> None:
        super().__init__()
        options = {"kernel_size": 1, **options}
        self.conv = operations.Conv2d(in_dim + (5 if sees_heat else 3), dim, **options)

    def forward(self, x: Tensor, heat: Tensor | None = None) -> Tensor:
        height, width = x.shape[2:]
        rows = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)[:, None].expand(height, width)
        columns = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype).expand(height, width)
        radius = (rows.square() + columns.square()).sqrt()
        places = torch.stack((rows, columns, radius / radius.max())).expand(len(x), -1, -1, -1)
        if heat is None:
            return self.conv(torch.cat((x, places), 1))
        is_warm = heat[:, -1:].clamp(0, 1) > _ON_BOUNDARY
        return self.conv(torch.cat((x, places, places[:, :2] * is_warm), 1))
