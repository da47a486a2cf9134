"""Aligned faces of any size and shape, for models that take squares of one size."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..image import check_aspect, check_images, resize

MAX_SIDE = 8192  # the square of it takes 800 MB


def to_square(face: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, 3, S, S), S = max(H, W): padded to the right or below with its border, not stretched."""
    check_aspect(check_images(face, "the image"), "the image")
    height, width = face.shape[2:]
    side = max(height, width)
    if side > MAX_SIDE:
        raise InputError(f"the image is {width}x{height} pixels; aligned faces are at most {MAX_SIDE} pixels long.")
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
