"""Pictures without a face, out of nothing: noise, patterns, shaded lumps, hands. What a detector must leave alone."""

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SKIN = ((255, 224, 196), (240, 200, 165), (224, 172, 125), (198, 134, 90), (141, 85, 52), (92, 58, 40))


def texture(size: int, rng: np.random.Generator) -> Image.Image:
    """One of the patterns below, (size, size) RGB."""
    draw = (noise, noise, stripes, gradient, specks)[rng.integers(5)]
    return draw(size, rng)


def colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Any colour, or a skin's."""
    if rng.random() < 0.3:
        return SKIN[rng.integers(len(SKIN))]
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def noise(size: int, rng: np.random.Generator) -> Image.Image:
    """Smooth random values between two colours, from coarse to fine (Perlin 1985's turbulence)."""
    total, roughness = np.zeros((size, size), np.float32), rng.uniform(0.4, 0.95)
    cells, weight = int(rng.integers(1, 6)), 1.0
    while cells < size:
        coarse = rng.random((cells + 1, cells + 1), np.float32) - 0.5
        total += weight * np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
        cells, weight = cells * 2, weight * roughness
    share = (total - total.min()) / max(1e-6, float(np.ptp(total)))
    return _between(share, rng)


def stripes(size: int, rng: np.random.Generator) -> Image.Image:
    """Waves in one or two directions: cloth, blinds, walls."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    share = np.full((size, size), 0.5, np.float32)
    for _ in range(rng.integers(1, 3)):
        angle, length = rng.uniform(0, math.pi), rng.uniform(4, max(8, size / 2))
        share += 0.25 * np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / length)
    if rng.random() < 0.4:
        share = (share > 0.5).astype(np.float32)
    return _between(share, rng)


def gradient(size: int, rng: np.random.Generator) -> Image.Image:
    """From one colour to another: studio backdrops and skies."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    angle = rng.uniform(0, 2 * math.pi)
    share = (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle) + 0.5
    return _between(np.clip(share, 0, 1), rng)


def specks(size: int, rng: np.random.Generator) -> Image.Image:
    """Round and square things of all sizes: pebbles, windows, coins, buttons."""
    picture = Image.new("RGB", (size, size), colour(rng))
    draw = ImageDraw.Draw(picture)
    shape = (draw.ellipse, draw.rectangle)[rng.integers(2)]
    typical = math.exp(rng.uniform(math.log(3), math.log(max(6, size / 3))))
    for _ in range(rng.integers(5, 60)):
        width, height = typical * rng.uniform(0.5, 1.5, 2)
        left, top = rng.uniform(-typical, size, 2)
        shape(
            (left, top, left + width, top + height),
            fill=colour(rng),
            outline=colour(rng) if rng.random() < 0.5 else None,
        )
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, typical / 8)))


def lump(size: int, rng: np.random.Generator) -> Image.Image:
    """A shaded head of nothing, RGBA: the outline and the light of a face, none of its features."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size * 2 - 1
    radius = np.hypot(x / rng.uniform(0.55, 0.95), y / rng.uniform(0.7, 0.95))
    angle = rng.uniform(0, 2 * math.pi)
    light = np.clip(0.65 + 0.35 * (x * math.cos(angle) + y * math.sin(angle)) - 0.3 * radius**2, 0.05, 1)
    shaded = np.asarray(colour(rng)) * light[:, :, None]
    inside = Image.fromarray((np.clip((1 - radius) * 12, 0, 1) * 255).astype(np.uint8))
    picture = Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        picture = Image.blend(picture, texture(size, rng), rng.uniform(0.1, 0.6))
    picture.putalpha(inside)
    return picture


def hand(size: int, rng: np.random.Generator) -> Image.Image:
    """A palm and fingers in a skin's colour, RGBA."""
    tone = np.asarray(SKIN[rng.integers(len(SKIN))])
    picture, alpha = Image.new("RGB", (size, size), tuple(tone.tolist())), Image.new("L", (size, size))
    shade, outline = ImageDraw.Draw(picture), ImageDraw.Draw(alpha)
    middle, palm, thickness = np.array((0.5, 0.7)) * size, 0.2 * size, max(1, round(rng.uniform(0.07, 0.11) * size))
    outline.ellipse((*(middle - palm), *(middle + palm)), fill=255)
    for finger in range(rng.integers(2, 6)):
        angle = -math.pi / 2 + (finger - 2) * rng.uniform(0.15, 0.4)
        tip = middle + rng.uniform(0.35, 0.6) * size * np.array((math.cos(angle), math.sin(angle)))
        line = (*middle, *tip)
        outline.line(line, fill=255, width=thickness)
        outline.ellipse((*(tip - thickness / 2), *(tip + thickness / 2)), fill=255)
        shade.line(line, fill=tuple((tone * 0.75).astype(int).tolist()), width=max(1, thickness // 4))
    lit = ImageChops.multiply(picture, gradient(size, rng)) if rng.random() < 0.4 else picture
    soft = lit.filter(ImageFilter.GaussianBlur(size / 60))
    soft.putalpha(alpha.filter(ImageFilter.GaussianBlur(size / 150)))
    return soft


def _between(share: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Shares (H, W) in [0, 1] as a mixture of two random colours."""
    first, second = np.asarray(colour(rng)), np.asarray(colour(rng))
    mixed = first + share[:, :, None] * (second - first)
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))
