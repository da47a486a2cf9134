"""Quality optimisation in the space of codes, at inference and without training.

    maximise  IQA(G(z_q)) - lambda_p KL(softmax theta || p0) - lambda_f |degrade(G(z_q)) - lq|_1

Climbing a quality score in a continuous latent may find noise that the metric likes and people do not. Here every
iterate is decoded from codebook entries, and so made of parts the generator knows. It needs nothing but logits over
codes, and so works on any restorer with a codebook, a stock CodeFormer included.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..layers.straight_through import straight_through
from ..restorer import Codes, Features, Restorer, check_range
from .ascent import Proposal, climb
from .best import merge
from .objective import Consistency, Score, Scores, as_score, low_pass
from .plan import Plan, check_count
from .result import Callback, OptimizationResult

Books = Literal["both", "hq", "common"]


def optimize_codes(
    restorer: Restorer,
    codes: Codes,
    features: Features,
    metric: Score | Scores,
    steps: int = 15,
    *,
    candidates: int = 32,
    books: Books = "both",
    prior_weight: float = 0.1,
    max_changed: float = 0.2,
    learning_rate: float = 0.5,
    noise: float = 0.0,
    lq: Tensor | None = None,
    lq_weight: float = 1.0,
    degrade: Callable[[Tensor], Tensor] = low_pass,
    patience: int | None = None,
    target: float | Tensor | None = None,
    fidelity: float | Tensor = 0.0,
    adain: bool = True,
    seed: int = 0,
    chunk: int | None = None,
    checkpointing: bool = False,
    callback: Callback | None = None,
    go_on_from: Codes | None = None,
) -> OptimizationResult:
    """Search for codes whose decoded faces score higher; never returns a face that scores lower than it did.

    Args:
        restorer, codes, features: what was encoded and looked up; the start.
        metric: what to raise, higher = better: a loaded metric, several (their mean), or `WeightedMean`, `WorstOf`.
        steps: forward and backward passes, at least 1.
        candidates: likeliest codes per token and codebook to choose from, beside the start's own.
        books: which codebook may change; a model with one codebook has only "both" and "common".
        prior_weight: lambda_p, on the mean KL per token (nats) from the lookup's distribution over the candidates.
        max_changed: trust region: the largest share of tokens, in [0, 1], that may differ from the start.
        learning_rate: size of a step in logits.
        noise: scale of the Gumbel noise by which codes are sampled from the logits; 0 takes the likeliest.
        lq, lq_weight, degrade: with the degraded faces (B, 3, R, R) in [0, 1], results are drawn to what
            `degrade` makes equal to them; lambda_f, on the mean absolute difference.
        patience: stop a face after that many steps without a gain.
        target: stop a face at this score, in [0, 1]; a number or (B,).
        fidelity, adain: as in `Restorer.decode`; decode the result with the same.
        seed: of the noise; every face of a batch draws the same.
        chunk: faces worked on at once; None = all. Less needs less memory.
        checkpointing: recompute the generator's activations instead of storing them: less memory, more time.
        callback: called after every evaluation; see `Callback`.
        go_on_from: what an interrupted search for the same faces had found; its steps come on top.

    Raises:
        InputError: an argument out of range, or codes that do not fit the model.
        MetricError: a metric without gradient, or one that does not return a finite number per face.
    """
    score = as_score(metric)
    consistency = None if lq is None else Consistency(lq, lq_weight, degrade)
    plan = Plan(steps, patience, target, fidelity, adain, consistency, chunk, checkpointing, callback)
    check_count("candidates", candidates)
    check_range("prior_weight", prior_weight, 0)
    check_range("max_changed", max_changed, 0, 1)
    check_range("learning_rate", learning_rate, 0)
    check_range("noise", noise, 0)
    is_free = _free_books(books, restorer.config.num_books)
    if go_on_from is not None and go_on_from.indices.shape != codes.indices.shape:
        raise InputError(
            f"go_on_from holds codes {tuple(go_on_from.indices.shape)}, the start {tuple(codes.indices.shape)}: they must "
            "be of the same faces."
        )

    def search(restorer: Restorer, some_codes: Codes, some_features: Features, faces: slice) -> CodeSearch:
        return CodeSearch(
            restorer,
            some_codes,
            some_features,
            num_candidates=candidates,
            is_free=is_free,
            prior_weight=prior_weight,
            max_changed=max_changed,
            learning_rate=learning_rate,
            noise=noise,
            seed=seed,
            reached=None if go_on_from is None else go_on_from.indices[faces],
        )

    found = climb(restorer, codes, features, score, plan, search)
    indices = torch.cat([best.state for best in found])
    return OptimizationResult(**vars(merge(found)), codes=codes.with_indices(indices.reshape(codes.indices.shape)))


def _free_books(books: str, num_books: int) -> list[bool]:
    """Per codebook, in the order of the indices' last axis, whether it may change."""
    allowed = {"both": [True, True], "hq": [True, False], "common": [False, True]}
    if num_books == 1:
        allowed = {"both": [True], "common": [True]}
    if books not in allowed:
        raise InputError(f"books must be one of {', '.join(allowed)} for a model with {num_books}, got {books!r}.")
    return allowed[books]


class CodeSearch:
    """Logits over each token's candidates; candidate 0 is the start's own code."""

    def __init__(
        self,
        restorer: Restorer,
        codes: Codes,
        features: Features,
        *,
        num_candidates: int,
        is_free: list[bool],
        prior_weight: float,
        max_changed: float,
        learning_rate: float,
        noise: float,
        seed: int,
        reached: Tensor | None = None,
    ) -> None:
        self.network, self.like, self.alpha = restorer.network, features.z, codes.alpha
        self.prior_weight, self.noise = prior_weight, noise
        self.max_changed = int(max_changed * restorer.config.num_tokens + 1e-6)
        self.is_free = torch.tensor(is_free, device=features.z.device)
        self.random = torch.Generator().manual_seed(seed)
        self.is_start = True

        logits, start = codes.logits.to(features.z.device).float(), codes.indices.to(features.z.device)
        if restorer.config.num_books == 1:
            logits, start = logits[..., None], start[..., None]
        start = start[:, :, None]  # (B, N, 1, books)
        self.shape = logits.shape  # (B, N, K, books)
        most = min(num_candidates, self.shape[2])
        self.candidates = logits.scatter(2, start, torch.inf).topk(most, 2).indices
        self.prior = logits.gather(2, self.candidates).log_softmax(2)
        theta = self.prior.clone()
        theta[:, :, 0] = theta.amax(2)  # the start may have been chosen against the odds
        self.goes_on = reached is not None
        if reached is not None:
            is_reached = self.candidates == reached.to(start.device).reshape(start.shape)
            theta = torch.where(is_reached, theta.amax(2, keepdim=True) + learning_rate, theta)
        self.theta = theta.requires_grad_()
        self.optimizer = torch.optim.Adam([self.theta], learning_rate)

    def propose(self) -> Proposal:
        choice = self._choose()
        indices = self.candidates.gather(2, choice[:, :, None])[:, :, 0]
        log_p = self.theta.log_softmax(2)
        weights = torch.zeros(self.shape, device=log_p.device).scatter(2, self.candidates, log_p.exp())
        z_q = straight_through(
            self.network.quantise(indices, self.alpha, like=self.like), self.network.mix(weights, self.alpha)
        )
        divergence = (log_p.exp() * (log_p - self.prior)).sum(2).mean((1, 2))
        changed = (choice > 0).any(-1).float().mean(1)
        return Proposal(indices, z_q, self.prior_weight * divergence, changed)

    def update(self) -> None:
        assert self.theta.grad is not None
        self.theta.grad.mul_(self.is_free)
        if not self.goes_on:  # else this gradient belongs to the start, and what was reached is still to be seen
            self.optimizer.step()
        self.goes_on = False
        self.optimizer.zero_grad()

    @torch.no_grad()
    def _choose(self) -> Tensor:
        """Candidate of every token, (B, N, books): the likeliest or a sample, within the trust region."""
        if self.is_start:
            self.is_start = False
            return torch.zeros_like(self.candidates[:, :, 0])
        logits = self.theta.detach()
        if self.noise > 0:
            uniform = torch.rand(logits.shape[1:], generator=self.random).clamp(1e-12, 1 - 1e-7)
            logits = logits - self.noise * (-uniform.log()).log().to(logits.device)
        choice = logits.argmax(2) * self.is_free
        margin = ((logits.amax(2) - logits[:, :, 0]) * self.is_free).amax(-1)  # (B, N)
        boldest = margin.topk(self.max_changed, dim=1).indices
        may_change = torch.zeros_like(margin, dtype=torch.bool).scatter(1, boldest, True)
        return choice * may_change[..., None]
