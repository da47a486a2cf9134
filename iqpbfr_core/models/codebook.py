"""Codebooks: continuous features to the nearest entry, indices to entries."""

from typing import Any

import torch
from torch import Tensor, nn


class Codebook(nn.Module):
    """`num_codes` vectors of `dim` numbers (VQ-VAE, van den Oord et al. 2017, arXiv 1711.00937)."""

    def __init__(self, num_codes: int, dim: int, operations: Any = nn) -> None:
        super().__init__()
        self.embedding = operations.Embedding(num_codes, dim)
        nn.init.uniform_(self.embedding.weight, -1 / num_codes, 1 / num_codes)

    def distances(self, z: Tensor) -> Tensor:
        """Squared distances of tokens (B, N, C) to every entry, (B, N, K), in float32 whatever the weights' dtype."""
        entries = self.embedding.weight.to(device=z.device, dtype=torch.float32)
        z = z.float()
        return z.pow(2).sum(-1, keepdim=True) - 2 * z @ entries.T + entries.pow(2).sum(1)

    def nearest(self, z: Tensor) -> Tensor:
        """Index of the nearest entry for tokens (B, N, C): (B, N)."""
        return self.distances(z).argmin(-1)

    def lookup(self, indices: Tensor, like: Tensor) -> Tensor:
        """Entries (..., C) for indices (...), in the dtype and on the device of `like`."""
        weight = self.embedding.weight.to(device=like.device)
        return torch.nn.functional.embedding(indices, weight).to(like.dtype)

    def mix(self, weights: Tensor) -> Tensor:
        """Weighted sums of entries: (..., K) -> (..., C). One-hot weights give exact entries with a gradient."""
        return weights @ self.embedding.weight.to(weights)


def to_tokens(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return features.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, side: int) -> Tensor:
    """(B, side * side, C) -> (B, C, side, side)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
