"""Code maps as material: blend two, see what they hold, keep them in a file."""

import json
import os
from dataclasses import replace
from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from .errors import InputError
from .image import write_atomically
from .restorer import Codes, Restorer

BOOKS = ("both", "hq", "common")

# Boxes (left, top, right, bottom) as shares of the side of an aligned face (the FFHQ crop facexlib aligns to).
REGIONS = {
    "everything": (0.0, 0.0, 1.0, 1.0),
    "face": (0.2, 0.2, 0.8, 0.9),
    "eyes": (0.25, 0.38, 0.75, 0.56),
    "nose": (0.38, 0.45, 0.62, 0.68),
    "mouth": (0.32, 0.64, 0.68, 0.84),
}


def token_side(codes: Codes) -> int:
    """Tokens along one side of the (square) code map."""
    return round(codes.indices.shape[1] ** 0.5)


def region_tokens(region: str, side: int) -> Tensor:
    """Tokens (1, side * side) whose centre lies in one of REGIONS, as booleans."""
    if region not in REGIONS:
        raise InputError(f"unknown region {region!r}; there are {', '.join(REGIONS)}.")
    left, top, right, bottom = REGIONS[region]
    centre = (torch.arange(side) + 0.5) / side
    rows, columns = (centre >= top) & (centre < bottom), (centre >= left) & (centre < right)
    return (rows[:, None] & columns[None]).reshape(1, -1)


def mask_tokens(mask: Tensor, side: int) -> Tensor:
    """Masks (B, H, W) in [0, 1] of any size to tokens (B, side * side): those at least half covered."""
    if mask.ndim != 3 or mask.numel() == 0:
        raise InputError(f"a mask must have shape (B, H, W) and hold pixels, got {tuple(mask.shape)}.")
    return (F.interpolate(mask[:, None].float(), size=(side, side), mode="area") >= 0.5).flatten(1)


def blend_codes(base: Codes, other: Codes, tokens: Tensor, books: str = "both") -> Codes:
    """`base` with the codes of `other` where `tokens` is true.

    Args:
        base, other: codes of the same model; `base`'s alpha and quality are kept.
        tokens: booleans (B, N) or (1, N).
        books: one of BOOKS, which codebook is taken over. "hq" and "common" need codes of two codebooks.
    """
    if books not in BOOKS:
        raise InputError(f"unknown choice of codebooks {books!r}; there are {', '.join(BOOKS)}.")
    if base.indices.shape != other.indices.shape:
        raise InputError(
            f"codes of shape {tuple(base.indices.shape)} and {tuple(other.indices.shape)} cannot be blended: "
            "they need the same model and the same number of faces."
        )
    if tokens.shape[1] != base.indices.shape[1] or len(tokens) not in (1, len(base)):
        raise InputError(
            f"tokens must have shape (1 or {len(base)}, {base.indices.shape[1]}), got {tuple(tokens.shape)}."
        )
    is_dual = base.indices.ndim == 3
    if books != "both" and not is_dual:
        raise InputError(f"these codes come from a single codebook; blend both, not {books!r}.")
    chosen = tokens.to(base.indices.device)
    if is_dual:
        wanted = torch.tensor([books in ("both", "hq"), books in ("both", "common")], device=chosen.device)
        chosen = chosen[..., None] & wanted
    indices = torch.where(chosen, other.indices.to(base.indices.device), base.indices)
    logits = torch.where(chosen.unsqueeze(2), other.logits.to(base.logits.device), base.logits)
    return replace(base, indices=indices, logits=logits)


def confidence(codes: Codes) -> Tensor:
    """Probability the lookup gave to the chosen codes: (B, N, books), 1 = sure."""
    indices = codes.indices if codes.indices.ndim == 3 else codes.indices[..., None]
    logits = codes.logits if codes.logits.ndim == 4 else codes.logits[..., None]
    return logits.float().softmax(2).gather(2, indices[:, :, None]).squeeze(2)


def save_codes(codes: Codes, restorer: Restorer, path: str | os.PathLike[str]) -> None:
    """Write codes to a `.safetensors` file of 1 KB per face and codebook; logits are kept for the chosen codes only."""
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path}: codes are written as .safetensors, choose such a name.")
    tensors = {"indices": codes.indices.to(torch.int16).cpu(), "confidence": confidence(codes).half().cpu()}
    if codes.quality is not None:
        tensors["quality"] = codes.quality.float().cpu()
    metadata = {"format": "iqpbfr codes 1", "codebook_id": restorer.codebook_id, "alpha": json.dumps(codes.alpha)}
    write_atomically(path, save({k: v.contiguous() for k, v in tensors.items()}, metadata))


def load_codes(path: str | os.PathLike[str], restorer: Restorer) -> Codes:
    """Read codes written by `save_codes` for a model with the same codebooks.

    The logits are rebuilt from what was kept: the chosen code at its probability, the rest spread evenly.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file of codes.")
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no dictionary)
        indices, sure, alpha = tensors["indices"].long(), tensors["confidence"].float(), float(metadata["alpha"])
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{file}: not a file of codes ({error}).") from error
    if metadata.get("codebook_id") != restorer.codebook_id:
        raise InputError(
            f"{file}: these codes belong to codebook {metadata.get('codebook_id')}, the model's is "
            f"{restorer.codebook_id}. Load the model they were made with."
        )
    single = indices.ndim == 2
    places = indices[..., None] if single else indices
    count = restorer.config.num_codes
    sure = sure.clamp(1e-4, 1 - 1e-4)
    rest = ((1 - sure) / (count - 1)).log()[:, :, None].repeat(1, 1, count, 1)
    logits = rest.scatter(2, places[:, :, None], sure.log()[:, :, None])
    return Codes(indices, logits[..., 0] if single else logits, alpha, tensors.get("quality"))
