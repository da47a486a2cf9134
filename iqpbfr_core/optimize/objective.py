"""What is climbed: a quality score, of one metric or of several, and how far from the degraded input it may lead."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, MetricError
from ..image import check_images
from ..restorer import check_range
from .ownership import own, own_network

Score = Callable[[Tensor], Tensor]  # images (B, 3, H, W) in [0, 1] -> (B,), higher is better; a Metric is one
Scores = list[Score] | tuple[Score, ...]


@dataclass(frozen=True)
class WeightedMean:
    """Several metrics as one: sum(weight * score) / sum(weight). No weights = all equal."""

    metrics: Sequence[Score]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        _check_metrics(self.metrics)
        if self.weights is None:
            return
        usable = all(math.isfinite(w) and w >= 0 for w in self.weights) and sum(self.weights) > 0
        if len(self.weights) != len(self.metrics) or not usable:
            raise InputError(
                f"weights must be {len(self.metrics)} finite numbers, at least 0 and not all 0, got {list(self.weights)}."
            )

    def __call__(self, images: Tensor) -> Tensor:
        weights = self.weights or [1.0] * len(self.metrics)
        scores = [weight * metric(images) for metric, weight in zip(self.metrics, weights, strict=True)]
        return torch.stack(scores).sum(0) / sum(weights)


@dataclass(frozen=True)
class WorstOf:
    """Several metrics as one: each face's lowest score, so that none is raised at another's expense."""

    metrics: Sequence[Score]

    def __post_init__(self) -> None:
        _check_metrics(self.metrics)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.stack([metric(images) for metric in self.metrics]).amin(0)


def as_score(metric: Score | Scores) -> Score:
    """A metric as it is, several as their mean; anything else raises InputError."""
    if isinstance(metric, list | tuple):
        return WeightedMean(metric)
    _check_metrics([metric])
    return metric


def own_score(score: Score) -> Score:
    """A score whose metrics' weights a gradient can use; call outside inference mode."""
    if isinstance(score, WeightedMean | WorstOf):
        return replace(score, metrics=[own_score(metric) for metric in score.metrics])
    return own_network(score)


def _check_metrics(metrics: Sequence[object]) -> None:
    if not metrics:
        raise InputError("no metric was given; at least one is needed, for example load_metric('builtin').")
    for metric in metrics:
        if not callable(metric) or isinstance(metric, type):
            raise InputError(f"a metric must be a loaded one, as load_metric(name) returns it, got {metric!r}.")


def measure(score: Score, images: Tensor) -> Tensor:
    """Scores (B,) in float32; MetricError if the metric returns anything but one finite number per face."""
    scores = score(images)
    if not isinstance(scores, Tensor) or tuple(scores.shape) != (len(images),):
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise MetricError(f"{name_of(score)} must return one score per face, shape ({len(images)},), got {got}.")
    if not torch.isfinite(scores).all():
        raise MetricError(f"{name_of(score)} scored a face {scores.tolist()}: not a finite number. Use another metric.")
    return scores.float()


def name_of(score: Score) -> str:
    """For messages."""
    return f"metric {getattr(score, 'name', type(score).__name__)}"


def low_pass(images: Tensor, factor: int = 8) -> Tensor:
    """What a strong, unknown degradation leaves of (B, 3, H, W): averages over factor x factor pixels, same shape."""
    small = F.interpolate(images, scale_factor=1 / factor, mode="area")
    return F.interpolate(small, size=images.shape[2:], mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Consistency:
    """weight * |degrade(restored) - lq|, mean over pixels: how far a result strays from what was seen.

    Attributes:
        lq: the degraded faces (B, 3, R, R) in [0, 1].
        weight: the lambda_f of `codes.py`, at least 0.
        degrade: images to degraded images of the same shape, differentiable.
    """

    lq: Tensor
    weight: float
    degrade: Callable[[Tensor], Tensor] = low_pass

    def __post_init__(self) -> None:
        check_images(self.lq, "lq")
        check_range("lq_weight", self.weight, 0)

    def select(self, faces: slice, batch: int) -> "Consistency":
        """The term for some of `batch` faces."""
        if len(self.lq) != batch:
            raise InputError(f"lq holds {len(self.lq)} faces, the features {batch}: it must be what was encoded.")
        return replace(self, lq=own(self.lq[faces]))

    def penalty(self, images: Tensor) -> Tensor:
        """(B, 3, R, R) -> (B,)."""
        return self.weight * (self.degrade(images) - self.lq.to(images)).abs().mean((1, 2, 3))
