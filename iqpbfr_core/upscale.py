"""Whole pictures enlarged by any upscaler that spandrel knows (ESRGAN, SwinIR, DAT, ...), tile by tile."""

import os
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from .checkpoint import read_weights
from .errors import CheckpointError, first_line
from .extras import needs

_TILE = 384  # pixels of the picture
_CONTEXT = 32  # pixels around a tile that are shown to the model, too


def load_upscaler(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Callable[[Tensor], Tensor]:
    """An upscaler from a weight file: (B, 3, H, W) in [0, 1] to (B, 3, kH, kW), where the input is.

    Raises:
        WeightsNotFoundError: there is no such file.
        CheckpointError: it cannot be read, spandrel does not know it, or it does not enlarge pictures.
        MissingPackageError: spandrel is not installed.
    """
    with needs("upscale", "enlarging by a model"):
        import spandrel
    weights, _ = read_weights(path)
    try:
        model = spandrel.ModelLoader().load_from_state_dict(weights)
    except Exception as error:  # every architecture has a way of its own to refuse
        raise CheckpointError(f"{path}: this is no upscaler that spandrel knows ({first_line(error)}).") from error
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.purpose == "FaceSR":
        raise CheckpointError(f"{path}: this is {model.architecture.name}, which does not enlarge whole pictures.")
    if (model.input_channels, model.output_channels) != (3, 3):
        raise CheckpointError(f"{path}: takes pictures of {model.input_channels} channels, not of 3.")
    model.to(torch.device(device)).float().eval()
    tile = 2**31 if model.tiling == spandrel.ModelTiling.INTERNAL else _TILE

    def enlarge(images: Tensor) -> Tensor:
        return _in_tiles(lambda part: model(part.to(model.device, torch.float32)), images, model.scale, tile)

    return enlarge


def _in_tiles(model: Callable[[Tensor], Tensor], images: Tensor, scale: int, tile: int) -> Tensor:
    """Every image in tiles, each cut out of what the model makes of the tile with `_CONTEXT` around it."""
    _, _, height, width = images.shape
    enlarged = images.new_empty(len(images), 3, height * scale, width * scale)
    for index, top, left in product(range(len(images)), range(0, height, tile), range(0, width, tile)):
        above, before = min(top, _CONTEXT), min(left, _CONTEXT)
        seen = images[index : index + 1, :, top - above : top + tile + _CONTEXT, left - before : left + tile + _CONTEXT]
        larger = model(seen)[0, :, above * scale :, before * scale :]
        here = enlarged[index, :, top * scale : (top + tile) * scale, left * scale : (left + tile) * scale]
        here.copy_(larger[:, : here.shape[1], : here.shape[2]])
    return enlarged
