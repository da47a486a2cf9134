"""What an optimisation hands back, and what it tells on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..restorer import Codes

StopReason = Literal["steps", "patience", "target", "interrupted"]


@dataclass(frozen=True)
class Trace:
    """What every evaluation gave; row 0 is the start. NaN where a face had already stopped.

    Attributes:
        scores: (S, B) scores of the decoded faces.
        changed: (S, B) share of tokens, in [0, 1], whose codes differ from the start.
    """

    scores: Tensor
    changed: Tensor


@dataclass(frozen=True)
class Result:
    """The best that was seen of every face.

    Attributes:
        images: (B, 3, R, R) in [0, 1], float32.
        scores: (B,) their scores, never below `start_scores`.
        start_scores: (B,) scores of the faces the optimisation started from.
        trace: see Trace.
        stop_reasons: per face; "steps": all were made, "patience": no gain for that many, "target": reached,
            "interrupted": stopped from outside.
    """

    images: Tensor
    scores: Tensor
    start_scores: Tensor
    trace: Trace
    stop_reasons: tuple[StopReason, ...]


@dataclass(frozen=True)
class OptimizationResult(Result):
    """A result made of real codes: `restorer.decode(codes, features, fidelity, adain)` gives `images` again."""

    codes: Codes


@dataclass(frozen=True)
class LatentResult(Result):
    """A result of free features `z_q` (B, C, t, t), which in general no codes stand for."""

    z_q: Tensor


@dataclass(frozen=True)
class Progress:
    """The state after one evaluation.

    Attributes:
        done, total: evaluations so far and at most, over all chunks.
        faces: which faces of the batch are being worked on.
        scores: (b,) best scores of these faces so far.
        images: (b, 3, R, R) the faces that have them.
    """

    done: int
    total: int
    faces: slice
    scores: Tensor
    images: Tensor


# Called after every evaluation. Returning False stops and keeps the best of every face, as KeyboardInterrupt does;
# any other exception it raises is passed on.
Callback = Callable[[Progress], bool | None]
