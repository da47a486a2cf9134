"""Images as tensors: checks, ranges, files.

One convention everywhere above the networks: float tensors (B, 3, H, W), RGB, in [0, 1]. Networks work in [-1, 1].
"""

import contextlib
import io
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from .errors import InputError, OutputError, first_line

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# What is tried, whatever a file is called: of PostScript, PIL would let Ghostscript make a picture.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MIN_SIDE = 16
MAX_ASPECT = 16
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


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
        hint = ""
        if high > 2 and low > -1:
            hint = " Are these 0 to 255? Divide by 255."
        elif -1.01 < low < -0.1 and high < 1.01:
            hint = " Are these -1 to 1? Halve them and add 0.5."
        raise InputError(f"{name} must lie in [0, 1], got [{low:.4g}, {high:.4g}].{hint}")
    return images


def check_mask(mask: Tensor, name: str = "the mask") -> Tensor:
    """Return `mask`, a tensor of any shape, if it holds pixels with values in [0, 1]; otherwise raise InputError."""
    if mask.numel() == 0:
        raise InputError(f"{name} must hold pixels, got shape {tuple(mask.shape)}.")
    low, high = (bound.item() for bound in mask.float().aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN is neither
        hint = " Are these 0 to 255? Divide by 255." if high > 2 else ""
        raise InputError(f"{name} must lie in [0, 1], got [{low:.4g}, {high:.4g}].{hint}")
    return mask


def check_aspect(images: Tensor, name: str = "images") -> None:
    """Raise InputError for strips: what makes (B, 3, H, W) square, or its shorter side long, would fill the memory."""
    height, width = images.shape[2:]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise InputError(
            f"{name} of {width}x{height} pixels is a strip; faces are at most {MAX_ASPECT} times as long as wide."
        )


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


def to_grey(images: Tensor) -> Tensor:
    """The luma of (B, 3, H, W), in all three channels."""
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype)[:, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def tile(rows: Sequence[Tensor]) -> Tensor:
    """Rows of equally sized images, each (B, 3, H, W), to one picture (3, rows * H, B * W)."""
    return torch.cat([torch.cat(list(row), 2) for row in rows], 1)


@contextlib.contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a file with one picture by PIL; whatever makes it unreadable, then or while it is decoded, is an InputError.

    Inside there is to be nothing but decoding: every exception is taken for the file's fault.
    """
    if not os.path.isfile(path):  # a pipe would be waited for
        raise InputError(f"{path}: no such file." if not os.path.exists(path) else f"{path}: not a file.")
    with _opened(path, path) as file:
        yield file


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | io.BytesIO, path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """`open_image` for what is at `path`, or was read from there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about metadata, with no file named
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=_FORMATS) as file:
                frames = getattr(file, "n_frames", 1)
                if frames > 1 and file.format != "MPO":  # a phone's JPEG may carry a second, auxiliary picture
                    raise InputError(f"{path}: has {frames} pages or frames; save them as single images.")
                yield file
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: too many pixels for one image ({error}).") from None
    except Exception as error:  # PIL parses bytes of anybody's making here, and every kind of error was seen
        raise InputError(
            f"{path}: not a readable image ({first_line(error)}). Supported: {', '.join(IMAGE_SUFFIXES)}."
        ) from error


def upright(image: Image.Image) -> Image.Image:
    """A PIL image with its EXIF orientation applied; EXIF that cannot be parsed is left behind."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as in `open_image`
        image.info.pop("exif", None)
        return image


def is_deep(image: Image.Image) -> bool:
    """Whether a PIL image is grey with more than 8 bits; deep colour, PIL itself reduces to 8."""
    return image.mode.startswith("I") or image.mode == "F"


def from_pil(image: Image.Image) -> Tensor:
    """A PIL image to (1, 3, H, W) float32 in [0, 1]: alpha dropped, grey repeated."""
    if is_deep(image):
        grey = np.asarray(image, dtype=np.float32)
        pixels = np.repeat((grey / _white(image.mode, grey))[..., None], 3, axis=2)
    else:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def _white(mode: str, grey: np.ndarray) -> float:
    """The number that stands for white. Floating point pictures are in [0, 1], or in the range of a byte."""
    if mode != "F":
        return 65535.0
    return 255.0 if np.abs(grey).max() > 2 else 1.0


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read an image file as (1, 3, H, W) float32 in [0, 1]: EXIF orientation applied, alpha dropped, grey repeated."""
    with open_image(path) as file:
        image = from_pil(upright(file))
    return check_images(image, f"{path}:")


def decode_image(content: bytes, name: str) -> Tensor:
    """What `read_image` makes of a file with this content; `name` stands in errors."""
    with _opened(io.BytesIO(content), name) as file:
        image = from_pil(upright(file))
    return check_images(image, f"{name}:")


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] to an 8-bit PIL image, rounded."""
    return Image.fromarray((image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def write_image(image: Tensor, path: str | os.PathLike[str]) -> None:
    """Write (3, H, W) in [0, 1] to `path` (format by suffix). A file is there whole or not at all."""
    options = {"quality": 95} if Path(path).suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    save_pil(to_pil(image), path, options)


def check_suffix(path: str | os.PathLike[str]) -> str:
    """The suffix of a file to be written, if it is one of IMAGE_SUFFIXES; otherwise raise OutputError."""
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise OutputError(f"{path}: cannot write {suffix or 'a file without suffix'}; use {', '.join(IMAGE_SUFFIXES)}.")
    return suffix


def save_pil(image: Image.Image, path: str | os.PathLike[str], options: Mapping[str, Any]) -> None:
    """Write a PIL image with options of its format, which the suffix of `path` tells, whole or not at all."""
    suffix, encoded = check_suffix(path), io.BytesIO()
    try:
        image.save(encoded, Image.registered_extensions()[suffix], **options)
    except Exception as error:  # what comes along in a file, such as EXIF, does not fit every format
        raise OutputError(
            f"{path}: this picture, or what comes with it, does not fit into a {suffix} file ({first_line(error)}). "
            "Choose another format."
        ) from error
    write_atomically(path, encoded.getvalue())


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path` to write, which then takes its name: no kill or full disk leaves a broken file.

    The temporary file's name follows from `path`: what a kill leaves is taken up by the next attempt.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: could not be written ({error.strerror or error}).") from error
