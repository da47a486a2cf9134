"""Images as tensors: checks, ranges, files.

One convention everywhere above the networks: float tensors (B, 3, H, W), RGB, in [0, 1]. Networks work in [-1, 1].
"""

import contextlib
import io
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from .errors import InputError, OutputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MIN_SIDE = 16


def check_images(images: Tensor, name: str = "images") -> Tensor:
    """Return `images` if it is a float tensor (B, 3, H, W) with finite values in [0, 1]; otherwise raise InputError."""
    if not isinstance(images, Tensor):
        raise InputError(f"{name} must be a torch.Tensor (B, 3, H, W) in [0, 1], got {type(images).__name__}.")
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"{name} must have shape (B, 3, H, W), got {tuple(images.shape)}. "
            "Drop the alpha channel or repeat a grey channel three times."
        )
    if images.shape[0] == 0:
        raise InputError(f"{name} is an empty batch: at least one image is needed.")
    if min(images.shape[2:]) < MIN_SIDE:
        raise InputError(
            f"{name} is {images.shape[3]}x{images.shape[2]} pixels; each side must be at least {MIN_SIDE}."
        )
    if not images.is_floating_point():
        raise InputError(f"{name} must be floating point in [0, 1], got {images.dtype}. Divide 8-bit values by 255.")
    low, high = (bound.item() for bound in images.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"{name} contains NaN or infinity.")
    if low < -1e-3 or high > 1 + 1e-3:
        raise InputError(f"{name} must lie in [0, 1], got [{low:.4g}, {high:.4g}].")
    return images


def to_network(images: Tensor) -> Tensor:
    """[0, 1] to [-1, 1]."""
    return images * 2 - 1


def from_network(images: Tensor) -> Tensor:
    """[-1, 1] to [0, 1], clamped, float32."""
    return (images.float() * 0.5 + 0.5).clamp(0, 1)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, anti-aliased resize of (B, C, H, W) to `size` (H, W), clamped to [0, 1]; the same size is returned as is."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    resized = F.interpolate(images.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1).to(images.dtype)


def tile(rows: Sequence[Tensor]) -> Tensor:
    """Rows of equally sized images, each (B, 3, H, W), to one picture (3, rows * H, B * W)."""
    return torch.cat([torch.cat(list(row), 2) for row in rows], 1)


@contextlib.contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open an image file with PIL; whatever makes it unreadable, then or while it is decoded, is an InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                yield file
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: too many pixels for one image ({error}).") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable image ({error}). Supported: {', '.join(IMAGE_SUFFIXES)}.") from None


def is_16_bit(image: Image.Image) -> bool:
    """Whether a PIL image is grey with 16 bits; 16-bit colour, PIL itself reduces to 8."""
    return image.mode.startswith("I;16") or image.mode == "I"


def from_pil(image: Image.Image) -> Tensor:
    """A PIL image to (1, 3, H, W) float32 in [0, 1]: alpha dropped, grey repeated."""
    if is_16_bit(image):
        grey = np.asarray(image, dtype=np.float32) / 65535
        pixels = np.repeat(grey[..., None], 3, axis=2)
    else:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read an image file as (1, 3, H, W) float32 in [0, 1]: EXIF orientation applied, alpha dropped, grey repeated."""
    with open_image(path) as file:
        return from_pil(ImageOps.exif_transpose(file))


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] to an 8-bit PIL image, rounded."""
    return Image.fromarray((image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def write_image(image: Tensor, path: str | os.PathLike[str]) -> None:
    """Write (3, H, W) in [0, 1] to `path` (format by suffix). A file is there whole or not at all."""
    target = Path(path)
    encoded = io.BytesIO()
    suffix = target.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise OutputError(
            f"{target}: cannot write {suffix or 'a file without suffix'}; use {', '.join(IMAGE_SUFFIXES)}."
        )
    options = {"quality": 95} if suffix in (".jpg", ".jpeg", ".webp") else {}
    to_pil(image).save(encoded, format=Image.registered_extensions()[suffix], **options)
    write_atomically(target, encoded.getvalue())


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` through a temporary file beside it, so that no kill or full disk leaves a broken file.

    The temporary file's name follows from `path`: what a kill leaves is taken up by the next attempt.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: could not be written ({error.strerror or error}).") from error
