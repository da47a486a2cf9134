"""What can be wrong with a face, explicitly and by degrees: what photographs suffer, and what generators do.

A flaw has a strength in [0, 1]; equal steps look about equal on a face of 256 pixels. `grade` says what flaws leave of
a face's quality, so every flawed face comes with a score that is known, not guessed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..degradation import Degradation, apply

PHOTOGRAPHIC = ("blur", "downsample", "noise", "jpeg")
GENERATED = ("sharpen", "checker", "dots")
KINDS = PHOTOGRAPHIC + GENERATED
Strengths = dict[str, float]


def flawed(face: Tensor, strengths: Strengths, seed: int = 0) -> Tensor:
    """A face (3, H, W) in [0, 1] with flaws of these strengths; an absent kind does nothing."""
    image = face[None]
    for kind in GENERATED:
        if strengths.get(kind, 0) > 0:
            image = _MADE[kind](image, strengths[kind], seed)
    return apply(image, [photographic(strengths, seed)])[0]


def photographic(strengths: Strengths, seed: int = 0) -> Degradation:
    """The flaws that photographs suffer, as one degradation."""
    drawn = {kind: strengths[kind] for kind in PHOTOGRAPHIC if strengths.get(kind, 0) > 0}
    sigma = _geometric(0.3, 6, drawn["blur"]) if "blur" in drawn else 0.0
    return Degradation(
        sigma=(sigma, sigma),
        downsample=_geometric(1.1, 12, drawn["downsample"]) if "downsample" in drawn else 1.0,
        noise=_geometric(0.8, 40, drawn["noise"]) if "noise" in drawn else 0.0,
        jpeg=_geometric(98, 6, drawn["jpeg"]) if "jpeg" in drawn else None,
        seed=seed,
    )


def _geometric(first: float, last: float, strength: float) -> float:
    return first * (last / first) ** strength


def _sharpen(image: Tensor, strength: float, seed: int) -> Tensor:
    """Unsharp masking, from crisp to harsh, with haloes."""
    radius = 0.6 + 1.4 * (seed % 7) / 6
    detail = image - apply(image, [Degradation(sigma=(radius, radius))])
    return (image + _geometric(0.4, 8, strength) * detail).clamp(0, 1)


def _checker(image: Tensor, strength: float, seed: int) -> Tensor:
    """The lattice of transposed convolutions and pixel shuffles, two or four pixels wide, stronger where it is bright."""
    period = 2 if seed % 2 else 4
    rows, columns = (torch.arange(n) * 2 // period % 2 * 2.0 - 1 for n in image.shape[2:])
    pattern = rows[:, None] * columns[None] if seed % 3 else rows[:, None] + 0 * columns[None]
    return (image + _geometric(0.004, 0.12, strength) * pattern * image.mean(1, keepdim=True)).clamp(0, 1)


def _dots(image: Tensor, strength: float, seed: int) -> Tensor:
    """Speckle that sticks to texture: what a search that climbs a quality model paints into hair and skin."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 1, *image.shape[2:], generator=generator)
    noise = F.avg_pool2d(noise, 3, 1, 1) if seed % 2 else noise
    local = (image - F.avg_pool2d(image, 5, 1, 2)).abs().mean(1, keepdim=True)
    spots = torch.where(noise.abs() > noise.std(), noise.sign(), torch.zeros(()))
    return (image + _geometric(0.1, 2.5, strength) * spots * (local + 0.01)).clamp(0, 1)


_MADE = {"sharpen": _sharpen, "checker": _checker, "dots": _dots}


def grade(strengths: Strengths) -> float:
    """What is left of the quality, in [0, 1], 1 = untouched.

    Blur and downsampling take the same thing away, so the stronger counts; the others come on top.
    """
    left = 1 - max(strengths.get("blur", 0.0), strengths.get("downsample", 0.0))
    for kind in KINDS[2:]:
        left *= 1 - strengths.get(kind, 0.0)
    return left


CLEAN_SHARE = 0.35


def draw_imperfect(seed: int) -> Strengths:
    """Flaws for a training target, such that scores fill the whole range: a third of the faces stays untouched, of the
    others as many keep a tenth of their quality as keep nine tenths. Lost detail above all, and a little noise or
    compression, since that is what codes can hold."""
    u = torch.rand(5, generator=torch.Generator().manual_seed(seed + 1)).tolist()
    if u[0] < CLEAN_SHARE:
        return {}
    left = u[1]
    by_others = left ** (0.4 * u[2]) if u[3] < 0.3 else 1.0
    return {
        "blur" if u[4] < 0.5 else "downsample": 1 - left / by_others,
        "noise" if seed % 2 else "jpeg": 1 - by_others,
    }


def imperfect(face: Tensor, seed: int) -> Tensor:
    """A training target: (3, H, W) in [0, 1], flawed by `draw_imperfect`."""
    return flawed(face, draw_imperfect(seed), seed)
