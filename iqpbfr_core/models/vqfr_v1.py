"""VQFR, first version (Gu et al. 2022, arXiv 2205.06803): the nearest code, a texture decoder, and a main decoder that warps
the texture to the input's shapes. No fidelity knob and no AdaIN.

Levels are named by how many times smaller than the image they are: Level_1, 2, 4, 8, 16, 32.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..config import RestorerConfig
from ..layers.residual import ResidualBlock, group_norm
from ..layers.texture_warping import TextureWarping, shrink
from .codebook import Codebook
from .family import Family, SingleBook, Site, StateDict, count

INPUT_DIM = 32  # features of the input that guide the warping
TOKEN_SIDE = 16  # fully convolutional; this is what it was trained at


def _names(config: RestorerConfig) -> list[str]:
    return [f"Level_{2**level}" for level in range(len(config.widths))]


class _Resize(nn.Module):
    """Halve (bilinear, then convolve) or double (convolve, then bilinear) the resolution."""

    def __init__(self, in_dim: int, dim: int, operations: Any, up: bool = False) -> None:
        super().__init__()
        self.conv = operations.Conv2d(in_dim, dim, 3, padding=1)
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[-1]
        return shrink(self.conv(x), 2 * side) if self.up else self.conv(shrink(x, side // 2))


def _blocks(dim: int, depth: int, operations: Any) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(dim, dim, operations) for _ in range(depth)))


def _norm_conv(dim: int, out_dim: int, operations: Any) -> nn.Sequential:
    return nn.Sequential(group_norm(dim, operations), nn.SiLU(), operations.Conv2d(dim, out_dim, 3, padding=1))


class _Encoder(nn.Module):
    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        names, widths = _names(config), config.widths
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1)
        self.pre_downsample_dict = nn.ModuleDict(
            {names[i]: _Resize(widths[i - 1], widths[i], operations) for i in range(1, len(widths))}
        )
        self.encoder_dict = nn.ModuleDict(
            {n: _blocks(w, d, operations) for n, w, d in zip(names, widths, config.encoder_depths, strict=True)}
        )
        self.enc_convout_dict = nn.ModuleDict({names[-1]: _norm_conv(widths[-1], widths[-1], operations)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for name, blocks in self.encoder_dict.items():
            if name in self.pre_downsample_dict:
                x = self.pre_downsample_dict[name](x)
            x = blocks(x)
        (out,) = self.enc_convout_dict.values()
        return out(x)


class _TextureDecoder(nn.Module):
    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        names, widths = _names(config), config.widths
        self.decoder_dict = nn.ModuleDict()
        self.pre_upsample_dict = nn.ModuleDict()
        for i in reversed(range(len(widths))):
            self.decoder_dict[names[i]] = _blocks(widths[i], config.generator_depths[i], operations)
            if i < len(widths) - 1:
                self.pre_upsample_dict[names[i]] = _Resize(widths[i + 1], widths[i], operations, up=True)
        self.conv_out = _norm_conv(widths[0], 3, operations)  # draws the texture alone, which is no result

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The maps of every level."""
        maps = {}
        for name, blocks in self.decoder_dict.items():
            if name in self.pre_upsample_dict:
                x = self.pre_upsample_dict[name](x)
            x = blocks(x)
            maps[name] = x
        return maps


class _Warping(TextureWarping):
    """Texture warping with a convolution after the input's features are made smaller."""

    def __init__(self, dim: int, previous_dim: int, is_smaller: bool, operations: Any) -> None:
        super().__init__(dim, INPUT_DIM, previous_dim, operations)
        self.downsample = nn.Module()
        if is_smaller:
            self.downsample.conv = operations.Conv2d(INPUT_DIM, INPUT_DIM, 3, padding=1)

    def forward(self, texture: Tensor, seen: Tensor, previous: Tensor | None) -> tuple[Tensor, Tensor]:
        if hasattr(self.downsample, "conv"):
            seen = self.downsample.conv(shrink(seen, texture.shape[-1]))  # type: ignore[operator]
        return super().forward(texture, seen, previous)


class _MainDecoder(nn.Module):
    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        names, widths = _names(config), config.widths
        self.decoder_dict = nn.ModuleDict()
        self.pre_upsample_dict = nn.ModuleDict()
        self.align_func_dict = nn.ModuleDict()
        for i in reversed(range(len(widths))):
            is_coarsest = i == len(widths) - 1
            previous = 0 if is_coarsest else widths[i + 1]
            self.align_func_dict[names[i]] = _Warping(widths[i], previous, i > 0, operations)
            if not is_coarsest:
                self.decoder_dict[names[i]] = ResidualBlock(2 * widths[i], widths[i], operations, "shortcut_conv")
                self.pre_upsample_dict[names[i]] = _Resize(previous, widths[i], operations, up=True)
        self.conv_out_1 = nn.Sequential(group_norm(widths[0], operations), nn.SiLU())
        self.conv_out = nn.Sequential(operations.Conv2d(widths[0] + 3, 3, 3, padding=1))

    def forward(self, maps: dict[str, Tensor], seen: Tensor, images: Tensor) -> Tensor:
        x, guide = None, None
        for name, warp in self.align_func_dict.items():
            warped, guide = warp(maps[name], seen, guide)
            if x is None:
                x = warped
            else:
                x = self.decoder_dict[name](torch.cat([self.pre_upsample_dict[name](x), warped], dim=1))
        return self.conv_out(torch.cat([self.conv_out_1(x), images], dim=1))


class _Quantiser(Codebook):
    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__(config.num_codes, config.code_dim, operations)
        self.quant_conv = operations.Conv2d(config.widths[-1], config.code_dim, 1)
        self.post_quant_conv = operations.Conv2d(config.code_dim, config.widths[-1], 1)


class VQFRv1(SingleBook):
    """Images are (B, 3, R, R) in [-1, 1]."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        self.inpfeat_extraction = nn.Module()
        self.inpfeat_extraction.conv = operations.Conv2d(3, INPUT_DIM, 3, padding=1)
        self.encoder = _Encoder(config, operations)
        self.decoder = _TextureDecoder(config, operations)
        self.main_decoder = _MainDecoder(config, operations)
        self.quantizer = nn.Module()
        self.quantizer.quantize_dict = nn.ModuleDict({_names(config)[-1]: _Quantiser(config, operations)})

    @property
    def codebook(self) -> _Quantiser:
        (quantiser,) = self.quantizer.quantize_dict.values()  # type: ignore[operator, union-attr]
        return quantiser  # type: ignore[return-value]

    @property
    def sites(self) -> tuple[Site, ...]:
        """What the main decoder makes of warped texture and of what is below it."""
        levels = zip(self.main_decoder.decoder_dict, self.config.widths[-2::-1], strict=True)
        return tuple(Site(f"main_decoder.decoder_dict.{name}", width) for name, width in levels)

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Skips: the images themselves, to which the texture is warped."""
        return self.codebook.quant_conv(self.encoder(images)), {images.shape[-1]: images}

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        (images,) = skips.values()
        maps = self.decoder(self.codebook.post_quant_conv(z_q))
        return self.main_decoder(maps, self.inpfeat_extraction.conv(images), images)  # type: ignore[operator]


def _read_config(weights: StateDict) -> RestorerConfig:
    names = [n for n in (f"Level_{2**i}" for i in range(16)) if f"encoder.encoder_dict.{n}.0.conv1.weight" in weights]
    quantiser = f"quantizer.quantize_dict.{names[-1]}"
    num_codes, code_dim = weights[f"{quantiser}.embedding.weight"].shape
    return RestorerConfig(
        family="vqfr_v1",
        resolution=TOKEN_SIDE * 2 ** (len(names) - 1),
        widths=tuple(len(weights[f"encoder.encoder_dict.{n}.0.conv1.weight"]) for n in names),
        encoder_depths=tuple(count(weights, f"encoder.encoder_dict.{n}") for n in names),
        generator_depths=tuple(count(weights, f"decoder.decoder_dict.{n}") for n in names),
        code_dim=code_dim,
        num_codes=num_codes,
        lookup_layers=0,
        fusion=(),
    )


FAMILY = Family(
    names=("vqfr_v1",),
    keys=(
        "inpfeat_extraction.conv.weight",
        "encoder.encoder_dict.Level_1.0.conv1.weight",
        "main_decoder.conv_out.0.weight",
    ),
    read_config=_read_config,
    build=VQFRv1,
)
