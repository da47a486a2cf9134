"""The photo's own detail, where it is finer than a model can draw, and faces as sharp and grainy as what surrounds them."""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image import to_grey

_LIMIT = 2.0  # crop pixels: the blur that leaves what models draw well
_CELL = 3  # pixels: energies are smooth, so that one for every so many pixels is enough
_WINDOW = 3  # cells over which a band's energy is measured
_FINEST = 1  # photo pixels: the blur that takes the finest octave away
_FLAT = 0.1  # share of a face that is flat at the least: what energy is there is noise and JPEG's blocks
_NOISE, _DETAIL = 3.0, 6.0  # times that energy: up to the first it is noise, from the second on detail
_GRAINY = 0.2  # share of flat parts from which the grain of surroundings is measured
_FINER = (0.8, 1.2)  # energy of the photo's band over the restored face's: below, the photo is the blurred one
_MANY = 2**12  # cells that tell how energy is spread over a face
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
    luma = _luma(photo)
    telling = _tell_noise(luma)
    missing = torch.zeros_like(face)
    # Blurs are linear: those of the face and of its luma follow from these.
    images = softest = torch.cat((luma, photo - face), 1)
    for finer, softest in pairwise(_ever_softer(images, _LIMIT * pixels_per_crop_pixel)):
        band = finer - softest
        energy = _energy(band[:, :1])
        is_detail = ((energy / _noise(energy, telling) - _NOISE) / (_DETAIL - _NOISE)).clamp(0, 1)
        missing.addcmul_(_enlarge(is_detail, missing), band[:, 1:])
    whole = images - softest
    energy, drawn = _energy(whole[:, :1]), _energy(whole[:, :1] - _luma(whole[:, 1:]))
    ratio = (energy - _noise(energy, telling)).clamp(min=0).mean() / drawn.mean().clamp(min=1e-9)
    is_finer = ((ratio - _FINER[0]) / (_FINER[1] - _FINER[0])).clamp(0, 1)
    return face + amount * is_finer * missing


def _ever_softer(images: Tensor, sigma: float) -> Iterator[Tensor]:
    """Images and their blurs by 1, 2, 4, ... pixels, one after the other, down to a blur of `sigma`, at least 2.

    What is blurred by s pixels needs no more than one in 2s of them to be blurred on (Burt and Adelson 1983).
    """
    yield images
    images, stride = blur(images, _FINEST), 2 * _FINEST
    yield images
    while 2 * stride <= sigma:
        images, stride = _blur_few(images, stride, stride), 2 * stride
        yield images
    yield _blur_few(images, sigma, stride)


def _blur_few(images: Tensor, sigma: float, stride: int) -> Tensor:
    """Gaussian blur of images without detail finer than `stride` pixels, by a picture of one pixel in so many."""
    few = [max(1, round(side / stride)) for side in images.shape[2:]]
    coarse = F.interpolate(images, size=few, mode="bilinear", align_corners=False)
    return _enlarge(blur(coarse, sigma / stride), images)


def _enlarge(images: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(images, size=like.shape[2:], mode="bilinear", align_corners=False)


def match_surroundings(photo: Tensor, face: Tensor, share: Tensor, amount: float, seed: int = 0) -> Tensor:
    """A restored face made as soft and as grainy as the photo around it; one that is softer or grainier stays so.

    Args:
        photo, face: (1, 3, h, w) in [0, 1], the same place before and after.
        share: (1, 1, h, w) in [0, 1], how much of the face is shown; where it is nearly 0 are its surroundings.
        amount: in [0, 1].
        seed: of the grain.
    """
    shown = _cells(share)
    around, inside = shown < 0.05, shown > 0.5
    if amount == 0 or min(around.sum(), inside.sum()) < _LEAST / _CELL**2:
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
    luma = _luma(images)
    coarse, fine = (_energy(luma - blur(luma, sigma))[where] for sigma in (2.0, 1.0))
    edges = coarse >= _some(coarse).quantile(0.9)
    return fine[edges].sum() / coarse[edges].sum().clamp(min=1e-9)


def _grain(images: Tensor, where: Tensor) -> Tensor:
    """Variance of the noise in flat parts, of the luma; a 3 x 3 blur takes out a ninth of it."""
    luma = _luma(images)
    energy = _energy(luma - _mean_around(luma, 3))[where]
    return _some(energy).quantile(_GRAINY) * 9 / 8


def _noise(energy: Tensor, telling: Tensor) -> Tensor:
    """The band's energy where there is nothing to see; `telling` from `_tell_noise`."""
    return energy.flatten()[telling].quantile(_FLAT).clamp(min=1e-9)


def _tell_noise(luma: Tensor) -> Tensor:
    """(n,) numbers of cells that tell how noisy a photo is: those near black and white do not, noise ends there."""
    around = _cells(luma).flatten()
    telling = ((around > 0.05) & (around < 0.95)).nonzero()[:, 0]
    return _some(telling if len(telling) else torch.arange(len(around), device=luma.device))


def _some(values: Tensor) -> Tensor:
    """Of (n,) values as many as tell how they are spread; those of neighbours are much the same."""
    return values[:: 1 + len(values) // _MANY]


def _energy(band: Tensor) -> Tensor:
    """Mean square of a band (1, 1, h, w) of the luma around each cell."""
    return _mean_around(_cells(band.square()), _WINDOW)


def _cells(images: Tensor) -> Tensor:
    """Means of (B, C, h, w) in squares of _CELL pixels, side by side; those at the right and below may be cut off."""
    return F.avg_pool2d(images, _CELL, ceil_mode=True, count_include_pad=False)


def _mean_around(images: Tensor, side: int) -> Tensor:
    """Mean of (B, C, h, w) in a square of an odd `side` around each pixel; what lies outside does not count."""
    return F.avg_pool2d(images, side, 1, side // 2, count_include_pad=False)


def _luma(images: Tensor) -> Tensor:
    return to_grey(images)[:, :1]


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, h, w), its border repeated."""
    reach = max(1, round(3 * sigma))
    weights = [math.exp(-(distance**2) / (2 * sigma**2)) for distance in range(reach + 1)]
    total = 2 * sum(weights) - weights[0]
    weights = [weight / total for weight in weights]
    return _along(_along(F.pad(images, (reach,) * 4, mode="replicate"), weights, 2), weights, 3)


def _along(images: Tensor, weights: list[float], dim: int) -> Tensor:
    """Filter along one axis by weights from the middle outwards, the same to both sides; what they do not cover is cut off.

    Adding up shifted pictures is many times as fast on a CPU as a convolution of so few channels.
    """
    middle = len(weights) - 1
    length = images.shape[dim] - 2 * middle
    total = images.narrow(dim, middle, length) * weights[0]
    for distance, weight in enumerate(weights[1:], 1):
        for side in (-distance, distance):
            total.add_(images.narrow(dim, middle + side, length), alpha=weight)
    return total
