"""Colours that must survive a restoration: a face's own tones, the grey of a grey photo, the brown of an old one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..image import LUMA, to_grey
from .masks import template_mask

_GREY_VARIANCE = 10 / 255**2
_TONE_SIDE = 64  # pixels looked at along the shorter side
_KNOTS = 33
_STIFFNESS = 1e-5


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


@dataclass(frozen=True)
class Tone:
    """What colour a picture has at every brightness.

    Attributes:
        curves: (B, 3, K) per channel, what it differs by from the luma, at K lumas evenly from 0 to 1.
        is_all: (B,) whether that is all the colour there is: a grey picture or a toned print.
    """

    curves: Tensor
    is_all: Tensor

    def __getitem__(self, part: Tensor) -> "Tone":
        """Of some of the pictures."""
        return Tone(self.curves[part], self.is_all[part])

    def apply(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) with the colours of the grey and toned ones of these instead of their own."""
        if not self.is_all.any():
            return images
        grey = to_grey(images)
        toned = grey + (self.curves.to(images) @ _near(grey[:, 0].flatten(1))).reshape(images.shape)
        return torch.where(self.is_all.to(images.device)[:, None, None, None], toned.clamp(0, 1), images)


def find_tone(images: Tensor) -> Tone:
    """The tone of pictures (B, 3, H, W) in [0, 1].

    A picture is grey or toned if the channels' differences, as CodeFormer measures them, vary by at most 10 of 255^2
    beyond what its tone explains: sepia varies with brightness, and noise and JPEG tint grey photos a little.
    """
    side = max(1, min(images.shape[2:]) // _TONE_SIDE)
    # Averages JPEG's coarse colours, too. F.avg_pool2d takes three times as long on a CPU.
    smaller = images.unfold(2, side, side).mean(-1).unfold(3, side, side).mean(-1)
    pixels = smaller.flatten(2).cpu().double()
    luma = torch.einsum("bcn,c->bn", pixels, torch.tensor(LUMA, dtype=torch.float64))
    near, differences = _near(luma), pixels - luma[:, None]
    bend = torch.eye(_KNOTS, dtype=torch.float64).diff(n=2, dim=0)  # curves go on straight where nothing was seen
    normal = near @ near.transpose(1, 2) + _STIFFNESS * luma.shape[1] * bend.T @ bend
    inverse = torch.linalg.pinv(normal, rtol=1e-8, hermitian=True)  # a flat picture has no slope
    curves = differences @ near.transpose(1, 2) @ inverse
    rest = differences - curves @ near
    between = (rest - rest.roll(1, dims=1)).var(2, correction=0).mean(1)
    return Tone(curves.float().mul(1e4).round().div(1e4), between <= _GREY_VARIANCE)


def _near(luma: Tensor) -> Tensor:
    """(B, N) in [0, 1] -> (B, K, N): how much of each knot of a piecewise linear curve a brightness is."""
    knots = torch.arange(_KNOTS, device=luma.device, dtype=luma.dtype)[:, None]
    return (1 - (luma[:, None] * (_KNOTS - 1) - knots).abs()).clamp(min=0)
