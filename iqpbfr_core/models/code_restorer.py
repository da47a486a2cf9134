"""The code-prediction family: CodeFormer, IQPIR and our own models are configurations of this one network.

    z     = E(lq)                                  encoder
    l     = Transformer(z, score)                  lookup: logits per token and codebook
    z_q   = common[k_common] + alpha * hq[k_hq]    codes
    image = G(AdaIN(z_q, z)), fused with E's maps by the fidelity w

CodeFormer: Zhou et al. 2022, arXiv 2206.11253. Dual codebook and score: Hu et al. 2025, arXiv 2503.09294, and
Xiao et al. 2026, arXiv 2603.29773. Parameter names are those of the published checkpoints, so that weights load
without translation.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..config import RestorerConfig
from ..layers.adain import adain as adaptive_instance_norm
from ..layers.attention import TransformerLayer
from ..layers.conditioning import BinnedScores, ContinuousScore, score_bin
from ..layers.fusion import FidelityFusion
from .autoencoder import Encoder, Generator
from .codebook import Codebook, to_map, to_tokens

HEAD_DIM = 64


class CodeRestorer(nn.Module):
    """Encoder, codebooks, lookup and generator. Images are (B, 3, R, R) in [-1, 1]."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        dim = config.lookup_dim
        self.encoder = Encoder(config, operations)
        self.generator = Generator(config, operations)
        self.quantize = Codebook(config.num_codes, config.code_dim, operations)
        if config.num_hq_codes:
            self.quantize_aesthetic = Codebook(config.num_hq_codes, config.code_dim, operations)

        feature_size = config.num_tokens * config.code_dim
        if config.conditioning == "add":
            self.score_embed = operations.Embedding(config.score_bins[0], feature_size)
        elif config.conditioning == "add_multi":
            self.score_embed = BinnedScores(config.score_bins, feature_size, operations)
        elif config.conditioning == "adaln":
            self.score_embed = ContinuousScore(dim, operations)

        self.position_emb = nn.Parameter(torch.zeros(config.num_tokens, dim))
        self.feat_emb = operations.Linear(config.code_dim, dim)
        condition_dim = dim if config.conditioning == "adaln" else None
        self.ft_layers = nn.ModuleList(
            TransformerLayer(dim, dim // HEAD_DIM, config.lookup_mlp_dim, condition_dim, operations)
            for _ in range(config.lookup_layers)
        )
        self.idx_pred_layer = nn.Sequential(
            operations.LayerNorm(dim), operations.Linear(dim, config.num_books * config.num_codes, bias=False)
        )
        self.fuse_convs_dict = nn.ModuleDict(
            {str(side): FidelityFusion(self.generator.tap_widths[side], operations) for side in config.fusion}
        )

    @property
    def codebooks(self) -> tuple[Codebook, ...]:
        """In the order of the logits' and indices' last axis: (HQ+, common), or (common,)."""
        return (self.quantize_aesthetic, self.quantize) if self.config.num_hq_codes else (self.quantize,)

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """(B, 3, R, R) -> features z (B, C, t, t) and skips {resolution: map}."""
        return self.encoder(images)

    def condition(self, z: Tensor, score: Tensor | None) -> Tensor:
        """Add the score to the features, for models that are told the score that way; others return `z` unchanged."""
        if score is None or self.config.conditioning not in ("add", "add_multi"):
            return z
        tables: Any = [self.score_embed] if self.config.conditioning == "add" else self.score_embed
        for table, bins in zip(tables, self.config.score_bins, strict=True):
            index = score_bin(score, bins).to(z.device)
            entry = nn.functional.embedding(index, table.weight.to(device=z.device)).to(z.dtype)
            z = z + entry.reshape(z.shape)
        return z

    def logits(self, z: Tensor, score: Tensor | None, keep: Tensor | None = None) -> Tensor:
        """Code logits (B, N, K, books) for features already passed through `condition`.

        Args:
            z: (B, C, t, t).
            score: (B,) in [0, 1]; None = null condition.
            keep: (B,) in {0, 1}, score dropout in training (only "adaln").
        """
        batch = len(z)
        condition = None
        if self.config.conditioning == "adaln":
            condition = self.score_embed(score, batch, z, keep)
        position = self.position_emb.to(z).expand(batch, -1, -1)
        x = self.feat_emb(to_tokens(z))
        for layer in self.ft_layers:
            x = layer(x, position, condition)
        return self.idx_pred_layer(x).unflatten(-1, (self.config.num_codes, self.config.num_books))

    def quantise(self, indices: Tensor, alpha: Tensor | float, like: Tensor) -> Tensor:
        """Indices (B, N, books) -> z_q (B, C, t, t), in the dtype of `like`. alpha: number or (B, 1, 1)."""
        return self._combine(
            [book.lookup(k, like) for book, k in zip(self.codebooks, indices.unbind(-1), strict=True)], alpha
        )

    def mix(self, weights: Tensor, alpha: Tensor | float) -> Tensor:
        """Weights over codes (B, N, K, books) -> z_q (B, C, t, t), differentiable; one-hot weights give `quantise`."""
        return self._combine([book.mix(w) for book, w in zip(self.codebooks, weights.unbind(-1), strict=True)], alpha)

    def _combine(self, entries: list[Tensor], alpha: Tensor | float) -> Tensor:
        tokens = entries[-1] if len(entries) == 1 else entries[1] + alpha * entries[0]
        return to_map(tokens, self.config.token_side)

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = True
    ) -> Tensor:
        """z_q (B, C, t, t) -> image (B, 3, R, R); `z` are the conditioned features AdaIN takes its statistics from."""
        if adain:
            z_q = adaptive_instance_norm(z_q, z)
        return self.generator(z_q, self.fuse_convs_dict, skips, fidelity)
