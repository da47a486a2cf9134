"""Colours that must survive a restoration: a face's own tones, and the absence of any in a grey photo."""

import torch
from torch import Tensor

from .masks import template_mask

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def match_colour(crops: Tensor, originals: Tensor) -> Tensor:
    """Give each crop (N, 3, S, S) the mean and spread per channel of its original, both in [0, 1].

    Reinhard et al. 2001, "Color transfer between images", in RGB; the face counts, the crop's edge does not.
    """
    weight = template_mask(crops.shape[-1], device=crops.device)
    weight = weight / weight.sum()
    mean, spread = _moments(crops.float(), weight)
    wanted_mean, wanted_spread = _moments(originals.float(), weight)
    return ((crops.float() - mean) / spread * wanted_spread + wanted_mean).clamp(0, 1).to(crops.dtype)


def _moments(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    mean = (images * weight).sum((2, 3), keepdim=True)
    variance = ((images - mean).square() * weight).sum((2, 3), keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def is_grey(images: Tensor, tolerance: float = 1 / 255) -> Tensor:
    """(B,) whether the three channels of an image (B, 3, H, W) agree everywhere."""
    return (images.amax(1) - images.amin(1)).amax((1, 2)) <= tolerance


def to_grey(images: Tensor) -> Tensor:
    """The luma of (B, 3, H, W), in all three channels."""
    weights = torch.tensor(_LUMA, device=images.device, dtype=images.dtype)[:, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)
