"""Pictures that explain: labelled grids of faces, line plots, and maps over faces; drawn with Pillow alone."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .image import from_pil, resize, tile, to_pil

MARGIN = 8
INK, PALE = (30, 30, 30), (215, 215, 215)
# Dark blue to yellow, evenly rising in lightness (control points after "cividis", Nunez et al. 2018).
_RAMP = ((0.0, 0.13, 0.31), (0.26, 0.31, 0.42), (0.49, 0.49, 0.47), (0.74, 0.69, 0.42), (1.0, 0.92, 0.27))
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207))


def labelled_grid(
    rows: Sequence[Tensor],
    row_labels: Sequence[str],
    column_labels: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
) -> Tensor:
    """Faces in rows and columns with words around them.

    Args:
        rows: each (B, 3, H, W) in [0, 1], all of one shape.
        row_labels: one per row, left of it.
        column_labels: one per column, above it; none = no such line.
        captions: per row one per column, written into the lower left of each face.

    Returns:
        (3, H', W') in [0, 1].
    """
    height, width = rows[0].shape[2:]
    font = _font(max(11, height // 16))
    left = MARGIN + max(round(font.getlength(label)) for label in row_labels) + MARGIN
    top = 2 * MARGIN + round(font.size) if column_labels else 0
    picture = Image.new("RGB", (left + width * len(rows[0]), top + height * len(rows)), "white")
    picture.paste(to_pil(tile(rows)), (left, top))
    draw = ImageDraw.Draw(picture)
    for number, label in enumerate(row_labels):
        draw.text((MARGIN, top + (number + 0.5) * height), label, INK, font, anchor="lm")
    for number, label in enumerate(column_labels):
        draw.text((left + (number + 0.5) * width, top / 2), label, INK, font, anchor="mm")
    for row, words in enumerate(captions):
        for column, text in enumerate(words):
            _caption(draw, (left + column * width, top + (row + 1) * height), text, font)
    return from_pil(picture)[0]


def captioned(images: Tensor, captions: Sequence[str]) -> Tensor:
    """Images (B, 3, H, W) in [0, 1], each with a few words in its lower left corner."""
    pictures = [to_pil(image) for image in images]
    for picture, text in zip(pictures, captions, strict=True):
        font = _font(max(11, min(picture.size) // 12))
        _caption(ImageDraw.Draw(picture), (0, picture.height), text, font)
    return torch.cat([from_pil(picture) for picture in pictures])


def side_by_side(before: Tensor, after: Tensor, line: int = 4) -> Tensor:
    """(B, 3, H, W) twice, of any size each, to (B, 3, H', W'): `before` left of `after`, with a white line between them.

    Both are brought to the size of `after`.
    """
    left = resize(before, (after.shape[2], after.shape[3]))
    return torch.cat([left, torch.ones_like(after[..., :line]), after], dim=3)


def _caption(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, font: ImageFont.FreeTypeFont) -> None:
    """Words that can be read on any picture, into the lower left `corner` of one."""
    place = (corner[0] + MARGIN // 2, corner[1] - MARGIN // 2)
    draw.text(place, text, "white", font, anchor="ls", stroke_width=2, stroke_fill=INK)


def line_plot(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    size: tuple[int, int] = (640, 400),
) -> Tensor:
    """Lines over common axes.

    Args:
        series: name -> (x, y); points that are not finite are left out.
        x_label, y_label: what the axes are.
        bands: name -> (low, high) at the same x, such as a confidence interval; drawn as bars.
        size: (width, height) in pixels.

    Returns:
        (3, height, width) in [0, 1].
    """
    bands = bands or {}
    font = _font(13)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    x_ticks = _ticks([v for x, _ in series.values() for v in x])
    y_ticks = _ticks(
        [v for _, y in series.values() for v in y] + [v for band in bands.values() for b in band for v in b]
    )
    left, right, top, bottom = 64, size[0] - 16, 28 + 18 * ((len(series) - 1) // 3), size[1] - 48

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (right - left),
            bottom - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (bottom - top),
        )

    for tick in x_ticks:
        draw.line([place(tick, y_ticks[0]), place(tick, y_ticks[-1])], PALE)
        draw.text((place(tick, 0)[0], bottom + 6), f"{tick:g}", INK, font, anchor="mt")
    for tick in y_ticks:
        draw.line([place(x_ticks[0], tick), place(x_ticks[-1], tick)], PALE)
        draw.text((left - 6, place(0, tick)[1]), f"{tick:g}", INK, font, anchor="rm")
    draw.text(((left + right) / 2, size[1] - 6), x_label, INK, font, anchor="ms")
    draw.text((4, 4), y_label, INK, font, anchor="lt")
    for number, (name, (x, y)) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        for at, low, high in zip(x, *bands.get(name, ((), ())), strict=False):
            draw.line([place(at, low), place(at, high)], colour)
        draw.line([place(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)], colour, 2)
        key = (left + 120 + 150 * (number % 3), 12 + 18 * (number // 3))
        draw.line([(key[0] - 24, key[1]), (key[0] - 6, key[1])], colour, 3)
        draw.text(key, name, colour, font, anchor="lm")
    return from_pil(picture)[0]


def colour_map(values: Tensor) -> Tensor:
    """Values (B, H, W) in [0, 1] to colours (B, 3, H, W), dark blue = 0, yellow = 1."""
    ramp = torch.tensor(_RAMP, device=values.device)
    place = values.float().clamp(0, 1) * (len(_RAMP) - 1)
    low = place.floor().clamp(max=len(_RAMP) - 2).long()
    share = (place - low)[..., None]
    return (ramp[low] * (1 - share) + ramp[low + 1] * share).permute(0, 3, 1, 2)


def overlay(images: Tensor, values: Tensor, opacity: float = 0.55) -> Tensor:
    """Lay maps (B, h, w) in [0, 1] over images (B, 3, H, W): the image's light in the map's colours."""
    grey = images.mean(1, keepdim=True)
    return ((1 - opacity) * grey + opacity * colour_map(enlarge(values, images.shape[2:]))).clamp(0, 1)


def enlarge(values: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, h, w) in [0, 1], smoothly to `size` (H, W)."""
    return F.interpolate(values[:, None].float(), size=tuple(size), mode="bicubic", antialias=True)[:, 0].clamp(0, 1)


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers that enclose the finite ones of `values`, at least two."""
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    low, high = min(finite), max(finite)
    if low == high:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
