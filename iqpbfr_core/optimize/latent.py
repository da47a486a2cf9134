"""Baseline: climb the score in the continuous latent. What the generator was never shown, the metric may still like."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..restorer import Codes, Features, Restorer, check_range
from .ascent import Proposal, climb
from .best import merge
from .objective import Consistency, Score, Scores, as_score, low_pass
from .plan import Plan
from .result import Callback, LatentResult


def ascend_latent(
    restorer: Restorer,
    codes: Codes,
    features: Features,
    metric: Score | Scores,
    steps: int = 15,
    *,
    learning_rate: float = 0.05,
    lq: Tensor | None = None,
    lq_weight: float = 1.0,
    degrade: Callable[[Tensor], Tensor] = low_pass,
    patience: int | None = None,
    target: float | Tensor | None = None,
    fidelity: float | Tensor = 0.0,
    adain: bool = True,
    chunk: int | None = None,
    checkpointing: bool = False,
    callback: Callback | None = None,
) -> LatentResult:
    """Move the quantised features of `codes` freely to raise `metric`.

    Args:
        learning_rate: size of a step, in standard deviations of each face's quantised features.
        others: as in `optimize_codes`.
    """
    consistency = None if lq is None else Consistency(lq, lq_weight, degrade)
    plan = Plan(steps, patience, target, fidelity, adain, consistency, chunk, checkpointing, callback)
    check_range("learning_rate", learning_rate, 0)

    def search(restorer: Restorer, some_codes: Codes, some_features: Features, _: slice) -> LatentSearch:
        return LatentSearch(restorer, some_codes, some_features, learning_rate=learning_rate)

    found = climb(restorer, codes, features, as_score(metric), plan, search)
    return LatentResult(**vars(merge(found)), z_q=torch.cat([best.state for best in found]))


class LatentSearch:
    """z_q = start + spread * offset, with the offset free."""

    def __init__(self, restorer: Restorer, codes: Codes, features: Features, *, learning_rate: float) -> None:
        self.start = restorer.quantise(codes, features).detach()
        self.spread = self.start.float().std((1, 2, 3), keepdim=True)
        self.offset = torch.zeros_like(self.start, dtype=torch.float32).requires_grad_()
        self.optimizer = torch.optim.Adam([self.offset], learning_rate)

    def propose(self) -> Proposal:
        z_q = (self.start + self.spread * self.offset).to(self.start.dtype)
        changed = (self.offset.detach() != 0).any(1).float().mean((1, 2))
        return Proposal(z_q.detach(), z_q, torch.zeros_like(changed), changed)

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
