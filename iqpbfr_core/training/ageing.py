"""What time and bad equipment do to a whole picture: tints, darkness, scratches, blur, loss of pixels, noise, JPEG."""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import Tensor

from ..degradation import Degradation, gaussian_blur
from ..image import from_pil


def tint(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Grey, an old print's brown, or a little off in colour, brightness and contrast."""
    kind = rng.random()
    if kind < 0.15:
        picture = ImageOps.grayscale(picture).convert("RGB")
    elif kind < 0.3:
        dark, light = rng.integers(0, 70, 3), np.array((255, 235, 200)) - rng.integers(0, 60, 3)
        picture = ImageOps.colorize(ImageOps.grayscale(picture), tuple(dark.tolist()), tuple(light.tolist()))
    elif kind < 0.7:
        picture = ImageEnhance.Color(picture).enhance(rng.uniform(0.4, 1.5))
    brightness = math.exp(rng.normal(0, 0.25)) if rng.random() < 0.75 else rng.uniform(0.15, 0.5)
    picture = ImageEnhance.Contrast(picture).enhance(rng.uniform(0.5, 1.3))
    return ImageEnhance.Brightness(picture).enhance(brightness)


def scratch(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Thin bright or dark lines across the print."""
    marked = picture.copy()
    draw = ImageDraw.Draw(marked)
    for _ in range(rng.integers(1, 8)):
        ends = rng.uniform(-0.2, 1.2, 4) * max(picture.size)
        level = int(rng.choice((20, 235)))
        draw.line(tuple(ends.tolist()), fill=(level, level, level), width=int(rng.integers(1, 3)))
    return marked


def mild(rng: np.random.Generator) -> Degradation:
    """What pictures from everyday life went through."""
    sigma = float(rng.exponential(0.5)) if rng.random() < 0.5 else 0.0
    return Degradation(
        sigma=(sigma, sigma),
        downsample=float(rng.uniform(1, 2)) if rng.random() < 0.3 else 1.0,
        noise=float(rng.exponential(5)) if rng.random() < 0.5 else 0.0,
        jpeg=float(rng.uniform(30, 98)) if rng.random() < 0.7 else None,
        seed=int(rng.integers(2**31)),
    )


def degraded(picture: Image.Image, degradation: Degradation) -> Tensor:
    """The picture as (3, H, W) in [0, 1] after a degradation, with real JPEG files: nothing here needs a gradient."""
    image = gaussian_blur(from_pil(picture), [degradation.sigma], [degradation.angle])
    size = (picture.height, picture.width)
    small = tuple(max(8, round(side / degradation.downsample)) for side in size)
    if small != size:
        image = F.interpolate(image, size=small, mode="bilinear", align_corners=False)
    if degradation.noise > 0:
        generator = torch.Generator().manual_seed(degradation.seed)
        image = image + torch.randn(image.shape, generator=generator) * (degradation.noise / 255)
    if degradation.jpeg is not None:
        pixels = Image.fromarray((image[0].clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy())
        content = io.BytesIO()
        pixels.save(content, "JPEG", quality=round(degradation.jpeg))
        image = from_pil(Image.open(content))
    if small != size:
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    return image[0].clamp(0, 1)
