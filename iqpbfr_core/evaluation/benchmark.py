"""Degrade faces, restore them, measure all three: the numbers behind every claim in the README."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..degradation import degrade
from ..quality import Metric
from ..restorer import Restorer
from ..training.data import read_faces
from .measures import psnr, raw_scores, ssim

KINDS = ("lq", "restored", "gt")


@dataclass(frozen=True)
class Result:
    """Scores {(kind, measure): one value per face} and the first faces as pictures."""

    scores: dict[tuple[str, str], np.ndarray]
    grid: Tensor  # (3, H, W): columns are faces, rows LQ, restored, GT

    def mean(self, kind: str, measure: str) -> float:
        return float(np.nanmean(self.scores[kind, measure]))


@torch.inference_mode()
def evaluate_restorer(
    restorer: Restorer,
    files: list[Path],
    metrics: dict[str, Metric],
    preset: str = "full",
    seed: int = 0,
    quality: float | None = 1.0,
    fidelity: float | None = None,
    adain: bool | None = None,
    batch_size: int = 8,
    num_shown: int = 16,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Result:
    """Measure `restorer` on `files`, each degraded with its own seed (seed, seed + 1, ...)."""
    scores: dict[tuple[str, str], list[float]] = {}
    columns = []
    for start in progress(range(0, len(files), batch_size)):
        gt = read_faces(files[start : start + batch_size], restorer.config.resolution)
        lq = degrade(gt, preset, seed + start)
        restored = restorer.restore(lq, quality, fidelity, adain=adain).cpu()
        for kind, images in zip(KINDS, (lq, restored, gt), strict=True):
            if kind != "gt":
                for name, measure in (("psnr", psnr), ("ssim", ssim)):
                    scores.setdefault((kind, name), []).extend(measure(i, r) for i, r in zip(images, gt, strict=True))
            for name, metric in metrics.items():
                scores.setdefault((kind, name), []).extend(raw_scores(metric, images))
        columns += [torch.cat(faces, 1) for faces in zip(lq, restored, gt, strict=True)]
    shown = columns[:num_shown]
    half = max(1, (len(shown) + 1) // 2)
    rows = [torch.cat(shown[:half], 2)]
    if len(shown) == 2 * half:
        rows.append(torch.cat(shown[half:], 2))
    return Result({key: np.asarray(values) for key, values in scores.items()}, torch.cat(rows, 1))
