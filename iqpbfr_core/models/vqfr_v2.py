"""VQFR, second version (Gu et al. 2022, arXiv 2205.06803): codes from a linear layer per token, and a main branch that is
added to the texture by a fidelity: 0 = the texture alone, best quality, 1 = closest to the input. No AdaIN.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..config import RestorerConfig, Supports
from ..layers.attention import AttentionBlock
from ..layers.residual import Downsample, ResidualBlock, Upsample, group_norm
from ..layers.texture_warping import TextureWarping, shrink
from .codebook import Codebook, to_tokens
from .family import Family, SingleBook, Site, StateDict, count

INPUT_DIM = 32  # features of the input that guide the warping
TOKEN_SIDE = 16  # attention everywhere in this model means 16 x 16 tokens


def _residual_block(in_dim: int, dim: int, operations: Any) -> ResidualBlock:
    return ResidualBlock(in_dim, dim, operations, shortcut="residual_func")


def _level(in_dim: int, dim: int, depth: int, resample: Any, is_last: bool, operations: Any) -> nn.Sequential:
    """A change of resolution, where there is one, then residual blocks, each followed by attention at the tokens' level."""
    blocks: list[nn.Module] = [] if resample is None else [resample(in_dim, operations)]
    for number in range(depth):
        blocks.append(_residual_block(in_dim if number == 0 else dim, dim, operations))
        if is_last:
            blocks.append(AttentionBlock(dim, operations))
    return nn.Sequential(*blocks)


def _middle(dim: int, operations: Any) -> nn.Sequential:
    return nn.Sequential(
        _residual_block(dim, dim, operations), AttentionBlock(dim, operations), _residual_block(dim, dim, operations)
    )


def _norm_conv(dim: int, out_dim: int, operations: Any) -> nn.Sequential:
    return nn.Sequential(group_norm(dim, operations), nn.SiLU(), operations.Conv2d(dim, out_dim, 3, padding=1))


class _Encoder(nn.Module):
    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            _level(
                widths[max(0, i - 1)], width, config.encoder_depths[i], Downsample if i else None, i == last, operations
            )
            for i, width in enumerate(widths)
        )
        self.mid_blocks = _middle(widths[-1], operations)
        self.conv_out = _norm_conv(widths[-1], config.code_dim, operations)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.blocks:
            x = level(x)
        return self.conv_out(self.mid_blocks(x))


class _TextureDecoder(nn.Module):
    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = operations.Conv2d(config.code_dim, widths[-1], 3, padding=1)
        self.mid_blocks = _middle(widths[-1], operations)
        self.blocks = nn.ModuleList(
            _level(
                widths[min(last, i + 1)],
                widths[i],
                config.generator_depths[i],
                None if i == last else Upsample,
                i == last,
                operations,
            )
            for i in reversed(range(len(widths)))
        )
        self.conv_out = _norm_conv(widths[0], 3, operations)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of every level, from the tokens up."""
        x = self.mid_blocks(self.conv_in(x))
        maps = []
        for level in self.blocks:
            x = level(x)
            maps.append(x)
        return maps


class _MainBranch(nn.Module):
    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        widths = config.widths
        self.decoder_dict = nn.ModuleDict()
        self.pre_upsample_dict = nn.ModuleDict()
        self.align_func_dict = nn.ModuleDict()
        for i in reversed(range(len(widths))):
            name, width = f"Level_{2**i}", widths[i]
            previous = 0 if i == len(widths) - 1 else widths[i + 1]
            self.align_func_dict[name] = TextureWarping(width, INPUT_DIM, previous, operations)
            if previous:
                self.decoder_dict[name] = _residual_block(2 * width, width, operations)
                self.pre_upsample_dict[name] = nn.Sequential(
                    nn.UpsamplingNearest2d(scale_factor=2), operations.Conv2d(previous, width, 3, padding=1)
                )

    def forward(self, maps: list[Tensor], seen: Tensor) -> Tensor:
        x, guide = None, None
        for (name, warp), texture in zip(self.align_func_dict.items(), maps, strict=True):
            warped, guide = warp(texture, shrink(seen, texture.shape[-1]), guide)
            if x is None:
                x = warped
            else:
                x = self.decoder_dict[name](torch.cat([self.pre_upsample_dict[name](x), warped], dim=1))
        assert x is not None
        return x


class VQFRv2(SingleBook):
    """Images are (B, 3, R, R) in [-1, 1]."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config, operations)
        self.feat2index = nn.Sequential(
            operations.LayerNorm(config.code_dim), operations.Linear(config.code_dim, config.num_codes)
        )
        self.quantizer = Codebook(config.num_codes, config.code_dim, operations)
        self.decoder = _TextureDecoder(config, operations)
        self.main_branch = _MainBranch(config, operations)
        self.inpfeat_extraction = operations.Conv2d(3, INPUT_DIM, 3, padding=1)

    @property
    def codebook(self) -> Codebook:
        return self.quantizer

    @property
    def supports(self) -> Supports:
        return Supports(fidelity=True, default_fidelity=0.0)

    @property
    def sites(self) -> tuple[Site, ...]:
        """What the main branch makes of warped texture and of what is below it."""
        levels = zip(self.main_branch.decoder_dict, self.config.widths[-2::-1], strict=True)
        return tuple(Site(f"main_branch.decoder_dict.{name}", width) for name, width in levels)

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Skips: the images themselves, to which the texture is warped."""
        return self.encoder(images), {images.shape[-1]: images}

    def logits(self, z: Tensor, score: Tensor | None) -> Tensor:
        return self.feat2index(to_tokens(z))[..., None]

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        maps = self.decoder(z_q)
        x = maps[-1]
        if isinstance(fidelity, Tensor) or fidelity > 0:
            (images,) = skips.values()
            x = x + fidelity * self.main_branch(maps, self.inpfeat_extraction(images))
        return self.decoder.conv_out(x)


def _read_config(weights: StateDict) -> RestorerConfig:
    levels = range(count(weights, "encoder.blocks"))

    def blocks(prefix: str) -> list[str]:
        return [f"{prefix}.{n}" for n in range(count(weights, prefix)) if f"{prefix}.{n}.conv1.weight" in weights]

    num_codes, code_dim = weights["quantizer.embedding.weight"].shape
    return RestorerConfig(
        family="vqfr_v2",
        resolution=TOKEN_SIDE * 2 ** (len(levels) - 1),
        widths=tuple(len(weights[f"{blocks(f'encoder.blocks.{i}')[-1]}.conv1.weight"]) for i in levels),
        encoder_depths=tuple(len(blocks(f"encoder.blocks.{i}")) for i in levels),
        generator_depths=tuple(len(blocks(f"decoder.blocks.{i}")) for i in reversed(levels)),
        code_dim=code_dim,
        num_codes=num_codes,
        lookup_layers=0,
        fusion=(),
    )


FAMILY = Family(
    names=("vqfr_v2",),
    keys=("inpfeat_extraction.weight", "feat2index.1.weight", "quantizer.embedding.weight"),
    read_config=_read_config,
    build=VQFRv2,
)
