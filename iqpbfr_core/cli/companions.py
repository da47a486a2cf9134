"""Pictures that come with photos: masks (--mask) and enlarged photos (--background); one for all, or a folder of them."""

from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..image import IMAGE_SUFFIXES, read_image


def companion_of(photo: Path, place: Path) -> Path:
    """The picture that belongs to a photo: `place` itself, or of a folder the one of the photo's name, in any format."""
    if not place.is_dir():
        return place
    found = [place / f"{photo.stem}{suffix}" for suffix in IMAGE_SUFFIXES]
    return next((path for path in found if path.is_file()), place / photo.name)


def mask_of(photo: Path, masks: Path | None, size: tuple[int, int]) -> Tensor | None:
    """The mask (1, 1, H, W) in [0, 1], white where something is to change, of a photo of `size` (H, W); None without."""
    if masks is None:
        return None
    file = companion_of(photo, masks)
    mask = read_image(file).mean(1, keepdim=True)
    if tuple(mask.shape[2:]) != size:
        raise InputError(
            f"{file}: the mask has {mask.shape[3]}x{mask.shape[2]} pixels, {photo} has {size[1]}x{size[0]}; save it at the photo's size."
        )
    return mask
