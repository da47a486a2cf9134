"""GFPGAN, the clean architecture of versions 1.2, 1.3 and 1.4 (Wang et al. 2021, arXiv 2101.04061).

A U-Net reads the face into a style per layer and maps that modulate a StyleGAN2 (Karras et al. 2020, arXiv 1912.04958).
There are no codes and there is no knob. The noise is the one stored in the file, so that a face always comes out the same
and a batch equals its singles; the authors' tool draws it anew.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import RestorerConfig, Supports
from .family import Family, Network, Site, StateDict, count

BASE_SIDE = 4  # of StyleGAN's constant input
SLOPE = 0.2


def _resize(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class _ResizingBlock(nn.Module):
    """Two convolutions with a change of resolution between them, and a shortcut (the U-Net's)."""

    def __init__(self, in_dim: int, dim: int, factor: float, operations: Any) -> None:
        super().__init__()
        self.conv1 = operations.Conv2d(in_dim, in_dim, 3, padding=1)
        self.conv2 = operations.Conv2d(in_dim, dim, 3, padding=1)
        self.skip = operations.Conv2d(in_dim, dim, 1, bias=False)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        h = _resize(F.leaky_relu(self.conv1(x), SLOPE), self.factor)
        return F.leaky_relu(self.conv2(h), SLOPE) + self.skip(_resize(x, self.factor))


class _ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style (Karras et al. 2020, eq. 1 and 3)."""

    def __init__(self, in_dim: int, dim: int, side: int, style_dim: int, operations: Any) -> None:
        super().__init__()
        self.modulation = operations.Linear(style_dim, in_dim)
        self.weight = nn.Parameter(torch.zeros(1, dim, in_dim, side, side))

    def forward(self, x: Tensor, style: Tensor, demodulate: bool) -> Tensor:
        """x (B, C, H, W), style (B, style_dim) -> (B, dim, H, W); the weights are made in float32, against overflow."""
        weight = self.weight.to(x.device).float() * self.modulation(style).float()[:, None, :, None, None]
        if demodulate:
            weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        batch, dim = weight.shape[:2]
        grouped = F.conv2d(
            x.reshape(1, -1, *x.shape[2:]),
            weight.flatten(0, 1).to(x.dtype),
            padding=weight.shape[-1] // 2,
            groups=batch,
        )
        return grouped.reshape(batch, dim, *x.shape[2:])


class _StyledConv(nn.Module):
    def __init__(self, in_dim: int, dim: int, style_dim: int, operations: Any) -> None:
        super().__init__()
        self.modulated_conv = _ModulatedConv(in_dim, dim, 3, style_dim, operations)
        self.weight = nn.Parameter(torch.zeros(1))  # strength of the noise
        self.bias = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        h = self.modulated_conv(x, style, demodulate=True) * 2**0.5
        return F.leaky_relu(h + self.weight.to(h) * noise.to(h) + self.bias.to(h), SLOPE)


class _ToRGB(nn.Module):
    def __init__(self, in_dim: int, style_dim: int, operations: Any) -> None:
        super().__init__()
        self.modulated_conv = _ModulatedConv(in_dim, 3, 1, style_dim, operations)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return self.modulated_conv(x, style, demodulate=False) + self.bias.to(x)


class _StyleGAN(nn.Module):
    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        widths, style_dim = config.widths[::-1], config.code_dim
        mlp: list[nn.Module] = [nn.Identity()]
        for _ in range(8):  # from noise to styles; in the file, and of no use here
            mlp += [operations.Linear(style_dim, style_dim), nn.LeakyReLU(SLOPE)]
        self.style_mlp = nn.Sequential(*mlp)
        self.constant_input = nn.Module()
        self.constant_input.weight = nn.Parameter(torch.zeros(1, widths[0], BASE_SIDE, BASE_SIDE))
        self.style_conv1 = _StyledConv(widths[0], widths[0], style_dim, operations)
        self.to_rgb1 = _ToRGB(widths[0], style_dim, operations)
        self.style_convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        self.noises = nn.Module()
        self.noises.register_buffer("noise0", torch.zeros(1, 1, BASE_SIDE, BASE_SIDE))
        for level in range(1, len(widths)):
            self.style_convs.append(_StyledConv(widths[level - 1], widths[level], style_dim, operations))
            self.style_convs.append(_StyledConv(widths[level], widths[level], style_dim, operations))
            self.to_rgbs.append(_ToRGB(widths[level], style_dim, operations))
            side = BASE_SIDE * 2**level
            for number in (2 * level - 1, 2 * level):
                self.noises.register_buffer(f"noise{number}", torch.zeros(1, 1, side, side))

    def forward(self, styles: Tensor, conditions: list[tuple[Tensor, Tensor]]) -> Tensor:
        """styles (B, layers, style_dim), a (scale, shift) per level above the first -> (B, 3, R, R)."""
        noises = [self.noises.get_buffer(f"noise{number}") for number in range(len(self.style_convs) + 1)]
        x = self.constant_input.weight.to(styles).expand(len(styles), -1, -1, -1)  # type: ignore[operator]
        x = self.style_conv1(x, styles[:, 0], noises[0])
        image = self.to_rgb1(x, styles[:, 1])
        for level, (scale, shift) in enumerate(conditions):
            first = 2 * level + 1  # style and noise of this level's first convolution
            x = self.style_convs[first - 1](_resize(x, 2), styles[:, first], noises[first])
            kept, changed = x.chunk(2, dim=1)
            x = torch.cat([kept, changed * scale + shift], dim=1)
            x = self.style_convs[first](x, styles[:, first + 1], noises[first + 1])
            image = _resize(image, 2) + self.to_rgbs[level](x, styles[:, first + 2])
        return image


class GFPGAN(Network):
    """Images are (B, 3, R, R) in [-1, 1]. z is what the U-Net sees at its bottom, skips what it saw on the way there."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        widths = [width // 2 for width in config.widths]  # from the image down to 4x4
        rising = widths[-2::-1]  # and up again, from 8x8
        self.conv_body_first = operations.Conv2d(3, widths[0], 1)
        self.conv_body_down = nn.ModuleList(
            _ResizingBlock(wide, dim, 0.5, operations) for wide, dim in pairwise(widths)
        )
        self.final_conv = operations.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.conv_body_up = nn.ModuleList(
            _ResizingBlock(narrow, dim, 2, operations) for narrow, dim in pairwise([widths[-1], *rising])
        )
        self.toRGB = nn.ModuleList(operations.Conv2d(dim, 3, 1) for dim in rising)  # for losses in training
        self.final_linear = operations.Linear(widths[-1] * BASE_SIDE**2, 2 * len(widths) * config.code_dim)
        self.stylegan_decoder = _StyleGAN(config, operations)

        def condition(dim: int) -> nn.Sequential:
            return nn.Sequential(
                operations.Conv2d(dim, dim, 3, padding=1),
                nn.LeakyReLU(SLOPE),
                operations.Conv2d(dim, dim, 3, padding=1),
            )

        self.condition_scale = nn.ModuleList(condition(dim) for dim in rising)
        self.condition_shift = nn.ModuleList(condition(dim) for dim in rising)

    @property
    def supports(self) -> Supports:
        return Supports(codes=False)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The styles of all layers."""
        return (Site("final_linear", 2 * len(self.config.widths) * self.config.code_dim),)

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        x = F.leaky_relu(self.conv_body_first(images), SLOPE)
        skips = {}
        for block in self.conv_body_down:
            x = block(x)
            skips[x.shape[-1]] = x
        return F.leaky_relu(self.final_conv(x), SLOPE), skips

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        styles = self.final_linear(z_q.flatten(1)).unflatten(1, (-1, self.config.code_dim))
        x, conditions = z_q, []
        for up, scale, shift in zip(self.conv_body_up, self.condition_scale, self.condition_shift, strict=True):
            x = up(x + skips[x.shape[-1]])
            conditions.append((scale(x), shift(x)))
        return self.stylegan_decoder(styles, conditions)


def _read_config(weights: StateDict) -> RestorerConfig:
    decoder = "stylegan_decoder"
    rising = [weights[f"{decoder}.to_rgb1.modulated_conv.weight"].shape[2]]
    for level in range(count(weights, f"{decoder}.to_rgbs")):
        rising.append(weights[f"{decoder}.to_rgbs.{level}.modulated_conv.weight"].shape[2])
    return RestorerConfig(
        family="gfpgan",
        resolution=BASE_SIDE * 2 ** (len(rising) - 1),
        widths=tuple(reversed(rising)),
        encoder_depths=(),
        generator_depths=(),
        code_dim=weights[f"{decoder}.to_rgb1.modulated_conv.modulation.weight"].shape[1],
        num_codes=0,
        lookup_layers=0,
        fusion=(),
    )


FAMILY = Family(
    names=("gfpgan",),
    keys=(
        "conv_body_first.weight",
        "stylegan_decoder.to_rgb1.modulated_conv.weight",
        "stylegan_decoder.noises.noise0",
        "condition_scale.0.0.weight",
    ),
    read_config=_read_config,
    build=GFPGAN,
)
