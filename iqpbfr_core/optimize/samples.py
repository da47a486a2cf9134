"""Baseline without gradients: draw code maps from the lookup's distribution and keep the best. What there is to beat."""

import torch
from torch import Tensor

from ..restorer import Codes, Features, Restorer, check_range, choose_codes
from .objective import Score, Scores, as_score, measure
from .plan import check_count
from .result import OptimizationResult, Trace


@torch.no_grad()
def sample_codes(
    restorer: Restorer,
    codes: Codes,
    features: Features,
    metric: Score | Scores,
    num_samples: int = 30,
    *,
    temperature: float = 1.0,
    fidelity: float | Tensor = 0.0,
    adain: bool = True,
    seed: int = 0,
    chunk: int = 16,
) -> OptimizationResult:
    """Best of the start and `num_samples` samples of each face. Works with metrics that have no gradient, too.

    Args:
        restorer, codes, features, metric, fidelity, adain: as in `optimize_codes`.
        num_samples: per face, at least 1.
        temperature: of the sampling; low ones stay near the likeliest codes.
        seed: of the samples; every face of a batch draws the same noise.
        chunk: code maps, of whichever faces, that are decoded and scored in one batch.

    Raises:
        InputError: an argument out of range, or codes that do not fit the model.
        MetricError: a metric that does not return a finite number per face.
    """
    score = as_score(metric)
    check_count("num_samples", num_samples)
    check_count("chunk", chunk)
    check_range("temperature", temperature, 0)
    restorer.check_codes(codes, features)
    batch = len(features.z)
    drawn = [choose_codes(codes.logits, temperature, seed + number) for number in range(num_samples)]
    maps = torch.stack([codes.indices, *drawn])  # (S, B, N[, books]), the start first

    def decode(samples: Tensor, faces: Tensor) -> Tensor:
        weight = fidelity[faces] if isinstance(fidelity, Tensor) and fidelity.ndim else fidelity
        chosen = codes[faces].with_indices(maps[samples, faces])
        return restorer.decode(chosen, features[faces], weight, adain)

    tasks = torch.cartesian_prod(torch.arange(len(maps)), torch.arange(batch)).split(chunk)
    scores = torch.cat([measure(score, decode(*task.T)) for task in tasks]).reshape(len(maps), batch)
    best = scores.argmax(0)
    faces = torch.arange(batch)
    images = torch.cat([decode(best[part].cpu(), part) for part in faces.split(chunk)])
    changed = (maps != maps[0]).flatten(3).any(3) if maps.ndim == 4 else maps != maps[0]
    return OptimizationResult(
        images=images,
        scores=scores.amax(0),
        start_scores=scores[0],
        trace=Trace(scores.cpu(), changed.float().mean(2).cpu()),
        stop_reasons=("steps",) * batch,
        codes=codes.with_indices(maps[best, faces.to(best)]),
    )
