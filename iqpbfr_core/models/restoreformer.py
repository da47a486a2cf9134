"""RestoreFormer (Wang et al. 2022, arXiv 2201.06374) and RestoreFormer++ (2023, arXiv 2308.07228).

No code prediction: the nearest code of the encoder's output, then a decoder whose attention looks back at the
encoder's maps. The networks differ in the number of heads and in one more attention scale of ++. There is no score, no
fidelity knob and no AdaIN.
"""

from typing import Any

from torch import Tensor, nn

from ..config import RestorerConfig
from ..layers.attention import CrossAttentionBlock
from ..layers.residual import Downsample, ResidualBlock, Upsample, group_norm
from .codebook import Codebook
from .family import Family, SingleBook, StateDict, count


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


class _Encoder(nn.Module):
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


class _Decoder(nn.Module):
    def __init__(self, config: RestorerConfig, operations: Any) -> None:
        super().__init__()
        widths, heads = config.widths, config.attention_heads
        last = len(widths) - 1
        num_attended = 2 if config.family == "restoreformer_plus_plus" else 1
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
        x = self.mid.block_2(self.mid.attn_1(x, skips[-1]))
        for index in reversed(range(len(self.up))):
            x = self.up[index](x, skips.get(index))
            if index:
                x = self.up[index].upsample(x)  # type: ignore[operator]
        return self.conv_out(nn.functional.silu(self.norm_out(x)))


class RestoreFormer(SingleBook):
    """Images are (B, 3, R, R) in [-1, 1]."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config, operations)
        self.quant_conv = operations.Conv2d(config.code_dim, config.code_dim, 1)
        self.quantize = Codebook(config.num_codes, config.code_dim, operations)
        self.post_quant_conv = operations.Conv2d(config.code_dim, config.code_dim, 1)
        self.decoder = _Decoder(config, operations)

    @property
    def codebook(self) -> Codebook:
        return self.quantize

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        z, skips = self.encoder(images)
        return self.quant_conv(z), skips

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        """Fidelity and AdaIN do not exist in this family and change nothing."""
        return self.decoder(self.post_quant_conv(z_q), skips)


def _read_config(weights: StateDict) -> RestorerConfig:
    def dims(prefix: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        levels = count(weights, prefix)
        widths = tuple(len(weights[f"{prefix}.{i}.block.0.conv1.weight"]) for i in range(levels))
        depths = tuple(
            1 + max(int(k.split(".")[4]) for k in weights if k.startswith(f"{prefix}.{i}.block."))
            for i in range(levels)
        )
        return widths, depths

    widths, encoder_depths = dims("encoder.down")
    _, generator_depths = dims("decoder.up")
    num_codes, code_dim = weights["quantize.embedding.weight"].shape
    is_plus_plus = f"decoder.up.{len(widths) - 2}.attn.0.q.weight" in weights
    return RestorerConfig(
        family="restoreformer_plus_plus" if is_plus_plus else "restoreformer",
        resolution=16 * 2 ** (len(widths) - 1),  # attention everywhere in these models means 16 x 16 tokens
        widths=widths,
        encoder_depths=encoder_depths,
        generator_depths=generator_depths,
        code_dim=code_dim,
        num_codes=num_codes,
        fusion=(),
        lookup_layers=0,
        attention_heads=4 if is_plus_plus else 8,  # not in the file: the authors' configurations
    )


FAMILY = Family(
    names=("restoreformer", "restoreformer_plus_plus"),
    keys=("encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight", "quantize.embedding.weight"),
    read_config=_read_config,
    build=RestoreFormer,
)
