"""What --mask names: one picture for all photos, or a folder with one for each, white where something is to change."""

from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..image import IMAGE_SUFFIXES, read_image


def mask_of(photo: Path, masks: Path | None, size: tuple[int, int]) -> Tensor | None:
    """The mask (1, 1, H, W) in [0, 1] of a photo of `size` (H, W); None without --mask."""
    if masks is None:
        return None
    file = masks
    if masks.is_dir():
        found = [masks / f"{photo.stem}{suffix}" for suffix in IMAGE_SUFFIXES]
        file = next((path for path in found if path.is_file()), masks / photo.name)
    mask = read_image(file).mean(1, keepdim=True)
    if tuple(mask.shape[2:]) != size:
        raise InputError(
            f"{file}: the mask has {mask.shape[3]}x{mask.shape[2]} pixels, {photo} has {size[1]}x{size[0]}; save it at the photo's size."
        )
    return mask
