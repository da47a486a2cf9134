"""Encoder and generator of the vector-quantised autoencoder, as flat lists of blocks (the layout CodeFormer stores)."""

from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config import RestorerConfig
from ..layers.attention import AttentionBlock
from ..layers.residual import Downsample, ResidualBlock, Upsample, group_norm
from .family import StateDict, count


class Encoder(nn.Module):
    """(B, 3, R, R) in [-1, 1] -> features (B, code_dim, t, t), and the maps that fidelity fusion taps on the way."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        widths, depths = config.encoder_widths, config.encoder_depths
        dim, side = widths[0], config.resolution // config.stem
        self.unshuffle = nn.PixelUnshuffle(config.stem)
        self.taps: dict[int, int] = {}  # block index -> pixel resolution
        blocks: list[nn.Module] = [operations.Conv2d(3 * config.stem**2, dim, 3, padding=1)]
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            is_last = level == len(widths) - 1
            for _ in range(depth):
                blocks.append(ResidualBlock(dim, width, operations))
                dim = width
                if is_last:
                    blocks.append(AttentionBlock(dim, operations))
            if not is_last:
                if side in config.fusion:
                    self.taps[len(blocks) - 1] = side
                blocks.append(Downsample(dim, operations))
                side //= 2
        blocks += [ResidualBlock(dim, dim, operations), AttentionBlock(dim, operations)]
        blocks += [ResidualBlock(dim, dim, operations), group_norm(dim, operations)]
        blocks.append(operations.Conv2d(dim, config.code_dim, 3, padding=1))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        skips = {}
        x = self.unshuffle(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                skips[self.taps[index]] = x
        return x, skips


class Generator(nn.Module):
    """Quantised features (B, code_dim, t, t) -> image (B, 3, R, R), in [-1, 1] where trained."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        dim, side = config.widths[-1], config.token_side
        self.taps: dict[int, int] = {}  # block index -> pixel resolution at which fidelity is fused
        self.tap_widths: dict[int, int] = {}
        blocks: list[nn.Module] = [
            operations.Conv2d(config.code_dim, dim, 3, padding=1),
            ResidualBlock(dim, dim, operations),
            AttentionBlock(dim, operations),
            ResidualBlock(dim, dim, operations),
        ]
        for level in reversed(range(len(config.widths))):
            for number in range(config.generator_depths[level]):
                blocks.append(ResidualBlock(dim, config.widths[level], operations))
                dim = config.widths[level]
                if side == config.token_side:
                    blocks.append(AttentionBlock(dim, operations))
                if number == 0 and side in config.fusion:
                    self.taps[len(blocks) - 1] = side
                    self.tap_widths[side] = dim
            if level > 0:
                blocks.append(Upsample(dim, operations))
                side *= 2
        blocks += [group_norm(dim, operations), operations.Conv2d(dim, 3 * config.head**2, 3, padding=1)]
        self.blocks = nn.ModuleList(blocks)
        self.shuffle = nn.PixelShuffle(config.head)
        self.is_checkpointed = False  # recompute activations in the backward pass instead of storing them

    @property
    def last_layer(self) -> Tensor:
        """Weight of the output convolution."""
        return self.blocks[-1].weight  # type: ignore[return-value]

    def forward(self, x: Tensor, fusion: nn.ModuleDict, skips: dict[int, Tensor], fidelity: Tensor | float) -> Tensor:
        """`fusion[str(side)](skips[side], x, fidelity)` is applied at every tap, unless `fidelity` is the number 0."""
        is_fused = isinstance(fidelity, Tensor) or fidelity > 0
        for index, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False) if self.is_checkpointed else block(x)
            if is_fused and index in self.taps:
                side = self.taps[index]
                x = fusion[str(side)](skips[side], x, fidelity)
        return self.shuffle(x)


def levels(weights: StateDict, prefix: str) -> tuple[list[int], list[int]]:
    """Widths and residual depths per level of a flat list of blocks, in the order in which they run.

    Blocks are told apart by their parameters: `conv1` residual, `conv` a change of resolution, `q` attention.
    """
    widths, depths = [], []
    depth, width = 0, len(weights[f"{prefix}.0.weight"])
    for index in range(count(weights, prefix)):
        block = f"{prefix}.{index}"
        if f"{block}.conv1.weight" in weights:
            depth, width = depth + 1, len(weights[f"{block}.conv1.weight"])
        elif f"{block}.conv.weight" in weights:
            widths, depths = [*widths, width], [*depths, depth]
            depth = 0
    return [*widths, width], [*depths, depth]
