"""Weight files that are no restorers: what they are, in words that say where they belong."""

import functools
import os
import zipfile
from collections.abc import Collection
from pathlib import Path

# By how a file begins, whatever its name.
_BEGINNINGS = (
    (b"<!doctype html", "this is a saved web page, not a model: download the file itself again"),
    (b"<html", "this is a saved web page, not a model: download the file itself again"),
    (b"version https://git-lfs", "this is a Git LFS pointer, not a model: download the file itself"),
    (b"%pdf", "this is a PDF document, not a model"),
)
# By tensors that no restorer has, in any order.
_DETECTOR = "BboxHead.0.conv1x1.weight"
_ADAPTER = "embedding.mlp.0.weight"
_UPSCALER = "this is an upscaler: open it with Load Upscale Model (models/upscale_models)"
_OTHER_KINDS = (
    ("model.diffusion_model.", "this is a diffusion checkpoint: open it with Load Checkpoint (models/checkpoints)"),
    (_DETECTOR, "this is the face detector RetinaFace: it belongs in models/facedetection"),
    ("out_mask_conv.conv2d.weight", "this is the face parser ParseNet: it belongs in models/facedetection"),
    ("body.0.rdb1.conv1.weight", _UPSCALER),
    ("RRDB_trunk.0.RDB1.conv1.weight", _UPSCALER),
    ("layers.0.residual_group.blocks.0", _UPSCALER),
    (_ADAPTER, "this is a score adapter: open it with Load Score Adapter (models/iqpbfr_adapters)"),
)
# By tensors that restorers have, too, or others of their families: asked only when no family was found.
_TENSORS = (
    *_OTHER_KINDS,
    ("stylegan_decoder.style_conv1.activate.bias", "this is GFPGAN 1.0, which needs compiled code: use GFPGANv1.4.pth"),
    ("lora_", "this is a LoRA: open it with Load LoRA (models/loras)"),
    ("post_quant_conv.weight", "this is the VAE of a diffusion model: open it with Load VAE (models/vae)"),
)
_NAMES = 2**20  # bytes at the beginning of a file in which its tensors are named


def by_beginning(file: Path) -> str:
    """What a file is that cannot be a model at all, or ""."""
    with open(file, "rb") as opened:
        beginning = opened.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    return next((words for start, words in _BEGINNINGS if beginning.startswith(start)), "")


def by_tensors(names: Collection[str]) -> str:
    """What a file with tensors of these names is, if it is something known that is no restorer, or ""."""
    return next((words for part, words in _TENSORS if any(part in name for name in names)), "")


def what_it_is(path: str | os.PathLike[str]) -> str:
    """What a file is that is no restorer, told from its first bytes and the names in it, or "". Quick: no weight is read."""
    file = Path(path)
    names = _names(file, file.stat().st_mtime_ns)
    return by_beginning(file) or next((words for part, words in _OTHER_KINDS if part.encode() in names), "")


def is_detector(path: str | os.PathLike[str]) -> bool:
    """Whether a file names RetinaFace's tensors. As quick."""
    return _has(path, _DETECTOR)


def is_adapter(path: str | os.PathLike[str]) -> bool:
    """Whether a file names a score adapter's tensors. As quick."""
    return _has(path, _ADAPTER)


def _has(path: str | os.PathLike[str], name: str) -> bool:
    file = Path(path)
    return name.encode() in _names(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _names(file: Path, _: int) -> bytes:
    """The part of a file in which its tensors are named; read anew when the time of its last change differs."""
    with open(file, "rb") as opened:
        beginning = opened.read(_NAMES)
    if not beginning.startswith(b"PK"):
        return beginning
    try:
        with zipfile.ZipFile(file) as archive:
            record = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            if record is None:
                return b""
            with archive.open(record) as opened:
                return opened.read(_NAMES)
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return b""  # a broken file, which says so when it is loaded
