"""What all claims are judged on: the same held-out faces, degraded once, the same metrics, the same seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...adapters import ScoreAdapter
from ...degradation import degrade
from ...errors import MetricError
from ...quality import Metric
from ...restorer import Restorer
from ...training.data import read_faces
from ...training.flaws import imperfect
from ..landmarks import LandmarkJudge
from ..likeness import FeatureJudge, IdentityJudge

BATCH = 8
_LOWER_BETTER = ("distance", "error", "energy")  # words in the names of measures

Tell = Callable[[str, int, int], None]  # called with what is being done, how much of it is, and of how much


def _quiet(_what: str, _done: int, _total: int) -> None:
    """For those who do not want to be told."""


@dataclass(frozen=True)
class Scene:
    """Attributes:
    restorer: the model on trial.
    objective: name of the metric that may be used by it: to condition or to optimise.
    metrics: name -> metric, the objective among them; the others only judge.
    gt: (B, 3, R, R) clean faces; ground: the same with explicit flaws on a share of them, as in training.
    lq: the clean faces, degraded.
    landmarks, identity, likeness: judges of shape, of the person, and of looks, where their weights were given.
    adapter: a score adapter of the model on trial, for R5.
    rivals: models trained as the one on trial was, for R3.
    tell: told how far the work is.
    """

    restorer: Restorer
    objective: str
    metrics: dict[str, Metric]
    gt: Tensor
    ground: Tensor
    lq: Tensor
    seed: int
    landmarks: LandmarkJudge | None = None
    identity: IdentityJudge | None = None
    likeness: FeatureJudge | None = None
    adapter: ScoreAdapter | None = None
    rivals: tuple[Restorer, ...] = ()
    tell: Tell = _quiet

    @property
    def judges(self) -> list[str]:
        """Metrics that are never used to make an image."""
        return [name for name in self.metrics if name != self.objective]

    def chunks(self) -> list[slice]:
        return [slice(first, first + BATCH) for first in range(0, len(self.lq), BATCH)]

    def _batches(self, images: Tensor, what: str) -> Iterator[Tensor]:
        done = 0
        for batch in images.split(BATCH):
            self.tell(what, done, len(images))
            yield batch
            done += len(batch)

    @torch.no_grad()
    def restore(self, quality: float | None) -> Tensor:
        """All faces at one quality, from the codes alone (fidelity 0)."""
        asked = "without a score" if quality is None else f"at quality {quality:.2g}"
        batches = self._batches(self.lq, f"restoring {asked}")
        return torch.cat([self.restorer.restore(faces, quality, fidelity=0.0).cpu() for faces in batches])

    @torch.no_grad()
    def at_defaults(self, lq: Tensor) -> Tensor:
        """Degraded faces as the model restores them when nothing is asked for."""
        return torch.cat([self.restorer.restore(faces).cpu() for faces in self._batches(lq, "restoring")])

    @torch.no_grad()
    def score(self, name: str, images: Tensor) -> np.ndarray:
        """(B,) in [0, 1], 1 = best; a face that the metric cannot score is NaN."""
        return np.concatenate([_scores(self.metrics[name], part) for part in self._batches(images, f"scoring: {name}")])


def gain(name: str, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """By how much a measure is better, one value per face; that of a distance, an error or energy where it is smaller."""
    return theirs - ours if any(word in name for word in _LOWER_BETTER) else ours - theirs


def _scores(metric: Metric, images: Tensor) -> np.ndarray:
    """One value per face. Where a metric fails for the whole batch, each face is tried alone."""
    try:
        return metric(images).cpu().numpy()
    except MetricError:
        if len(images) == 1:
            return np.array([np.nan])
        return np.concatenate([_scores(metric, image) for image in images.split(1)])


@dataclass(frozen=True)
class Finding:
    """What became of a claim.

    Attributes:
        claim: its name, statement: what it says, holds: whether it does here.
        table: rows of text, the first one the heading.
        values: column -> one number per face, for whoever wants to check.
        pictures: file name -> (3, H, W).
        notes: what a reader must know to judge it.
    """

    claim: str
    statement: str
    holds: bool
    table: list[list[str]]
    values: dict[str, np.ndarray]
    pictures: dict[str, Tensor] = field(default_factory=dict)
    notes: str = ""


def prepare(
    restorer: Restorer,
    files: list[Path],
    metrics: dict[str, Metric],
    objective: str,
    seed: int,
    landmarks: LandmarkJudge | None = None,
    identity: IdentityJudge | None = None,
    likeness: FeatureJudge | None = None,
    adapter: ScoreAdapter | None = None,
    rivals: tuple[Restorer, ...] = (),
    tell: Tell = _quiet,
) -> Scene:
    """Read the faces, degrade them (`full`) and flaw a share of the ground truth; equal seeds, equal scenes."""
    gt = read_faces(files, restorer.config.resolution)
    ground = torch.stack([imperfect(face, seed + i) for i, face in enumerate(gt)])
    lq = degrade(gt, "full", seed)
    return Scene(
        restorer, objective, metrics, gt, ground, lq, seed, landmarks, identity, likeness, adapter, rivals, tell
    )
