"""How faces come into scenes: cut out of their portraits, and behind what people wear and hold before them."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from . import textures

_Pair = np.ndarray | tuple[float, float]


def head_mask(size: int, rng: np.random.Generator) -> Image.Image:
    """Opacity (size, size) of a head and its hair: a soft superellipse that ends before the edge."""
    return _superellipse((size, size), (0.5, 0.5), rng.uniform(0.36, 0.49, 2), rng)


def _superellipse(size: tuple[int, int], centre: _Pair, radii: _Pair, rng: np.random.Generator) -> Image.Image:
    power, softness = rng.uniform(2, 4), rng.uniform(0.02, 0.15)
    x = np.abs((np.arange(size[0]) + 0.5) / size[0] - centre[0]) / radii[0]
    y = np.abs((np.arange(size[1]) + 0.5) / size[1] - centre[1]) / radii[1]
    distance = (x[None, :] ** power + y[:, None] ** power) ** (1 / power)
    return Image.fromarray((((1 - distance) / softness).clip(0, 1) * 255).astype(np.uint8))


def cut(size: tuple[int, int], box: np.ndarray, is_whole: bool, rng: np.random.Generator) -> Image.Image:
    """Opacity of a portrait whose face has this box: a print with sharp edges, a head, or head and shoulders."""
    if rng.random() < 0.3:
        return Image.new("L", size, 255)
    if not is_whole:
        return _superellipse(size, (0.5, 0.5), rng.uniform(0.36, 0.49, 2), rng)
    box = box / np.tile(size, 2)
    centre, extent = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    head = _superellipse(size, centre - (0, 0.08 * extent[1]), extent * rng.uniform(0.65, 0.85, 2), rng)
    if rng.random() < 0.7:
        width, bottom = extent[0] * rng.uniform(1.2, 1.8), centre[1] + 1.9 * extent[1]
        body = _superellipse(size, (centre[0], bottom), (width, bottom - centre[1] - 0.5 * extent[1]), rng)
        head = Image.fromarray(np.maximum(np.asarray(head), np.asarray(body)))
    return head


def disguise(picture: Image.Image, landmarks: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Sunglasses, a hat, a mask over the mouth, or something in front of the face."""
    disguised = picture.copy()
    draw = ImageDraw.Draw(disguised)
    left, right, nose, *mouth = landmarks
    across = right - left
    distance = float(np.linalg.norm(across)) or 1.0
    down = np.array((-across[1], across[0]))
    kind = rng.integers(4)
    if kind == 0:
        shade = tuple((np.asarray(textures.colour(rng)) // 4).tolist())
        draw.line((*left, *right), fill=shade, width=max(1, round(distance / 8)))
        radius = np.array((rng.uniform(0.3, 0.45), rng.uniform(0.22, 0.4))) * distance
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        for eye in (left, right):
            shape((*(eye - radius), *(eye + radius)), fill=shade)
        return disguised
    if kind == 1:  # the brim lies between brows and hair
        brim = (left + right) / 2 - down * rng.uniform(0.45, 0.8)
        reach, height = across * rng.uniform(1.2, 2), down * rng.uniform(0.6, 2)
        outline = [brim - reach, brim + reach, brim + reach * 0.8 - height, brim - reach * 0.8 - height]
    elif kind == 2:
        top = nose - down * rng.uniform(-0.1, 0.15)
        bottom = (mouth[0] + mouth[1]) / 2 + down * rng.uniform(0.5, 0.9)
        outline = [top - across * 0.85, top + across * 0.85, bottom + across * 0.6, bottom - across * 0.6]
    else:
        corners = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1))) + rng.uniform(-0.6, 0.6, (4, 2))
        outline = list(nose + distance * (rng.normal(0, 0.9, 2) + corners))
    stencil = Image.new("L", picture.size)
    ImageDraw.Draw(stencil).polygon([tuple(point.tolist()) for point in outline], fill=255)
    cloth = textures.texture(max(picture.size), rng).crop((0, 0, *picture.size))
    disguised.paste(cloth, (0, 0), stencil.filter(ImageFilter.GaussianBlur(distance / 60)))
    return disguised
