"""The standard degradation of blind face restoration: blur, downsample, noise, JPEG, resize back.

    lq = { JPEG_q [ (hq * k_sigma) down_r + n_delta ] } up_r

CodeFormer (Zhou et al. 2022, eq. 6; arXiv 2206.11253), GFPGAN (Wang et al. 2021, eq. 1). Ranges are those of
CodeFormer's training files for 512 px faces. Blur and downsampling act on the face, not on the pixel grid: for other
resolutions they are scaled by resolution / 512, so `full` looks equally bad at 256 px.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .errors import InputError
from .image import check_images, from_pil, to_pil
from .layers.straight_through import straight_through

REFERENCE_RESOLUTION = 512


@dataclass(frozen=True)
class DegradationRange:
    """Uniform ranges (low, high) of each step; `anisotropic` is the share of images blurred by a rotated ellipse."""

    blur_sigma: tuple[float, float]  # pixels at 512
    downsample: tuple[float, float]  # factor at 512
    noise: tuple[float, float]  # standard deviation in 8-bit steps
    jpeg: tuple[float, float]  # quality, 100 = least loss
    anisotropic: float = 0.5
    taps: tuple[int, ...] = ()  # sides at 512 of the kernels that cut the blur off, one drawn; () = never cut off

    def __post_init__(self) -> None:
        for field in fields(self)[:4]:
            low, high = getattr(self, field.name)
            if not low <= high:
                raise InputError(f"{field.name} needs low <= high, got ({low}, {high}).")


# `mild` and `full` are those of CodeFormer's options/CodeFormer_stage3.yml (small) and CodeFormer_stage2.yml (large).
Preset = Literal["mild", "full", "moderate", "heavy", "codeformer", "daefr"]
PRESETS: dict[Preset, DegradationRange] = {
    "mild": DegradationRange(blur_sigma=(0.1, 10), downsample=(1, 12), noise=(0, 15), jpeg=(60, 100)),
    "full": DegradationRange(blur_sigma=(1, 15), downsample=(4, 30), noise=(0, 20), jpeg=(30, 80)),
    # What most photos are and what people despair of, both without extremes: to judge defaults by.
    "moderate": DegradationRange(blur_sigma=(1.6, 5), downsample=(4, 8), noise=(0, 8), jpeg=(40, 85)),
    "heavy": DegradationRange(blur_sigma=(4, 10), downsample=(8, 16), noise=(0, 12), jpeg=(40, 85)),
    # What published figures were made with, step by step: kernels cut off, sizes rounded down. The second is DAEFR's
    # configs/DAEFR.yaml; it may enlarge a little instead of shrinking.
    "codeformer": DegradationRange(blur_sigma=(1, 15), downsample=(4, 30), noise=(0, 20), jpeg=(30, 80), taps=(41,)),
    "daefr": DegradationRange(blur_sigma=(0.1, 15), downsample=(0.8, 30), noise=(0, 20), jpeg=(30, 100), taps=(39, 41)),
}


@dataclass(frozen=True)
class Degradation:
    """One drawn degradation, in pixels of the image it is applied to. The defaults change nothing."""

    sigma: tuple[float, float] = (0.0, 0.0)  # standard deviations along the ellipse's axes
    angle: float = 0.0  # radians
    downsample: float = 1.0
    noise: float = 0.0  # in 8-bit steps
    jpeg: float | None = None  # quality, None = no compression
    seed: int = 0  # of the noise
    taps: int | None = None  # side of the kernel the blur is cut off at, and the mark of the published recipe


def draw(preset: str | DegradationRange, seed: int, resolution: int) -> Degradation:
    """Draw one degradation for an image of `resolution` pixels. Equal arguments give equal results."""
    if isinstance(preset, str) and preset not in PRESETS:
        raise InputError(f"unknown degradation preset {preset!r}; there are {', '.join(PRESETS)}.")
    ranges = PRESETS[preset] if isinstance(preset, str) else preset
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(7, generator=generator, dtype=torch.float64).tolist()

    def between(bounds: tuple[float, float], u: float) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * u

    scale = resolution / REFERENCE_RESOLUTION
    sigma_x = between(ranges.blur_sigma, uniform[0]) * scale
    sigma_y = between(ranges.blur_sigma, uniform[1]) * scale
    is_anisotropic = uniform[2] < ranges.anisotropic
    taps = None
    if ranges.taps:
        which = int(torch.randint(len(ranges.taps), (1,), generator=generator))
        taps = 2 * round(ranges.taps[which] // 2 * scale) + 1
    return Degradation(
        sigma=(sigma_x, sigma_y if is_anisotropic else sigma_x),
        angle=(uniform[3] * 2 - 1) * math.pi,
        downsample=max(min(1.0, ranges.downsample[0]), between(ranges.downsample, uniform[4]) * scale),
        noise=between(ranges.noise, uniform[5]),
        jpeg=between(ranges.jpeg, uniform[6]),
        seed=seed,
        taps=taps,
    )


def gaussian_blur(images: Tensor, sigmas: Sequence[tuple[float, float]], angles: Sequence[float]) -> Tensor:
    """Blur each of (B, C, H, W) with its own rotated Gaussian, exactly, in the frequency domain.

    The Fourier transform of a Gaussian with covariance S is exp(-2 pi^2 f^T S f), so no kernel is ever cut off.
    Borders are reflected by an eighth of the side (three standard deviations of the strongest preset), the same for
    every image, so that a batch equals its singles.
    """
    height, width = images.shape[2:]
    if not any(max(sigma) > 0 for sigma in sigmas):
        return images
    pad_y, pad_x = height // 8, width // 8
    padded = F.pad(images.float(), (pad_x, pad_x, pad_y, pad_y), mode="reflect")
    device = images.device
    f_y = torch.fft.fftfreq(padded.shape[2], device=device)[:, None]
    f_x = torch.fft.rfftfreq(padded.shape[3], device=device)[None, :]
    sigma = torch.tensor(sigmas, device=device)[:, :, None, None]
    angle = torch.tensor(angles, device=device)[:, None, None]
    along = f_x * angle.cos() + f_y * angle.sin()
    across = f_y * angle.cos() - f_x * angle.sin()
    transfer = torch.exp(-2 * math.pi**2 * ((sigma[:, 0] * along) ** 2 + (sigma[:, 1] * across) ** 2))
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * transfer[:, None], s=padded.shape[2:])
    return blurred[:, :, pad_y : pad_y + height, pad_x : pad_x + width].to(images.dtype)


def cut_off_blur(image: Tensor, sigma: tuple[float, float], angle: float, taps: int) -> Tensor:
    """Blur (1, C, H, W) with a rotated Gaussian kernel of taps x taps, as published code does; borders are reflected."""
    position = torch.arange(taps, device=image.device, dtype=torch.float32) - taps // 2
    x, y = position[None, :], position[:, None]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = torch.exp(-0.5 * ((along / sigma[0]) ** 2 + (across / sigma[1]) ** 2))
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, -1, -1)
    padded = F.pad(image.float(), (taps // 2,) * 4, mode="reflect")
    return F.conv2d(padded, kernel, groups=image.shape[1]).to(image.dtype)


def apply(images: Tensor, degradations: Sequence[Degradation]) -> Tensor:
    """Degrade each of (B, 3, H, W) in [0, 1] by its own degradation; same shape, in [0, 1].

    Differentiable; to the gradient, compression is the identity.
    """
    if len(degradations) != len(images):
        raise InputError(f"{len(images)} images need as many degradations, got {len(degradations)}.")
    whole = [d if d.taps is None else Degradation() for d in degradations]
    blurred = gaussian_blur(images, [d.sigma for d in whole], [d.angle for d in whole])
    for index, cut in enumerate(degradations):
        if cut.taps is not None:
            part = cut_off_blur(images[index : index + 1], cut.sigma, cut.angle, cut.taps)
            blurred = blurred.index_copy(0, torch.tensor([index], device=images.device), part)
    return torch.cat([_degrade_small(b[None], d) for b, d in zip(blurred, degradations, strict=True)])


def _degrade_small(image: Tensor, degradation: Degradation) -> Tensor:
    height, width = image.shape[2:]
    rounded = round if degradation.taps is None else math.floor
    small_size = (max(8, rounded(height / degradation.downsample)), max(8, rounded(width / degradation.downsample)))
    small = image
    if small_size != (height, width):
        small = F.interpolate(image, size=small_size, mode="bilinear", align_corners=False)
    if degradation.noise > 0:
        generator = torch.Generator().manual_seed(degradation.seed)
        noise = torch.randn(small.shape, generator=generator).to(small)
        small = small + noise * (degradation.noise / 255)
    small = small.clamp(0, 1)
    if degradation.jpeg is not None:
        small = straight_through(_compressed(small[0], degradation.jpeg)[None], small)
    if small_size != (height, width):
        small = F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
    return small


def _compressed(image: Tensor, quality: float) -> Tensor:
    """(3, H, W) in [0, 1] as it comes back from a JPEG file (libjpeg, chroma at half size)."""
    content = io.BytesIO()
    to_pil(image).save(content, "JPEG", quality=round(quality))
    return from_pil(Image.open(content))[0].to(image)


def degrade(images: Tensor, preset: str | DegradationRange = "full", seed: int | Sequence[int] = 0) -> Tensor:
    """Degrade (B, 3, H, W) in [0, 1] at random: same shape, on the same device.

    Args:
        images: aligned faces.
        preset: one of PRESETS, or ranges of your own.
        seed: one seed per image, or one number s, meaning s, s + 1, ... An image's result depends on its own seed
            only, not on its neighbours.
    """
    check_images(images)
    seeds = [seed + i for i in range(len(images))] if isinstance(seed, int) else list(seed)
    if len(seeds) != len(images):
        raise InputError(f"{len(images)} images need as many seeds, got {len(seeds)}.")
    resolution = min(images.shape[2:])
    return apply(images, [draw(preset, s, resolution) for s in seeds])
