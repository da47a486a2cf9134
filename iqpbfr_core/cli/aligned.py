"""Aligned faces of any size and shape, for models that take squares of one size."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ..image import check_images, resize


def to_square(face: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, 3, S, S), S = max(H, W): padded to the right or below with its border, not stretched."""
    check_images(face, "the image")
    height, width = face.shape[2:]
    side = max(height, width)
    return F.pad(face, (0, side - width, 0, side - height), mode="replicate")


def through_square(face: Tensor, resolution: int, restore: Callable[[Tensor], Tensor]) -> Tensor:
    """Put one face (1, 3, H, W) through `restore`, which takes and gives (1, 3, resolution, resolution).

    The result has the input's size, or its proportions at the model's resolution where the input is smaller.
    """
    square = to_square(face)
    height, width = face.shape[2:]
    side = max(height, width)
    restored = restore(resize(square, (resolution, resolution)))
    final = max(side, resolution)
    scale = final / side
    restored = resize(restored, (final, final))
    return restored[:, :, : round(height * scale), : round(width * scale)]
