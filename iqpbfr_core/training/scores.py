"""Scores of the training faces measured beforehand by any metric: what `iqpbfr score FACES --csv` prints.

So trained the authors of IQPIR: every photograph is its own target, and the score it has is what the model is told.
"""

import csv
import math
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from ..config import RestorerConfig
from ..errors import InputError, TrainingError
from ..quality import BUILTIN
from .shards import ShardedImage

RANGE = (0.02, 0.98)  # quantiles of the scores: what may be asked for


@dataclass(frozen=True)
class ScoreList:
    """Scores in [0, 1], 1 = best, of one metric, by the names of files without their folders."""

    source: Path
    metric: str
    scores: Mapping[str, float]

    def of(self, face: Path | ShardedImage) -> float:
        """The score of a picture; InputError if it has none."""
        try:
            return self.scores[PurePosixPath(face.name).name]
        except KeyError:
            raise InputError(f"{self.source} has no score for {face}: score all faces that are trained on.") from None

    def quantile(self, share: float) -> float:
        """The score below which this share of the list lies."""
        return float(np.quantile(list(self.scores.values()), share))

    @property
    def range(self) -> tuple[float, float]:
        """What may be asked for: quality 0 to 1."""
        low, high = (round(self.quantile(share), 4) for share in RANGE)
        return low, high

    def check(self, faces: Iterable[Path | ShardedImage]) -> None:
        """Raise InputError unless all of these pictures have a score."""
        for face in faces:
            self.of(face)

    def __str__(self) -> str:
        """The metric, and a checksum of all scores, which a run depends on by their quantiles."""
        return f"{self.metric} {zlib.crc32(repr(sorted(self.scores.items())).encode()):08x}"


def read_scores(path: str | os.PathLike[str]) -> ScoreList:
    """Read the columns file, metric and score of a CSV file.

    Raises:
        InputError: a column is missing, a score is no number in [0, 1], a name has two scores, there are several
            metrics, or all scores are the same.
    """
    source, scores = Path(path), {}
    try:
        with open(source, newline="", encoding="utf-8") as file:
            rows = [(row["file"] or "", row["metric"], row["score"]) for row in csv.DictReader(file)]
    except (OSError, csv.Error, KeyError, UnicodeDecodeError) as error:
        raise InputError(
            f"{source} cannot be read as a list of scores ({error!r}); `iqpbfr score FACES --csv > FILE` makes one."
        ) from error
    for number, (face, _, score) in enumerate(rows, start=2):
        name, value = PurePosixPath(face).name, _number(score)
        if not 0 <= value <= 1:  # NaN is neither
            raise InputError(f"{source}, line {number}: the score of {name} must lie in [0, 1], got {score}.")
        if scores.setdefault(name, value) != value:
            raise InputError(
                f"{source}, line {number}: {name} has two scores, {scores[name]} and {value}. "
                "Faces of several folders must have names of their own."
            )
    metrics = {metric or "" for _, metric, _ in rows}
    if len(metrics) != 1:
        raise InputError(f"{source} must hold scores of one metric, got {', '.join(sorted(metrics)) or 'no line'}.")
    listed = ScoreList(source, metrics.pop(), scores)
    low, high = listed.range
    if not low < high:
        raise InputError(f"{source} gives all faces the score {low}: there is nothing to tell by it.")
    return listed


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def told_by(config: RestorerConfig, scores: ScoreList) -> RestorerConfig:
    """The config of a new model that is told these scores; quality 0 to 1 means their range."""
    return replace(config, metric=scores.metric, score_range=scores.range)


def check_told(config: RestorerConfig, scores: ScoreList | None) -> None:
    """Raise TrainingError unless a model with this config is told such scores, or the built-in ones for None."""
    if config.conditioning != "adaln":
        if scores is not None:
            raise TrainingError("this model takes no continuous score: leave the list of scores out.")
    elif scores is None and config.metric != BUILTIN:
        raise TrainingError(
            f"this model is told scores of {config.metric or 'a metric of your choice'}: give a list of them (--scores)."
        )
    elif scores is not None and config.metric != scores.metric:
        raise TrainingError(
            f"{scores.source} holds scores of {scores.metric}, but this model is told those of {config.metric}."
        )
