"""Anchor boxes: where RetinaFace may find a face, and what its outputs say relative to them.

Every place of the three maps has two square anchors. A box is predicted as the shift of its centre and the logarithm of
its size, landmarks as shifts, all in units of the anchor's side (Liu et al. 2016, SSD, arXiv 1512.02325).
"""

from math import ceil

import torch
from torch import Tensor

from ..models.retinaface import STRIDES, RetinaFaceConfig

SHIFT_VARIANCE, SIZE_VARIANCE = 0.1, 0.2  # what brings the predictions to about the same scale


def anchor_boxes(config: RetinaFaceConfig, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """(A, 3): centre x, centre y and side in pixels of every anchor, in the order of the network's outputs."""
    levels = []
    for stride, sides in zip(STRIDES, config.anchors, strict=True):
        y = (torch.arange(ceil(height / stride), device=device) + 0.5) * stride
        x = (torch.arange(ceil(width / stride), device=device) + 0.5) * stride
        side = torch.tensor(sides, device=device, dtype=torch.float32)
        y, x, side = torch.meshgrid(y, x, side, indexing="ij")
        levels.append(torch.stack((x, y, side), -1).reshape(-1, 3))
    return torch.cat(levels)


def decode(anchors: Tensor, offsets: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Anchors (n, 3) and what was predicted at them, (n, 4) and (n, 10), to boxes (n, 4) and landmarks (n, 5, 2)."""
    centre, side = anchors[:, :2], anchors[:, 2:]
    middle = centre + offsets[:, :2] * SHIFT_VARIANCE * side
    half = side * (offsets[:, 2:] * SIZE_VARIANCE).exp() / 2
    landmarks = centre[:, None] + points.reshape(-1, 5, 2) * SHIFT_VARIANCE * side[:, None]
    return torch.cat((middle - half, middle + half), 1), landmarks


def encode(anchors: Tensor, boxes: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """The opposite of `decode`: what must be predicted at anchors (n, 3) for these boxes (n, 4), landmarks (n, 5, 2)."""
    centre, side = anchors[:, :2], anchors[:, 2:]
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    offsets = torch.cat(((middle - centre) / side / SHIFT_VARIANCE, (size / side).log() / SIZE_VARIANCE), 1)
    return offsets, ((landmarks - centre[:, None]) / side[:, None] / SHIFT_VARIANCE).flatten(1)
