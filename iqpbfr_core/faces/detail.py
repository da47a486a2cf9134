"""The photo's own detail, where it is finer than a model can draw, and faces as sharp and grainy as what surrounds them."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image import to_grey

_LIMIT = 2.0  # crop pixels: the blur that leaves what models draw well
_WINDOW = 11  # pixels over which a band's energy is measured
_FINEST = 1.0  # photo pixels: the blur that takes the finest octave away
_FLAT = 0.1  # share of a face that is flat at the least: what energy is there is noise and JPEG's blocks
_NOISE, _DETAIL = 3.0, 6.0  # times that energy: up to the first it is noise, from the second on detail
_GRAINY = 0.2  # share of flat parts from which the grain of surroundings is measured
_FINER = (0.8, 1.2)  # energy of the photo's band over the restored face's: below, the photo is the blurred one
_LEAST = 1000  # pixels that tell how sharp and grainy something is
_RAMP = 0.25  # how far beyond the photo's own sampling a crop's has to be for its detail to be kept whole


def keep_detail(photo: Tensor, face: Tensor, pixels_per_crop_pixel: float, amount: float) -> Tensor:
    """A restored face with the photo's own finest octaves, each where it is more than noise.

    Noise is mostly in the finest octave and a portrait's detail in the others, so what is kept is asked of each by itself.
    Nothing changes where the model sees all of the photo (a crop as fine as it), nor where the photo is softer than what
    the model drew.

    Args:
        photo, face: (1, 3, h, w) in [0, 1], the same place before and after.
        pixels_per_crop_pixel: how many of the photo's pixels a pixel of the crop spans.
        amount: in [0, 1].
    """
    amount *= min(1.0, max(0.0, (pixels_per_crop_pixel - 1) / _RAMP))
    if amount == 0:
        return face
    sigma = _LIMIT * pixels_per_crop_pixel
    seen = drawn = missing = torch.zeros_like(face)
    for theirs, ours in zip(_octaves(photo, sigma), _octaves(face, sigma), strict=True):
        energy = _energy(theirs)
        is_detail = ((energy / _noise(photo, energy) - _NOISE) / (_DETAIL - _NOISE)).clamp(0, 1)
        seen, drawn, missing = seen + theirs, drawn + ours, missing + is_detail * (theirs - ours)
    energy = _energy(seen)
    ratio = (energy - _noise(photo, energy)).clamp(min=0).mean() / _energy(drawn).mean().clamp(min=1e-9)
    is_finer = ((ratio - _FINER[0]) / (_FINER[1] - _FINER[0])).clamp(0, 1)
    return face + amount * is_finer * missing


def _octaves(images: Tensor, sigma: float) -> Iterator[Tensor]:
    """What blurs of 1, 2, 4, ... pixels take away one after the other, down to a blur of `sigma`."""
    limit = _FINEST
    while True:
        limit = sigma if 2 * limit > sigma else limit
        softer = blur(images, limit)
        yield images - softer
        if limit == sigma:
            return
        images, limit = softer, 2 * limit


def match_surroundings(photo: Tensor, face: Tensor, share: Tensor, amount: float, seed: int = 0) -> Tensor:
    """A restored face made as soft and as grainy as the photo around it; one that is softer or grainier stays so.

    Args:
        photo, face: (1, 3, h, w) in [0, 1], the same place before and after.
        share: (1, 1, h, w) in [0, 1], how much of the face is shown; where it is nearly 0 are its surroundings.
        amount: in [0, 1].
        seed: of the grain.
    """
    around, inside = share < 0.05, share > 0.5
    if amount == 0 or around.sum() < _LEAST or inside.sum() < _LEAST:
        return face
    wanted = _sharpness(photo, around)
    steps = (0.0, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0)  # pixels
    needed = next((s for s in steps if _sharpness(blur(face, s) if s else face, inside) <= wanted), steps[-1])
    soft = torch.lerp(face, blur(face, needed), amount) if needed else face
    missing = _grain(photo, around) - _grain(soft, inside)
    generator = torch.Generator().manual_seed(seed)
    grain = torch.randn(1, 1, *face.shape[2:], generator=generator).to(face)
    return soft + amount * missing.clamp(min=0).sqrt() * grain


def _sharpness(images: Tensor, where: Tensor) -> Tensor:
    """How much of the strongest edges' energy is finer than two pixels."""
    coarse, fine = (_energy(images - blur(images, sigma))[where] for sigma in (2.0, 1.0))
    edges = coarse >= coarse[:: 1 + len(coarse) // 2**20].quantile(0.9)
    return fine[edges].sum() / coarse[edges].sum().clamp(min=1e-9)


def _grain(images: Tensor, where: Tensor) -> Tensor:
    """Variance of the noise in flat parts, of the luma; a 3 x 3 blur takes out a ninth of it."""
    finest = images - F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    energy = _energy(finest)[where]
    return energy[:: 1 + len(energy) // 2**20].quantile(_GRAINY) * 9 / 8


def _noise(photo: Tensor, energy: Tensor) -> Tensor:
    """The band's energy where there is nothing to see. Pixels near black and white count for nothing: noise ends there."""
    luma = to_grey(F.avg_pool2d(photo, 5, 1, 2, count_include_pad=False))[:, :1]
    told = energy[(luma > 0.05) & (luma < 0.95)]
    told = told if len(told) else energy.flatten()
    return told[:: 1 + len(told) // 2**20].quantile(_FLAT).clamp(min=1e-9)


def _energy(band: Tensor) -> Tensor:
    """Mean square of a band's luma around each pixel: (1, 1, h, w)."""
    square = to_grey(band)[:, :1].square()
    return F.avg_pool2d(square, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, h, w), its border repeated."""
    radius = max(1, round(3 * sigma))
    position = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = (-(position**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    wide = F.pad(images, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(wide, kernel, groups=len(kernel)), kernel.transpose(2, 3), groups=len(kernel))
