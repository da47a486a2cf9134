"""The best of every face, and how it came about."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .result import Result, StopReason, Trace


@dataclass(frozen=True)
class Evaluation:
    """Faces that were decoded and scored, without gradients.

    Attributes:
        state: (B, ...) what they were decoded from.
        changed: (B,) share of tokens that differ from the start.
        images: (B, 3, R, R) in [0, 1].
        scores: (B,).
    """

    state: Tensor
    changed: Tensor
    images: Tensor
    scores: Tensor


@dataclass
class Best:
    """Of a batch of faces: best state, its image and score. Once a face has a stop reason, nothing changes it."""

    state: Tensor
    images: Tensor
    scores: Tensor
    start_scores: Tensor
    stop_reasons: list[StopReason | None]
    since: list[int]  # evaluations since the last gain
    trace_scores: list[Tensor] = field(default_factory=list)
    trace_changed: list[Tensor] = field(default_factory=list)

    @classmethod
    def start(cls, first: Evaluation) -> "Best":
        """`first` is what no later evaluation may fall below."""
        count = len(first.scores)
        best = cls(first.state.clone(), first.images.clone(), first.scores, first.scores, [None] * count, [0] * count)
        best._note(first)
        return best

    @property
    def is_over(self) -> bool:
        return None not in self.stop_reasons

    def add(self, seen: Evaluation) -> None:
        """Another evaluation of the same faces."""
        self._note(seen)
        is_active = torch.tensor([reason is None for reason in self.stop_reasons], device=seen.scores.device)
        is_gain = is_active & (seen.scores > self.scores)
        self.scores = torch.where(is_gain, seen.scores, self.scores)
        self.state[is_gain] = seen.state[is_gain]
        self.images[is_gain] = seen.images[is_gain]
        self.since = [0 if gain else n + 1 for gain, n in zip(is_gain.tolist(), self.since, strict=True)]

    def stop(self, reason: StopReason, where: list[bool] | None = None) -> None:
        """Stop the faces `where` says so (default: all) that have not stopped before."""
        where = where or [True] * len(self.stop_reasons)
        self.stop_reasons = [
            old or (reason if hit else None) for old, hit in zip(self.stop_reasons, where, strict=True)
        ]

    def _note(self, seen: Evaluation) -> None:
        has_stopped = torch.tensor([reason is not None for reason in self.stop_reasons])
        self.trace_scores.append(seen.scores.cpu().masked_fill(has_stopped, torch.nan))
        self.trace_changed.append(seen.changed.cpu().masked_fill(has_stopped, torch.nan))


def merge(chunks: Sequence[Best]) -> Result:
    """The chunks of a batch as one result; traces of different length are filled up with NaN."""
    longest = max(len(best.trace_scores) for best in chunks)

    def rows(values: list[Tensor]) -> Tensor:
        return F.pad(torch.stack(values), (0, 0, 0, longest - len(values)), value=torch.nan)

    return Result(
        images=torch.cat([best.images for best in chunks]),
        scores=torch.cat([best.scores for best in chunks]),
        start_scores=torch.cat([best.start_scores for best in chunks]),
        trace=Trace(
            torch.cat([rows(best.trace_scores) for best in chunks], 1),
            torch.cat([rows(best.trace_changed) for best in chunks], 1),
        ),
        stop_reasons=tuple(reason or "steps" for best in chunks for reason in best.stop_reasons),
    )
