"""Code maps as material: blend two, see what they hold, keep them in a file."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from .errors import CheckpointError, InputError, first_line
from .image import check_mask, write_atomically
from .restorer import MAX_ALPHA, Codes, Restorer, check_range
from .tensor_file import read_safetensors

BOOKS = ("both", "hq", "common")
FORMAT = "iqpbfr codes 1"

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
    if mask.ndim != 3:
        raise InputError(f"a mask must have shape (B, H, W), got {tuple(mask.shape)}.")
    check_mask(mask)
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
    if "" not in (base.codebook_id, other.codebook_id) and base.codebook_id != other.codebook_id:
        raise InputError(f"codes of codebooks {base.codebook_id} and {other.codebook_id} cannot be blended.")
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
    restorer_id = codes.codebook_id or restorer.codebook_id
    kind = torch.int16 if restorer.config.num_codes <= 2**15 else torch.int32
    tensors = {"indices": codes.indices.to(kind).cpu(), "confidence": confidence(codes).half().cpu()}
    if codes.quality is not None:
        tensors["quality"] = codes.quality.float().cpu()
    metadata = {"format": FORMAT, "codebook_id": restorer_id, "alpha": json.dumps(codes.alpha)}
    write_atomically(path, save({k: v.contiguous() for k, v in tensors.items()}, metadata))


def load_codes(path: str | os.PathLike[str], restorer: Restorer) -> Codes:
    """Read codes written by `save_codes` for a model with the same codebooks.

    The logits are rebuilt from what was kept: the chosen code at its probability, the rest spread evenly.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file of codes.")
    try:
        tensors, metadata = read_safetensors(file)
    except CheckpointError as error:
        raise InputError(f"{file}: not a file of codes ({error}).") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{file}: not a file of codes (its format is {metadata.get('format')!r}, not {FORMAT!r}).")
    if metadata.get("codebook_id") != restorer.codebook_id:
        raise InputError(
            f"{file}: these codes belong to codebook {metadata.get('codebook_id')}, the model's is "
            f"{restorer.codebook_id}. Load the model they were made with."
        )
    config = restorer.config
    count = config.num_codes
    try:
        indices, sure, alpha = tensors["indices"].long(), tensors["confidence"].float(), float(metadata["alpha"])
        _check_content(tensors, restorer)
        check_range("alpha", alpha, 0, MAX_ALPHA)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{file}: broken codes ({first_line(error)}).") from error
    places = indices if config.num_books == 2 else indices[..., None]
    sure = sure.clamp(1e-4, 1 - 1e-4)
    rest = ((1 - sure) / (count - 1)).log()[:, :, None].repeat(1, 1, count, 1)
    logits = rest.scatter(2, places[:, :, None], sure.log()[:, :, None])
    logits = logits if config.num_books == 2 else logits[..., 0]
    return Codes(indices, logits, alpha, tensors.get("quality"), restorer.codebook_id)


def _check_content(tensors: Mapping[str, Tensor], restorer: Restorer) -> None:
    """Raise InputError unless the tensors of a file can be codes of this model."""
    indices, sure, quality = tensors["indices"], tensors["confidence"], tensors.get("quality")
    books = () if restorer.config.num_books == 1 else (2,)
    shape = (len(indices), restorer.config.num_tokens, *books)
    if tuple(indices.shape) != shape or not len(indices) or indices.dtype not in (torch.int16, torch.int32):
        raise InputError(f"indices are {indices.dtype} of shape {tuple(indices.shape)}, expected integers of {shape}")
    smallest, largest = (int(bound) for bound in indices.aminmax())
    if smallest < 0 or largest >= restorer.config.num_codes:
        raise InputError(f"indices lie in [{smallest}, {largest}], the model has {restorer.config.num_codes} codes")
    if tuple(sure.shape) != (*shape[:2], restorer.config.num_books) or not sure.is_floating_point():
        raise InputError(f"confidence is {sure.dtype} of shape {tuple(sure.shape)}")
    check_mask(sure, "confidence")
    if quality is not None:
        if len(quality) != len(indices) or not quality.is_floating_point():
            raise InputError(f"quality is {quality.dtype} of shape {tuple(quality.shape)} for {len(indices)} faces")
        check_mask(quality, "quality")
