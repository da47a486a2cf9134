"""Photo files: pixels with what comes along in the file, so that a restored photo keeps its colours, date and place."""

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from .errors import InputError, OutputError
from .image import IMAGE_SUFFIXES, from_pil, is_16_bit, open_image, to_pil, write_atomically

_KEPT = ("exif", "icc_profile", "dpi")
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
        pages = getattr(file, "n_frames", 1)
        if pages > 1 and file.format != "MPO":  # a phone's JPEG may carry a second, auxiliary picture
            raise InputError(f"{path}: has {pages} pages or frames; save them as single images.")
        image = ImageOps.exif_transpose(file)
        metadata = {key: image.info[key] for key in _KEPT if image.info.get(key)}
        if file.format == "TIFF":
            metadata["exif"] = _descriptive_tags(file)
        if image.mode == "CMYK":
            metadata.pop("icc_profile", None)  # it describes CMYK, and the result is RGB
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        bits = 16 if is_16_bit(image) else 8
        return Photo(from_pil(image), bits == 16 or image.mode in _GREY_MODES, bits, alpha, metadata)


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
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise OutputError(
            f"{target}: cannot write {suffix or 'a file without suffix'}; use {', '.join(IMAGE_SUFFIXES)}."
        )
    image = to_pil(pixels)
    if like.bits == 16 and suffix in _DEEP_GREY_SUFFIXES:
        grey = (pixels[0].detach().clamp(0, 1).cpu() * 65535).round().numpy()
        image = Image.fromarray(grey.astype(np.uint16))
    elif like.is_grey:
        image = image.getchannel(0)
    if like.alpha is not None and suffix in _ALPHA_SUFFIXES:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
        image.putalpha(like.alpha.resize(image.size))
    encoded = io.BytesIO()
    image.save(encoded, Image.registered_extensions()[suffix], **like.metadata, **_OPTIONS.get(suffix, {}))
    write_atomically(target, encoded.getvalue())
