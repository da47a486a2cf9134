"""Photo files: pixels with what comes along in the file, so that a restored photo keeps its colours, date and place."""

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from .image import check_images, check_suffix, from_pil, is_deep, open_image, save_pil, to_pil, upright

_KEPT = ("exif", "icc_profile", "dpi")
_MAX_DPI = 100_000
_BASE = ExifTags.Base
_TIFF_TAGS = (
    _BASE.ImageDescription,
    _BASE.Make,
    _BASE.Model,
    _BASE.Software,
    _BASE.DateTime,
    _BASE.Artist,
    _BASE.Copyright,
)
_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_GREY_SUFFIXES = (".png", ".tif", ".tiff")  # formats that hold 16-bit grey
_ALPHA_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
# TIFF is written uncompressed: PIL cannot write EXIF through libtiff's compression.
_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95},
}


@dataclass(frozen=True)
class Photo:
    """A photo as read from a file, upright.

    Attributes:
        pixels: (1, 3, H, W) float32 in [0, 1].
        is_grey: whether the file has one channel.
        bits: per channel, 8 or (grey only) 16.
        alpha: its transparency, if it has any.
        metadata: EXIF (without the orientation, which is applied), ICC profile and resolution, as PIL saves them.
    """

    pixels: Tensor
    is_grey: bool = False
    bits: int = 8
    alpha: Image.Image | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Read a photo file. Raises InputError if it cannot be read or has several pages."""
    with open_image(path) as file:
        image = upright(file)
        metadata = {key: image.info[key] for key in _KEPT if image.info.get(key)}
        if "dpi" in metadata and not all(0 < float(number) < _MAX_DPI for number in metadata["dpi"]):
            del metadata["dpi"]  # 0/0 and the like, which no format takes
        if file.format == "TIFF":
            metadata["exif"] = _descriptive_tags(file)
        if image.mode == "CMYK":
            metadata.pop("icc_profile", None)  # it describes CMYK, and the result is RGB
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        is_grey, bits = is_deep(image) or image.mode in _GREY_MODES, 16 if is_deep(image) else 8
        pixels = from_pil(image)
    return Photo(check_images(pixels, f"{path}:"), is_grey, bits, alpha, metadata)


def _descriptive_tags(file: Image.Image) -> bytes:
    """What a TIFF tells about its picture; its other tags tell where the pixels are, which is true of that file only."""
    tags, kept = file.getexif(), Image.Exif()
    for tag in _TIFF_TAGS:
        if tag in tags:
            kept[tag] = tags[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        kept.get_ifd(directory).update(tags.get_ifd(directory))
    return kept.tobytes()


def write_photo(pixels: Tensor, like: Photo, path: str | os.PathLike[str]) -> None:
    """Write (3, H, W) in [0, 1] with everything `like` had besides its pixels; format by suffix, whole or not at all."""
    suffix = check_suffix(path)
    image = to_pil(pixels)
    is_grey = like.is_grey and bool((pixels.amax(0) - pixels.amin(0)).max() <= 1 / 255)  # unless colorized
    if like.bits == 16 and suffix in _DEEP_GREY_SUFFIXES and is_grey:
        grey = (pixels[0].detach().clamp(0, 1).cpu() * 65535).round().numpy()
        image = Image.fromarray(grey.astype(np.uint16))
    elif is_grey:
        image = image.getchannel(0)
    if like.alpha is not None and suffix in _ALPHA_SUFFIXES:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
        image.putalpha(like.alpha.resize(image.size))
    save_pil(image, path, {**like.metadata, **_OPTIONS.get(suffix, {})})
