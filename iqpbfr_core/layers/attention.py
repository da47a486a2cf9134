"""Attention: over feature maps (VQGAN, RestoreFormer) and over tokens (CodeFormer's Transformer)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .modulation import modulate, zero_linear
from .residual import group_norm


def _map_attention(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """Attend over the pixels of (B, C, H, W)."""
    shape = q.shape

    def tokens(x: Tensor) -> Tensor:  # (B, heads, H*W, C / heads)
        return x.reshape(shape[0], num_heads, shape[1] // num_heads, -1).transpose(2, 3)

    attended = F.scaled_dot_product_attention(tokens(q), tokens(k), tokens(v))
    return attended.transpose(2, 3).reshape(shape)


class AttentionBlock(nn.Module):
    """Single-head self-attention over a feature map, residual (VQGAN)."""

    def __init__(self, dim: int, operations: Any = nn) -> None:
        super().__init__()
        self.norm = group_norm(dim, operations)
        self.q = operations.Conv2d(dim, dim, 1)
        self.k = operations.Conv2d(dim, dim, 1)
        self.v = operations.Conv2d(dim, dim, 1)
        self.proj_out = operations.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.proj_out(_map_attention(self.q(h), self.k(h), self.v(h), num_heads=1))


class CrossAttentionBlock(nn.Module):
    """Multi-head attention whose queries come from another map (RestoreFormer, Wang et al. 2022, arXiv 2201.06374).

    Without a context it is self-attention. Queries come from the context and keys and values from `x`, as in the
    released weights.
    """

    def __init__(self, dim: int, num_heads: int, operations: Any = nn) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = group_norm(dim, operations)
        self.norm2 = group_norm(dim, operations)
        self.q = operations.Conv2d(dim, dim, 1)
        self.k = operations.Conv2d(dim, dim, 1)
        self.v = operations.Conv2d(dim, dim, 1)
        self.proj_out = operations.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.norm1(x)
        query = h if context is None else self.norm2(context)
        return x + self.proj_out(_map_attention(self.q(query), self.k(h), self.v(h), self.num_heads))


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens with the parameter names of `nn.MultiheadAttention`.

    Position goes into queries and keys, not into values (DETR, Carion et al. 2020).
    """

    def __init__(self, dim: int, num_heads: int, operations: Any = nn) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = operations.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """x, position: (B, N, C) -> (B, N, C)."""
        batch, tokens, dim = x.shape
        weight, bias = self.in_proj_weight.to(x), self.in_proj_bias.to(x)
        qk = F.linear(x + position, weight[: 2 * dim], bias[: 2 * dim])
        v = F.linear(x, weight[2 * dim :], bias[2 * dim :])
        q, k, v = (t.reshape(batch, tokens, self.num_heads, -1).transpose(1, 2) for t in (*qk.chunk(2, dim=-1), v))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim))


class TransformerLayer(nn.Module):
    """Pre-norm Transformer layer of CodeFormer, optionally modulated by a score (AdaLN-Zero).

    With `condition_dim`, the score's embedding shifts, scales and gates both halves (Peebles & Xie 2023,
    arXiv 2212.09748, fig. 3); the modulation starts at zero, so a new layer is the identity.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_dim: int, condition_dim: int | None = None, operations: Any = nn
    ) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, num_heads, operations)
        self.linear1 = operations.Linear(dim, mlp_dim)
        self.linear2 = operations.Linear(mlp_dim, dim)
        self.norm1 = operations.LayerNorm(dim)
        self.norm2 = operations.LayerNorm(dim)
        self.modulation = None if condition_dim is None else zero_linear(condition_dim, 6 * dim, operations)

    def forward(self, x: Tensor, position: Tensor, condition: Tensor | None = None) -> Tensor:
        """x: (B, N, C), position: (B, N, C), condition: (B, condition_dim) -> (B, N, C)."""
        if self.modulation is None or condition is None:
            x = x + self.self_attn(self.norm1(x), position)
            return x + self._mlp(self.norm2(x))
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition))[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.self_attn(modulate(self.norm1(x), shift1, scale1), position)
        return x + gate2 * self._mlp(modulate(self.norm2(x), shift2, scale2))

    def _mlp(self, x: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(x)))
