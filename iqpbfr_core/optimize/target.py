"""Restoring to a wanted score with the least intervention, because the first thing lost to restoration is identity.

Per face: the highest fidelity that reaches the score at all, then the lowest quality that still reaches it there. Both
are found by bisection over decodes from one encode, on the assumption that the score falls with fidelity and rises
with quality; whatever the truth of that, a face reported as reached was decoded and scored so.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..restorer import Features, Restorer
from .objective import Score, Scores, as_score, measure
from .plan import check_count, check_target, select


@dataclass(frozen=True)
class TargetResult:
    """What it took, per face.

    Attributes:
        images: (B, 3, R, R) in [0, 1], float32.
        scores: (B,) scores of these images.
        fidelity, quality: (B,) what they were restored with.
        is_reached: (B,) bool; where False, the image is the best-scoring one that was found.
        num_decodes: decodes that were made, each of the whole batch.
    """

    images: Tensor
    scores: Tensor
    fidelity: Tensor
    quality: Tensor
    is_reached: Tensor
    num_decodes: int


@torch.no_grad()
def restore_to_target(
    restorer: Restorer,
    images: Tensor,
    metric: Score | Scores,
    target: float | Tensor,
    *,
    halvings: int = 5,
    guidance: float = 1.0,
    alpha: float | None = None,
    adain: bool = True,
    progress: Callable[[], None] = lambda: None,
) -> TargetResult:
    """Restore faces to a score of at least `target`, as little changed as possible.

    Args:
        restorer: any; one without fidelity or without quality is only searched along what it has.
        images: aligned faces (B, 3, R, R) in [0, 1].
        metric: as in `optimize_codes`; needs no gradient.
        target: wanted score in [0, 1], a number or (B,).
        halvings: bisection steps for each of fidelity and quality; both are found to 1 / 2^halvings.
        guidance, alpha, adain: as in `Restorer.lookup` and `Restorer.decode`.
        progress: called before every forward pass; may raise to stop.

    Raises:
        InputError: bad images, or a target out of range.
    """
    score = as_score(metric)
    check_target(target)
    check_count("halvings", halvings)
    features = restorer.encode(images)
    wanted = torch.as_tensor(select("target", target, slice(None), len(images)))
    trials = _Trials(restorer, features, score, wanted.to(features.z.device).float(), guidance, alpha, adain, progress)
    zeros = torch.zeros(len(images), device=features.z.device)
    ones = zeros + 1

    is_hit = trials.look(ones if restorer.has_fidelity else zeros, ones)
    if restorer.has_fidelity and not is_hit.all():
        good = torch.where(is_hit, ones, zeros)
        trials.look(good, ones)
        _bisect(good, ones, halvings, lambda fidelity: trials.look(fidelity, ones))
    if restorer.has_quality:
        fidelity = trials.fidelity
        bad = zeros
        good = torch.where(trials.look(fidelity, bad), zeros, ones)
        _bisect(good, bad, halvings, lambda quality: trials.look(fidelity, quality))
    return TargetResult(
        trials.images, trials.scores, trials.fidelity, trials.quality, trials.is_reached, trials.num_decodes
    )


def _bisect(good: Tensor, bad: Tensor, halvings: int, look: Callable[[Tensor], Tensor]) -> None:
    """Look ever nearer to where `good` (B,) ends and `bad` begins; faces that have good = bad stay there."""
    for _ in range(halvings):
        middle = (good + bad) / 2
        is_hit = look(middle)
        good, bad = torch.where(is_hit, middle, good), torch.where(is_hit, bad, middle)


class _Trials:
    """Decodes of the same faces, and of each face the one to keep: the last that reached the target, or the best."""

    def __init__(
        self,
        restorer: Restorer,
        features: Features,
        score: Score,
        target: Tensor,
        guidance: float,
        alpha: float | None,
        adain: bool,
        progress: Callable[[], None],
    ) -> None:
        self.progress = progress
        self.restorer, self.features, self.score, self.target = restorer, features, score, target
        self.guidance, self.alpha, self.adain = guidance, alpha, adain
        nothing = torch.full((len(features.z),), -torch.inf, device=features.z.device)
        side = restorer.config.resolution
        self.images = torch.zeros(len(nothing), 3, side, side, device=nothing.device)
        self.scores, self.fidelity, self.quality = nothing, nothing, nothing
        self.is_reached = torch.zeros_like(nothing, dtype=torch.bool)
        self.num_decodes = 0

    def look(self, fidelity: Tensor, quality: Tensor) -> Tensor:
        """Decode with these, (B,) each, and return which faces reach the target. Later looks must intervene less."""
        self.progress()
        codes = self.restorer.lookup(self.features, quality, self.guidance, self.alpha)
        self.progress()
        images = self.restorer.decode(codes, self.features, fidelity, self.adain)
        self.progress()
        scores = measure(self.score, images).to(self.target.device)
        self.num_decodes += 1
        is_hit = scores >= self.target
        is_kept = is_hit | (~self.is_reached & (scores > self.scores))
        self.images = torch.where(is_kept[:, None, None, None], images, self.images)
        self.scores = torch.where(is_kept, scores, self.scores)
        self.fidelity = torch.where(is_kept, fidelity, self.fidelity)
        self.quality = torch.where(is_kept, quality, self.quality)
        self.is_reached = self.is_reached | is_hit
        return is_hit
