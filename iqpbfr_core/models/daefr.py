"""DAEFR, dual associated encoder (Tsai et al. 2023, arXiv 2308.07314).

Two encoders see the degraded face, one trained on degraded and one on good faces; what they see is fused by attention,
and CodeFormer's Transformer predicts the codes. There is no fidelity knob and no AdaIN. The files carry the good faces'
autoencoder (`Fixed_*`), which training associated the others with, and codebooks that inference does not need.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..config import RestorerConfig
from ..layers.attention import CrossAttentionBlock, TransformerLayer
from .code_restorer import HEAD_DIM
from .codebook import Codebook, to_tokens
from .family import Family, SingleBook, Site, StateDict, count, transformer_sites
from .vqgan import Decoder, Encoder, dims

FUSION_HEADS = 8  # of the attention between the encoders; not in the file


class _Autoencoders(nn.Module):
    """Everything the files keep below `vqvae.`."""

    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        dim = config.code_dim
        for name, prefix in (("", ""), ("HQ", "HQ_"), ("Fixed", "Fixed_")):
            self.add_module(f"{prefix}encoder", Encoder(config, operations))
            self.add_module(f"{prefix}quant_conv", operations.Conv2d(dim, dim, 1))
            self.add_module(f"{name or 'LQ'}_quantize", Codebook(config.num_codes, dim, operations))
        self.post_quant_conv = operations.Conv2d(dim, dim, 1)
        self.decoder = Decoder(config, operations)


class DAEFR(SingleBook):
    """Images are (B, 3, R, R) in [-1, 1]."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        dim = config.lookup_dim
        self.vqvae: Any = _Autoencoders(config, operations)
        self.cross_attention = CrossAttentionBlock(config.code_dim, FUSION_HEADS, operations)
        self.position_emb = nn.Parameter(torch.zeros(config.num_tokens, dim))
        self.feat_emb = operations.Linear(config.code_dim, dim)
        self.ft_layers = nn.ModuleList(
            TransformerLayer(dim, dim // HEAD_DIM, config.lookup_mlp_dim, operations=operations)
            for _ in range(config.lookup_layers)
        )
        self.idx_pred_layer = nn.Sequential(
            operations.LayerNorm(dim), operations.Linear(dim, config.num_codes, bias=False)
        )

    @property
    def codebook(self) -> Codebook:
        return self.vqvae.Fixed_quantize

    @property
    def sites(self) -> tuple[Site, ...]:
        return transformer_sites(self.config)

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        degraded = self.vqvae.quant_conv(self.vqvae.encoder(images)[0])
        good = self.vqvae.HQ_quant_conv(self.vqvae.HQ_encoder(images)[0])
        return self.cross_attention(good, degraded), {}

    def good_codes(self, images: Tensor) -> Tensor:
        """Codes (B, N) of faces that need no restoring, by the autoencoder which the encoders were associated with."""
        z, _ = self.vqvae.Fixed_encoder(images)
        return self.codebook.nearest(to_tokens(self.vqvae.Fixed_quant_conv(z)))

    def logits(self, z: Tensor, score: Tensor | None) -> Tensor:
        position = self.position_emb.to(z).expand(len(z), -1, -1)
        x = self.feat_emb(to_tokens(z))
        for layer in self.ft_layers:
            x = layer(x, position)
        return self.idx_pred_layer(x)[..., None]

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        return self.vqvae.decoder(self.vqvae.post_quant_conv(z_q), skips)


def _read_config(weights: StateDict) -> RestorerConfig:
    widths, encoder_depths = dims(weights, "vqvae.encoder.down")
    _, generator_depths = dims(weights, "vqvae.decoder.up")
    num_codes, code_dim = weights["vqvae.Fixed_quantize.embedding.weight"].shape
    num_tokens, lookup_dim = weights["position_emb"].shape
    return RestorerConfig(
        family="daefr",
        resolution=round(num_tokens**0.5) * 2 ** (len(widths) - 1),
        widths=widths,
        encoder_depths=encoder_depths,
        generator_depths=generator_depths,
        code_dim=code_dim,
        num_codes=num_codes,
        lookup_dim=lookup_dim,
        lookup_layers=count(weights, "ft_layers"),
        lookup_mlp_dim=len(weights["ft_layers.0.linear1.weight"]),
        fusion=(),
    )


FAMILY = Family(
    names=("daefr",),
    keys=("vqvae.HQ_encoder.conv_in.weight", "vqvae.Fixed_quantize.embedding.weight", "cross_attention.q.weight"),
    read_config=_read_config,
    build=DAEFR,
)
