"""How a score reaches the lookup."""

import math
from typing import Any

import torch
from torch import Tensor, nn

# Whole and half periods over [0, 1]: smooth enough to ask for a little more than was ever seen.
NUM_FREQUENCIES = 4


class ScoreEmbedding(nn.Module):
    """A score in [0, 1] to a vector: Fourier features, then an MLP."""

    def __init__(self, dim: int, operations: Any = nn) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            operations.Linear(1 + 2 * NUM_FREQUENCIES, dim), nn.SiLU(), operations.Linear(dim, dim)
        )

    def embed(self, score: Tensor, like: Tensor) -> Tensor:
        """score (B,) -> (B, dim), in the dtype and on the device of `like`."""
        s = score.to(device=like.device, dtype=torch.float32)[:, None]
        phase = s * (math.pi * torch.arange(1, NUM_FREQUENCIES + 1, device=like.device) / 2)
        return self.mlp(torch.cat([s, phase.sin(), phase.cos()], dim=1).to(like.dtype))


class ContinuousScore(ScoreEmbedding):
    """A score's embedding, or for `None` a learned null condition."""

    def __init__(self, dim: int, operations: Any = nn) -> None:
        super().__init__(dim, operations)
        self.null = nn.Parameter(torch.zeros(dim))

    def forward(self, score: Tensor | None, batch: int, like: Tensor, keep: Tensor | None = None) -> Tensor:
        """score (B,) -> (B, dim), in the dtype and on the device of `like`.

        `keep` (B,) in {0, 1} replaces the scores of some images by the null condition (training with score dropout).
        """
        null = self.null.to(like).expand(batch, -1)
        if score is None:
            return null
        embedded = self.embed(score, like)
        if keep is None:
            return embedded
        return torch.where(keep[:, None].bool(), embedded, null)


def score_bin(score: Tensor, num_bins: int) -> Tensor:
    """floor(num_bins * s) as the IQPIR code does, but with s = 1 in the last bin instead of out of range."""
    return (score.float() * num_bins).floor().long().clamp(0, num_bins - 1)


class BinnedScores(nn.ModuleList):
    """Scores of several metrics, each looked up in its own table of whole feature maps and added (IQPIR, several metrics)."""

    def __init__(self, bins: tuple[int, ...], feature_size: int, operations: Any = nn) -> None:
        super().__init__(operations.Embedding(n, feature_size) for n in bins)
