"""RetinaFace: faces and five landmarks of each, in one pass over a picture.

Deng et al. 2019, arXiv 1905.00641. Parameter names are those of facexlib (MIT) and Pytorch_Retinaface (MIT), so that
the files people have load strictly.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from ..layers.batch_norm import BatchNorm2d

BACKBONES = ("resnet50", "mobile0.25")
STRIDES = (8, 16, 32)
_MEAN = (104.0, 117.0, 123.0)  # blue, green, red of 255


@dataclass(frozen=True)
class RetinaFaceConfig:
    """What a weight file needs beside its tensors.

    Attributes:
        backbone: one of BACKBONES; "mobile0.25" is a quarter-wide MobileNet v1.
        slope: of the activations below zero, in the parts where the backbone's authors chose one.
        anchors: side lengths in pixels of the two anchor boxes at each of the strides 8, 16 and 32.
    """

    backbone: str
    slope: float
    anchors: tuple[tuple[int, int], ...] = ((16, 32), (64, 128), (256, 512))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RetinaFaceConfig":
        """Read what `to_json` wrote; CheckpointError for anything else."""
        try:
            values = json.loads(text)
            anchors = tuple((int(small), int(large)) for small, large in values["anchors"])
            config = cls(str(values["backbone"]), float(values["slope"]), anchors)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"its config cannot be read ({error!r}); it was not written by this package."
            ) from error
        if config.backbone not in BACKBONES or len(anchors) != len(STRIDES):
            raise CheckpointError(
                f"its config is {text}; backbones are {', '.join(BACKBONES)}, with three pairs of anchors."
            )
        return config


def to_retinaface(images: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in [0, 1] to what the network takes: blue, green, red of 255, less their mean."""
    return images.flip(1) * 255 - torch.tensor(_MEAN, device=images.device, dtype=images.dtype)[:, None, None]


class RetinaFace(nn.Module):
    """(B, 3, H, W) from `to_retinaface` to box offsets (B, A, 4), class logits (B, A, 2), landmark offsets (B, A, 10).

    The A anchors go by stride, row, column and then size; sides need not be multiples of a stride.
    """

    def __init__(self, config: RetinaFaceConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        if config.backbone == "resnet50":
            self.body, widths, dim = ResNet50(operations), (512, 1024, 2048), 256
        else:
            self.body, widths, dim = MobileNet(config.slope, operations), (64, 128, 256), 64
        self.fpn = FeaturePyramid(widths, dim, config.slope, operations)
        self.ssh1 = ContextModule(dim, config.slope, operations)
        self.ssh2 = ContextModule(dim, config.slope, operations)
        self.ssh3 = ContextModule(dim, config.slope, operations)
        num_anchors = len(config.anchors[0])
        self.ClassHead = nn.ModuleList(Head(dim, num_anchors, 2, operations) for _ in STRIDES)
        self.BboxHead = nn.ModuleList(Head(dim, num_anchors, 4, operations) for _ in STRIDES)
        self.LandmarkHead = nn.ModuleList(Head(dim, num_anchors, 10, operations) for _ in STRIDES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels = self.fpn(self.body(x))
        levels = [context(level) for context, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]
        boxes, logits, landmarks = (
            torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], 1)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        )
        return boxes, logits, landmarks


class Head(nn.Module):
    """(B, dim, h, w) to (B, h * w * num_anchors, num_values)."""

    def __init__(self, dim: int, num_anchors: int, num_values: int, operations: Any) -> None:
        super().__init__()
        self.num_values = num_values
        self.conv1x1 = operations.Conv2d(dim, num_anchors * num_values, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1x1(x).permute(0, 2, 3, 1).reshape(len(x), -1, self.num_values)


class ContextModule(nn.Module):
    """SSH's context module (Najibi et al. 2017, arXiv 1708.03979): views of 3, 5 and 7 pixels, side by side."""

    def __init__(self, dim: int, slope: float, operations: Any) -> None:
        super().__init__()
        self.conv3X3 = _conv(dim, dim // 2, operations)
        self.conv5X5_1 = _conv(dim, dim // 4, operations, slope=slope)
        self.conv5X5_2 = _conv(dim // 4, dim // 4, operations)
        self.conv7X7_2 = _conv(dim // 4, dim // 4, operations, slope=slope)
        self.conv7x7_3 = _conv(dim // 4, dim // 4, operations)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.conv5X5_1(x)
        return F.relu(torch.cat((self.conv3X3(x), self.conv5X5_2(wide), self.conv7x7_3(self.conv7X7_2(wide))), 1))


class FeaturePyramid(nn.Module):
    """Maps at strides 8, 16 and 32 of one width, each knowing what the coarser ones saw (Lin et al. 2017, 1612.03144)."""

    def __init__(self, widths: Sequence[int], dim: int, slope: float, operations: Any) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (_conv(w, dim, operations, 1, slope=slope) for w in widths)
        self.merge1 = _conv(dim, dim, operations, slope=slope)
        self.merge2 = _conv(dim, dim, operations, slope=slope)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        fine, middle, coarse = self.output1(maps[0]), self.output2(maps[1]), self.output3(maps[2])
        middle = self.merge2(middle + F.interpolate(coarse, size=middle.shape[2:], mode="nearest"))
        fine = self.merge1(fine + F.interpolate(middle, size=fine.shape[2:], mode="nearest"))
        return [fine, middle, coarse]


class MobileNet(nn.Module):
    """MobileNet v1 (Howard et al. 2017, arXiv 1704.04861) at a quarter of its width, without its classifier."""

    # (width, stride) of the depthwise separable blocks per stage
    _STAGES = (
        ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)),
        ((128, 2), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1)),
        ((256, 2), (256, 1)),
    )

    def __init__(self, slope: float, operations: Any) -> None:
        super().__init__()
        stages, dim = [], 8
        for blocks in self._STAGES:
            stage = []
            for width, stride in blocks:
                stage.append(_separable(dim, width, stride, slope, operations))
                dim = width
            stages.append(stage)
        stages[0].insert(0, _conv(3, 8, operations, stride=2, slope=slope))
        self.stage1, self.stage2, self.stage3 = (nn.Sequential(*stage) for stage in stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.stage1(x)
        middle = self.stage2(fine)
        return [fine, middle, self.stage3(middle)]


class ResNet50(nn.Module):
    """ResNet-50 (He et al. 2015, arXiv 1512.03385) as torchvision has it: strides sit in the 3x3 convolutions."""

    def __init__(self, operations: Any) -> None:
        super().__init__()
        self.conv1 = operations.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.layer1 = self._layer(64, 64, 3, 1, operations)
        self.layer2 = self._layer(256, 128, 4, 2, operations)
        self.layer3 = self._layer(512, 256, 6, 2, operations)
        self.layer4 = self._layer(1024, 512, 3, 2, operations)

    @staticmethod
    def _layer(in_dim: int, dim: int, depth: int, stride: int, operations: Any) -> nn.Sequential:
        first = Bottleneck(in_dim, dim, stride, operations)
        return nn.Sequential(first, *(Bottleneck(4 * dim, dim, 1, operations) for _ in range(depth - 1)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        fine = self.layer2(self.layer1(x))
        middle = self.layer3(fine)
        return [fine, middle, self.layer4(middle)]


class Bottleneck(nn.Module):
    """Residual block of ResNet-50, (B, in_dim, H, W) to (B, 4 * dim, H / stride, W / stride)."""

    def __init__(self, in_dim: int, dim: int, stride: int, operations: Any) -> None:
        super().__init__()
        self.conv1 = operations.Conv2d(in_dim, dim, 1, bias=False)
        self.bn1 = BatchNorm2d(dim)
        self.conv2 = operations.Conv2d(dim, dim, 3, stride=stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(dim)
        self.conv3 = operations.Conv2d(dim, 4 * dim, 1, bias=False)
        self.bn3 = BatchNorm2d(4 * dim)
        self.downsample = nn.Sequential()
        if in_dim != 4 * dim or stride > 1:
            self.downsample.append(operations.Conv2d(in_dim, 4 * dim, 1, stride=stride, bias=False))
            self.downsample.append(BatchNorm2d(4 * dim))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.downsample(x) + self.bn3(self.conv3(y)))


def _conv(
    in_dim: int, dim: int, operations: Any, kernel: int = 3, stride: int = 1, slope: float | None = None
) -> nn.Sequential:
    """Convolution and batch normalisation, with an activation if it has a slope."""
    layers = [operations.Conv2d(in_dim, dim, kernel, stride, kernel // 2, bias=False), BatchNorm2d(dim)]
    return nn.Sequential(*layers, *([] if slope is None else [nn.LeakyReLU(slope, inplace=True)]))


def _separable(in_dim: int, dim: int, stride: int, slope: float, operations: Any) -> nn.Sequential:
    """A convolution of each channel alone, then one of each pixel alone."""
    return nn.Sequential(
        operations.Conv2d(in_dim, in_dim, 3, stride, 1, groups=in_dim, bias=False),
        BatchNorm2d(in_dim),
        nn.LeakyReLU(slope, inplace=True),
        operations.Conv2d(in_dim, dim, 1, bias=False),
        BatchNorm2d(dim),
        nn.LeakyReLU(slope, inplace=True),
    )
