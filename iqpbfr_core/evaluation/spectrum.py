"""Artefacts by where they live: energy at frequencies the ground truth hardly has."""

import torch
from torch import Tensor

BAND = 0.999  # share of the ground truth's energy that its band holds


def out_of_band(images: Tensor, references: Tensor) -> Tensor:
    """Energy of each image outside its reference's band, as a multiple of the reference's own there.

    The band is the disc of frequencies that holds 99.9 % of the reference's energy (mean removed, Hann-windowed, over
    luma); 1 = as much beyond it as the reference, less = softer, more = texture the photograph does not have.

    Args:
        images, references: (B, 3, H, W) in [0, 1].

    Returns:
        (B,).
    """
    radius = _radius(images).flatten()
    order = radius.argsort()
    image, reference = (_power(x).flatten(1)[:, order] for x in (images, references))
    inside = reference.cumsum(1) <= BAND * reference.sum(1, keepdim=True)
    return (image * ~inside).sum(1) / (reference * ~inside).sum(1).clamp(min=1e-12)


def _radius(images: Tensor) -> Tensor:
    rows, columns = (torch.fft.fftfreq(n, device=images.device) for n in images.shape[2:])
    return (rows[:, None] ** 2 + columns[None] ** 2).sqrt()


def _power(images: Tensor) -> Tensor:
    """Power spectrum of the luma, (B, H, W)."""
    luma = (images.double() * torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)).sum(1)
    rows, columns = (torch.hann_window(n, device=images.device, dtype=torch.float64) for n in images.shape[2:])
    centred = luma - luma.mean((1, 2), keepdim=True)
    return torch.fft.fft2(centred * rows[:, None] * columns[None]).abs() ** 2
