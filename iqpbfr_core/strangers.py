"""Weight files that are no restorers: what they are, in words that say where they belong."""

from collections.abc import Collection
from pathlib import Path

# By how a file begins, whatever its name.
_BEGINNINGS = (
    (b"<!doctype html", "this is a saved web page, not a model: download the file itself again"),
    (b"<html", "this is a saved web page, not a model: download the file itself again"),
    (b"version https://git-lfs", "this is a Git LFS pointer, not a model: download the file itself"),
    (b"%pdf", "this is a PDF document, not a model"),
)
# By tensors that no other kind has, in any order.
_TENSORS = (
    ("model.diffusion_model.", "this is a diffusion checkpoint: open it with Load Checkpoint (models/checkpoints)"),
    ("BboxHead.0.conv1x1.weight", "this is the face detector RetinaFace: it belongs in models/facedetection"),
    ("out_mask_conv.conv2d.weight", "this is the face parser ParseNet: it belongs in models/facedetection"),
    ("stylegan_decoder.style_conv1.activate.bias", "this is GFPGAN 1.0, which needs compiled code: use GFPGANv1.4.pth"),
    ("body.0.rdb1.conv1.weight", "this is an upscaler: open it with Load Upscale Model (models/upscale_models)"),
    ("RRDB_trunk.0.RDB1.conv1.weight", "this is an upscaler: open it with Load Upscale Model (models/upscale_models)"),
    (
        "layers.0.residual_group.blocks.0",
        "this is an upscaler: open it with Load Upscale Model (models/upscale_models)",
    ),
    ("lora_", "this is a LoRA: open it with Load LoRA (models/loras)"),
    ("post_quant_conv.weight", "this is the VAE of a diffusion model: open it with Load VAE (models/vae)"),
)


def by_beginning(file: Path) -> str:
    """What a file is that cannot be a model at all, or ""."""
    with open(file, "rb") as opened:
        beginning = opened.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    return next((words for start, words in _BEGINNINGS if beginning.startswith(start)), "")


def by_tensors(names: Collection[str]) -> str:
    """What a file with tensors of these names is, if it is something known that is no restorer, or ""."""
    return next((words for part, words in _TENSORS if any(part in name for name in names)), "")
