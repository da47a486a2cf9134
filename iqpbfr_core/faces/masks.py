"""Where a restored crop is opaque: masks (N, 1, S, S) in [0, 1] that fade to 0 before the crop's edge."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint import read_weights
from ..download import Progress
from ..errors import CheckpointError, InputError
from ..image import resize, to_network
from ..models.parsenet import RESOLUTION, ParseNet
from .weights import PARSENET, load_strictly, locate

FEATHER = 0.25  # share of the half side over which the template's mask fades
# ParseNet's classes that belong to the restored face: skin, nose, glasses, eyes, brows, ears, mouth, lips, hair,
# earrings. Left out: background (0), hat (14), necklace (16), neck (17), clothes (18).
BATCH_SIZE = 8
_FACE_CLASSES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15)


def template_mask(size: int, feather: float = FEATHER, device: torch.device | str = "cpu") -> Tensor:
    """(1, 1, size, size): 1 around the face, 0 at the crop's edge; a square with round corners, smooth everywhere.

    `feather` in (0, 1] is the share of the half side over which it fades.
    """
    if not 0 < feather <= 1:
        raise InputError(f"feather must lie in (0, 1], got {feather}.")
    position = ((torch.arange(size, device=device) + 0.5) / size * 2 - 1).abs()
    distance = (position[:, None] ** 4 + position[None, :] ** 4) ** 0.25
    return smoothstep((1 - distance) / feather)[None, None]


def smoothstep(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, and a cubic without kinks between."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


class FaceParser:
    """ParseNet, reduced to one question: which pixels of an aligned crop are face and hair?

    Attributes:
        network: ParseNet; may be moved and converted from outside.
        device: where it computes; weights that lie elsewhere come there as they are used.
    """

    def __init__(self, network: ParseNet, device: torch.device | str = "cpu") -> None:
        self.network = network.eval().requires_grad_(False)
        self.device = torch.device(device)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "FaceParser":
        """Move and convert the weights in place; returns itself."""
        self.network.to(device=device, dtype=dtype)
        self.device = self.device if device is None else torch.device(device)
        return self

    @torch.no_grad()
    def __call__(self, crops: Tensor, feather: float = FEATHER) -> Tensor:
        """Feathered masks (N, 1, S, S) of aligned crops (N, 3, S, S) in [0, 1]; never beyond the template's."""
        dtype = next(self.network.parameters()).dtype
        inputs = resize(crops.to(self.device, torch.float32), (RESOLUTION, RESOLUTION))
        parts = to_network(inputs).to(dtype).split(BATCH_SIZE)
        classes = torch.cat([self.network(part)[0].argmax(1, keepdim=True) for part in parts])
        is_face = torch.isin(classes, torch.tensor(_FACE_CLASSES, device=classes.device)).float()
        soft = _fade_inwards(is_face, round(feather * RESOLUTION / 4))
        size = crops.shape[-1]
        soft = F.interpolate(soft, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        return soft.to(crops.device) * template_mask(size, feather, crops.device)


def _fade_inwards(mask: Tensor, radius: int) -> Tensor:
    """A hard mask (N, 1, S, S) made to fade over `radius` pixels on its inner side, so that nothing outside is touched."""
    side = 2 * max(1, radius // 2) + 1
    padded = F.pad(mask, [side - 1] * 4)
    core = -F.max_pool2d(-padded, side, stride=1)  # erosion; its border is half a window in
    return smoothstep(F.avg_pool2d(core, side, stride=1))


def load_parser(
    source: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    folder: str | os.PathLike[str] | None = None,
    download: bool = False,
    operations: Any = nn,
    progress: Progress | None = None,
) -> FaceParser:
    """Load facexlib's ParseNet from `source`, or from `parsing_parsenet.pth` in `folder`; see `load_detector`."""
    path = locate(PARSENET, folder, download, progress) if source is None else Path(source)
    try:
        network = load_strictly(partial(ParseNet, operations), read_weights(path)[0], "ParseNet")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return FaceParser(network).to(device, dtype)
