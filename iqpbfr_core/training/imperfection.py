"""Imperfect ground truth, made explicitly: a share of the training targets carries mild, scored flaws.

Real photo collections are like that; a clean synthetic set is not. Without such targets no code would mean
"mediocre", and a low score would have nothing to ask for.
"""

import torch
from torch import Tensor

from ..degradation import apply
from .severity import KINDS, mixture

SHARE = 0.35


def imperfect(faces: Tensor, seeds: Tensor) -> Tensor:
    """Flaw a share of (B, 3, H, W) in [0, 1], seeded per image."""
    strengths = []
    for seed in seeds.tolist():
        generator = torch.Generator().manual_seed(seed + 1)
        u = torch.rand(9, generator=generator).tolist()
        kinds = [kind for i, kind in enumerate(KINDS) if u[1 + i] < 0.4]
        strengths.append({kind: 0.75 * u[5 + KINDS.index(kind)] for kind in kinds} if u[0] < SHARE else {})
    return apply(faces, [mixture(s, seed) for s, seed in zip(strengths, seeds.tolist(), strict=True)])
