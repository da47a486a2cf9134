"""The code-prediction family: CodeFormer, IQPIR and our own models are configurations of this one network.

    z     = E(lq)                                  encoder
    l     = Transformer(z, score)                  lookup: logits per token and codebook
    z_q   = common[k_common] + alpha * hq[k_hq]    codes
    image = G(AdaIN(z_q, z)), fused with E's maps by the fidelity w

CodeFormer: Zhou et al. 2022, arXiv 2206.11253. Dual codebook and score: Hu et al. 2025, arXiv 2503.09294, and
Xiao et al. 2026, arXiv 2603.29773. Parameter names are those of the published checkpoints, so that weights load
without translation.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from ..config import RestorerConfig, Supports
from ..layers.adain import adain as adaptive_instance_norm
from ..layers.attention import TransformerLayer
from ..layers.conditioning import BinnedScores, ContinuousScore, score_bin
from ..layers.fusion import FidelityFusion
from ..layers.modulation import modulate, zero_linear
from ..layers.residual import channel_affine, group_norm
from .autoencoder import Encoder, Generator, Window, levels
from .codebook import Codebook, to_map, to_tokens
from .family import Family, Network, Site, StateDict, count, square_root, transformer_sites

HEAD_DIM = 64
# IQPIR's trained scores, (lowest, best) per table. Of the 10 bins of one score FFHQ fills 5 to 9, and its authors ask for
# .9. Models told several scores have 20 bins each; their authors ask for .66 of the first metric and .91 of the others.
_SCORES = (0.5, 0.9)
_FIRST_OF_SEVERAL, _NEXT_OF_SEVERAL = (0.0, 0.66), (0.0, 0.91)


class CodeRestorer(Network):
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
            if config.tells_features:
                self.feature_modulation = zero_linear(dim, 2 * config.code_dim, operations)

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
        self.fuse_convs_dict = nn.ModuleDict({str(side): self._fusion(side, operations) for side in config.fusion})

    def _fusion(self, side: int, operations: Any) -> FidelityFusion:
        is_local = side * 2**self.config.local_levels > self.config.resolution // self.config.head
        norm = channel_affine if is_local else group_norm
        is_picture = self.config.fuses_picture and side == self.config.resolution
        return FidelityFusion(self.generator.tap_widths[side], operations, norm, 3 if is_picture else None)

    @property
    def codebooks(self) -> tuple[Codebook, ...]:
        """In the order of the logits' and indices' last axis: (HQ+, common), or (common,)."""
        return (self.quantize_aesthetic, self.quantize) if self.config.num_hq_codes else (self.quantize,)

    @property
    def supports(self) -> Supports:
        """What these weights were trained for."""
        config, task = self.config, self._task
        defaults = {"inpaint": 1.0, "colorize": 0.0, "restore": 0.0 if config.family == "iqpir" else config.fidelity}
        # Modules of ours that are not trained yet are the identity; published ones are at their random start.
        is_fused = config.family == "iqpbfr" or all(fusion.is_trained for fusion in self.fuse_convs_dict.values())
        scores: tuple[tuple[float, float], ...] = ()
        quality = None
        if config.conditioning == "adaln":
            scores, quality = (config.score_range,), (0.0, 1.0)
        elif config.conditioning == "add":
            scores, quality = (_SCORES,), _SCORES
        elif config.conditioning == "add_multi":
            scores = (_FIRST_OF_SEVERAL, *[_NEXT_OF_SEVERAL] * (len(config.score_bins) - 1))
            quality = (0.0, 1.0)
        return Supports(
            task=task,
            quality=quality,
            scores=scores,
            fidelity=bool(config.fusion) and is_fused,
            default_fidelity=defaults[task] if is_fused else 0.0,
            adain=task != "inpaint",
        )

    @property
    def sites(self) -> tuple[Site, ...]:
        return transformer_sites(self.config)

    @property
    def _task(self) -> str:
        """Only CodeFormer's two special models leave out fusion at 256 px; inpainting has half the codes."""
        if self.config.family != "codeformer" or self.config.fusion != (32, 64, 128):
            return "restore"
        return "inpaint" if self.config.num_codes == 512 else "colorize"

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """(B, 3, R, R) -> features z (B, C, t, t) and skips {resolution: map}."""
        return self.encoder(images)

    def score(self, quality: Tensor) -> Tensor:
        """The scores that a wanted quality in [0, 1] stands for, within what was trained.

        "adaln": (B,), 0 to 1 is the whole of `score_range`. "add": (B,), the score itself, up to its best. "add_multi":
        (B, metrics); of a quality (B,), 1 is each metric's own best, and of (B, metrics), each is a score itself.
        """
        low, high = torch.tensor(self.supports.scores, device=quality.device).unbind(-1)
        if self.config.conditioning == "adaln":
            return low + quality * (high - low)
        if self.config.conditioning == "add":
            return quality.clamp(low, high)
        return (quality[:, None] * high if quality.ndim == 1 else quality).clamp(low, high)

    def condition(self, z: Tensor, score: Tensor | None, keep: Tensor | None = None) -> Tensor:
        """Tell the features (B, C, t, t) the score, so that they, and the statistics AdaIN takes from them, are those
        of the wanted face; models without a score return `z` unchanged.

        "add" adds a table's entry (IQPIR); `tells_features` scales and shifts the channels, also for the null condition.
        score: (B,), or (B, metrics) for "add_multi"; keep: as in `logits`.
        """
        if self.config.conditioning == "adaln" and self.config.tells_features:
            condition = nn.functional.silu(self.score_embed(score, len(z), z, keep))
            shift, scale = self.feature_modulation(condition)[..., None, None].chunk(2, dim=1)
            return modulate(z, shift, scale)
        if score is None or self.config.conditioning not in ("add", "add_multi"):
            return z
        tables: Any = [self.score_embed] if self.config.conditioning == "add" else self.score_embed
        scores = score.reshape(len(score), len(self.config.score_bins)).unbind(1)
        for table, bins, told in zip(tables, self.config.score_bins, scores, strict=True):
            index = score_bin(told, bins).to(z.device)
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
        self,
        z_q: Tensor,
        z: Tensor,
        skips: dict[int, Tensor],
        fidelity: Tensor | float = 0.0,
        adain: bool = True,
        window: Window | None = None,
    ) -> Tensor:
        """z_q (B, C, t, t) -> image (B, 3, R, R); `z` are the conditioned features AdaIN takes its statistics from.

        With a window, the part of the image that lies in it; see `Generator`.
        """
        if adain:
            z_q = adaptive_instance_norm(z_q, z)
        return self.generator(z_q, self.fuse_convs_dict, skips, fidelity, window)


def _read_config(weights: StateDict) -> RestorerConfig:
    _, encoder_depths = levels(weights, "encoder.blocks")
    encoder_depths[-1] -= 2  # the two residual blocks around the middle attention
    widths, generator_depths = levels(weights, "generator.blocks")
    generator_depths[0] -= 2
    last = count(weights, "generator.blocks") - 1
    head = square_root(len(weights[f"generator.blocks.{last}.weight"]) / 3)
    stem = square_root(weights["encoder.blocks.0.weight"].shape[1] / 3)
    num_tokens, lookup_dim = weights["position_emb"].shape
    resolution = square_root(num_tokens) * 2 ** (len(widths) - 1) * head
    conditioning, score_bins = _read_conditioning(weights)
    num_codes, code_dim = weights["quantize.embedding.weight"].shape
    hq = weights.get("quantize_aesthetic.embedding.weight")
    published = conditioning != "adaln" and stem == head == 1
    is_plain = hq is None and conditioning == "none"
    return RestorerConfig(
        family="iqpbfr" if not published else "codeformer" if is_plain else "iqpir",
        resolution=resolution,
        stem=stem,
        head=head,
        widths=tuple(reversed(widths)),
        encoder_depths=tuple(encoder_depths),
        generator_depths=tuple(reversed(generator_depths)),
        code_dim=code_dim,
        num_codes=num_codes,
        num_hq_codes=0 if hq is None else len(hq),
        conditioning=conditioning,
        score_bins=score_bins,
        lookup_dim=lookup_dim,
        lookup_layers=count(weights, "ft_layers"),
        lookup_mlp_dim=len(weights["ft_layers.0.linear1.weight"]),
        fusion=tuple(sorted({int(k.split(".")[1]) for k in weights if k.startswith("fuse_convs_dict.")})),
        # Not in the file: what each family was trained with.
        alpha=0.8 if published else 1.0,
        residual_hq=hq is None or not published,
        local_levels=_read_local_levels(weights),
        tells_features="feature_modulation.weight" in weights,
    )


def _read_local_levels(weights: StateDict) -> int:
    """Levels of the generator whose blocks scale and shift channels."""
    blocks = [f"generator.blocks.{index}" for index in range(count(weights, "generator.blocks"))]
    first = next((n for n, block in enumerate(blocks) if f"{block}.norm1.scale" in weights), None)
    return 0 if first is None else 1 + sum(f"{block}.conv.weight" in weights for block in blocks[first:])


def _read_conditioning(weights: StateDict) -> tuple[str, tuple[int, ...]]:
    if "score_embed.null" in weights:
        return "adaln", ()
    if "score_embed.weight" in weights:
        if "ft_layers.0.adaLN_modulation.1.weight" in weights:
            raise ValueError("IQPIR's 'adain' score mode (ft_layers.*.adaLN_modulation) is not supported")
        return "add", (len(weights["score_embed.weight"]),)
    tables = sorted(int(k.split(".")[1]) for k in weights if re.fullmatch(r"score_embed\.\d+\.weight", k))
    if tables:
        return "add_multi", tuple(len(weights[f"score_embed.{i}.weight"]) for i in tables)
    return "none", ()


FAMILY = Family(
    names=("codeformer", "iqpir", "iqpbfr"),
    keys=("encoder.blocks.0.weight", "idx_pred_layer.1.weight", "quantize.embedding.weight", "position_emb"),
    read_config=_read_config,
    build=CodeRestorer,
)
