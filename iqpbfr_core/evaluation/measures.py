"""What restored faces are measured by, each measure with a name, a direction and most with a number per face."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from ..errors import MetricError
from ..quality import Metric
from .landmarks import DenseLandmarks, FiveLandmarks
from .likeness import FeatureJudge, IdentityJudge


@dataclass(frozen=True)
class Scale:
    """What a number means, be it of a face or of a set of faces.

    Attributes:
        name: as it is asked for, heading: as it is shown.
        lower_better: its direction.
    """

    name: str
    heading: str
    lower_better: bool


@dataclass(frozen=True)
class Measure(Scale):
    """A number per face.

    Attributes:
        needs_original: whether it compares with the original face.
        of: (B, 3, R, R) in [0, 1] and the originals -> a number per face, NaN where it has none.
    """

    needs_original: bool
    of: Callable[[Tensor, Tensor], list[float]]


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal to noise ratio in dB over RGB, (3, H, W) in [0, 1]."""
    return float(peak_signal_noise_ratio(reference.numpy(), image.numpy(), data_range=1.0))


def ssim(image: Tensor, reference: Tensor) -> float:
    """Structural similarity over RGB, (3, H, W) in [0, 1]."""
    similarity = structural_similarity(reference.numpy(), image.numpy(), channel_axis=0, data_range=1.0)
    return float(similarity)  # type: ignore[arg-type]


def raw_scores(metric: Metric, images: Tensor) -> list[float]:
    """One value per face on the metric's own scale; a face it cannot score is NaN, not zero."""
    values = []
    for image in images.split(1):
        try:
            values.append(metric.raw(image).item())
        except MetricError:
            values.append(float("nan"))
    return values


def _by_face(compare: Callable[[Tensor, Tensor], float]) -> Callable[[Tensor, Tensor], list[float]]:
    return lambda images, originals: [compare(a, b) for a, b in zip(images, originals, strict=True)]


PSNR = Measure("psnr", "PSNR dB", False, True, _by_face(psnr))
SSIM = Measure("ssim", "SSIM", False, True, _by_face(ssim))


def by_metric(name: str, metric: Metric) -> Measure:
    """A no-reference metric, on its own scale as papers print it."""
    return Measure(name, name, metric.lower_better, False, lambda images, _: raw_scores(metric, images))


def by_identity(judge: IdentityJudge) -> Measure:
    """Whether it is the same person: distance of a face recogniser's embeddings."""
    return Measure("identity", "identity distance", True, True, lambda a, b: judge.distance(a, b).tolist())


def by_likeness(judge: FeatureJudge) -> Measure:
    """Perceptual distance by a face detector's features."""
    return Measure("perceptual", "perceptual distance", True, True, lambda a, b: judge.distance(a, b).tolist())


def by_landmarks(judge: FiveLandmarks) -> Measure:
    """Landmark distance (LMD) of five points, in pixels of a 512 pixel face."""
    return Measure("lmd", "LMD px", True, True, lambda a, b: judge.error(a, b).tolist())


def by_dense_landmarks(judge: DenseLandmarks) -> Measure:
    """Landmark distance (LMD) of 98 points, as papers print it, in pixels of a 512 pixel face."""
    return Measure("lmd98", "LMD-98 px", True, True, lambda a, b: judge.error(a, b).tolist())


def by_lpips(network: nn.Module) -> Measure:
    """Learned perceptual distance; `pyiqa_metrics.load_lpips`."""
    return Measure("lpips", "LPIPS", True, True, lambda a, b: network(a, b).flatten().tolist())


def measure_faces(measures: list[Measure], images: Tensor, originals: Tensor | None) -> dict[str, list[float]]:
    """A number per face and measure; those that need originals give NaN without."""
    missing = [float("nan")] * len(images)
    with torch.inference_mode():
        return {
            m.name: missing
            if m.needs_original and originals is None
            else m.of(images, images if originals is None else originals)
            for m in measures
        }
