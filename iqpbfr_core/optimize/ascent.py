"""The climb that codes and latents share: propose, decode, score, keep the best of each face, step.

A step costs one forward and one backward pass of generator and metric: the image that is scored is the one whose
gradient is taken. Every face is on its own: its result does not depend on its neighbours in the batch.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import MetricError
from ..image import from_network
from ..models.autoencoder import Generator
from ..restorer import Codes, Features, Restorer
from .best import Best, Evaluation
from .objective import Score, measure, name_of, own_score
from .ownership import own_codes, own_features, own_network
from .plan import Plan
from .result import Progress

LOSS_SCALE = 1024.0  # keeps half-precision gradients away from underflow; no search minds the gradient's scale


@dataclass(frozen=True)
class Proposal:
    """What a search wants to see decoded.

    Attributes:
        state: (B, ...) what to keep of a face if this is its best so far.
        z_q: (B, C, t, t) quantised features, with a gradient to whatever the search moves.
        penalty: (B,) to be subtracted from the score; differentiable.
        changed: (B,) share of tokens that differ from the start.
    """

    state: Tensor
    z_q: Tensor
    penalty: Tensor
    changed: Tensor


class Search(Protocol):
    """A way through latents. The first proposal is the start."""

    def propose(self) -> Proposal: ...

    def update(self) -> None:
        """Step along the gradient that `backward` left."""
        ...


def climb(
    restorer: Restorer,
    codes: Codes,
    features: Features,
    score: Score,
    plan: Plan,
    make_search: Callable[[Restorer, Codes, Features, slice], Search],
) -> list[Best]:
    """Climb chunk by chunk and return the best of each. Works inside `torch.inference_mode()` too.

    `make_search` gets the codes and features of some faces, and which of the batch they are.

    Once interrupted, the faces of later chunks are only decoded and scored as they are.
    """
    restorer.check_codes(codes, features)
    batch = len(features.z)
    chunks = plan.chunks(batch)
    plans = [plan.select(faces, batch) for faces in chunks]
    evaluations = plan.steps + 1
    found: list[Best] = []
    with torch.inference_mode(False), torch.enable_grad(), contextlib.ExitStack() as stack:
        restorer, score = Restorer(own_network(restorer.network), restorer.device), own_score(score)
        stack.enter_context(_checkpointing(restorer, plan.checkpointing))
        for number, faces in enumerate(chunks):
            some_codes, some_features = own_codes(codes[faces]), own_features(features[faces])
            search = make_search(restorer, some_codes, some_features, faces)
            chunk = _Chunk(restorer, some_codes, some_features, score, plans[number], search)
            is_interrupted = any("interrupted" in best.stop_reasons for best in found)

            def report(done: int, best: Best, number: int = number, faces: slice = faces) -> bool:
                if plan.callback is None:
                    return True
                done, total = number * evaluations + done, len(chunks) * evaluations
                return plan.callback(Progress(done, total, faces, best.scores, best.images)) is not False

            found.append(chunk.climb((lambda *_: False) if is_interrupted else report))
    return found


@contextlib.contextmanager
def _checkpointing(restorer: Restorer, is_wanted: bool) -> Iterator[None]:
    """Only the code-prediction family's generators can do without their activations."""
    generators = [m for m in restorer.network.modules() if isinstance(m, Generator)] if is_wanted else []
    for generator in generators:
        generator.is_checkpointed = True
    try:
        yield
    finally:
        for generator in generators:
            generator.is_checkpointed = False


@dataclass(frozen=True)
class _Chunk:
    """Faces that are climbed together; `plan` is theirs alone."""

    restorer: Restorer
    codes: Codes
    features: Features
    score: Score
    plan: Plan
    search: Search

    def climb(self, report: Callable[[int, Best], bool]) -> Best:
        """`report(evaluations so far, best)` says whether to go on."""
        seen, objective = self._evaluate()
        best = Best.start(seen)
        try:
            self._stop(best, is_wanted=report(1, best))
            for step in range(self.plan.steps):
                if best.is_over:
                    break
                (-LOSS_SCALE * objective.sum()).backward()
                self.search.update()
                seen, objective = self._evaluate()
                best.add(seen)
                self._stop(best, is_wanted=report(step + 2, best))
        except KeyboardInterrupt:
            best.stop("interrupted")
        best.stop("steps")
        return best

    def _evaluate(self) -> tuple[Evaluation, Tensor]:
        """Decode and score the search's next proposal; the second is what is climbed, (B,), with its graph."""
        plan = self.plan
        proposal = self.search.propose()
        raw = self.restorer.generate(proposal.z_q, self.features, self.codes.quality, plan.fidelity, plan.adain)
        images = from_network(raw)
        scores = measure(self.score, images)
        if images.requires_grad and not scores.requires_grad:
            raise MetricError(
                f"{name_of(self.score)} has no gradient to climb. Use another one, or best-of-N (sample_codes)."
            )
        objective = scores - proposal.penalty
        if plan.consistency is not None:
            objective = objective - plan.consistency.penalty(images)
        return Evaluation(proposal.state, proposal.changed, images.detach(), scores.detach()), objective

    def _stop(self, best: Best, is_wanted: bool) -> None:
        if self.plan.target is not None:
            best.stop("target", (best.scores >= torch.as_tensor(self.plan.target).to(best.scores)).tolist())
        if self.plan.patience is not None:
            best.stop("patience", [since >= self.plan.patience for since in best.since])
        if not is_wanted:
            best.stop("interrupted")
