"""The VQGAN autoencoder (Esser et al. 2021, arXiv 2012.09841) as RestoreFormer and DAEFR store it: levels of named blocks,
with attention over several heads that may look at another map."""

from typing import Any

from torch import Tensor, nn

from ..config import RestorerConfig
from ..layers.attention import CrossAttentionBlock
from ..layers.residual import Downsample, ResidualBlock, Upsample, group_norm
from .family import StateDict, count


def _residual_block(in_dim: int, out_dim: int, operations: Any) -> ResidualBlock:
    return ResidualBlock(in_dim, out_dim, operations, shortcut="nin_shortcut")


class _Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention where there is any, then a change of resolution."""

    def __init__(self, in_dim: int, dim: int, depth: int, num_heads: int, resample: str, operations: Any) -> None:
        super().__init__()
        self.block = nn.ModuleList(_residual_block(in_dim if i == 0 else dim, dim, operations) for i in range(depth))
        self.attn = nn.ModuleList(
            CrossAttentionBlock(dim, num_heads, operations) for _ in range(depth if num_heads else 0)
        )
        if resample == "down":
            self.downsample = Downsample(dim, operations)
        elif resample == "up":
            self.upsample = Upsample(dim, operations)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x, context)
        return x


class _Middle(nn.Module):
    def __init__(self, dim: int, num_heads: int, operations: Any) -> None:
        super().__init__()
        self.block_1 = _residual_block(dim, dim, operations)
        self.attn_1 = CrossAttentionBlock(dim, num_heads, operations)
        self.block_2 = _residual_block(dim, dim, operations)


class Encoder(nn.Module):
    """(B, 3, R, R) in [-1, 1] -> features (B, code_dim, t, t), and maps for a decoder's attention."""

    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        widths, heads = config.widths, config.attention_heads
        last = len(widths) - 1
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            _Level(
                widths[max(0, i - 1)],
                width,
                config.encoder_depths[i],
                heads if i == last else 0,
                "" if i == last else "down",
                operations,
            )
            for i, width in enumerate(widths)
        )
        self.mid = _Middle(widths[-1], heads, operations)
        self.norm_out = group_norm(widths[-1], operations)
        self.conv_out = operations.Conv2d(widths[-1], config.code_dim, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Skips: {level: map before downsampling}, the last level's after its first middle block, and -1 the middle's."""
        skips = {}
        x = self.conv_in(x)
        for index, level in enumerate(self.down):
            x = level(x)
            if index < len(self.down) - 1:
                skips[index] = x
                x = level.downsample(x)  # type: ignore[operator]
        x = self.mid.block_1(x)
        skips[len(self.down) - 1] = x
        x = self.mid.block_2(self.mid.attn_1(x))
        skips[-1] = x
        return self.conv_out(nn.functional.silu(self.norm_out(x))), skips


class Decoder(nn.Module):
    """Codes (B, code_dim, t, t) -> (B, 3, R, R); its attention looks at `skips` of the encoder where they are given.

    num_attended: levels with attention, from the tokens up.
    """

    def __init__(self, config: RestorerConfig, operations: Any, num_attended: int = 1) -> None:
        super().__init__()
        widths, heads = config.widths, config.attention_heads
        last = len(widths) - 1
        self.conv_in = operations.Conv2d(config.code_dim, widths[-1], 3, padding=1)
        self.mid = _Middle(widths[-1], heads, operations)
        self.up = nn.ModuleList(
            _Level(
                widths[min(last, i + 1)],
                width,
                config.generator_depths[i],
                heads if i > last - num_attended else 0,
                "up" if i else "",
                operations,
            )
            for i, width in enumerate(widths)
        )
        self.norm_out = group_norm(widths[0], operations)
        self.conv_out = operations.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, x: Tensor, skips: dict[int, Tensor]) -> Tensor:
        x = self.mid.block_1(self.conv_in(x))
        x = self.mid.block_2(self.mid.attn_1(x, skips.get(-1)))
        for index in reversed(range(len(self.up))):
            x = self.up[index](x, skips.get(index))
            if index:
                x = self.up[index].upsample(x)  # type: ignore[operator]
        return self.conv_out(nn.functional.silu(self.norm_out(x)))


def dims(weights: StateDict, prefix: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths and residual blocks per level of an encoder (`<prefix>` = "....down") or decoder ("....up")."""
    levels = range(count(weights, prefix))
    widths = tuple(len(weights[f"{prefix}.{level}.block.0.conv1.weight"]) for level in levels)
    return widths, tuple(count(weights, f"{prefix}.{level}.block") for level in levels)
