"""Encoder and generator of the vector-quantised autoencoder, as flat lists of blocks (the layout CodeFormer stores)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config import RestorerConfig
from ..layers.attention import AttentionBlock
from ..layers.residual import Downsample, ResidualBlock, Upsample, channel_affine, group_norm
from .family import StateDict, count


@dataclass(frozen=True)
class Window:
    """A part of a square picture, in pixels of a map that is `of` pixels wide."""

    top: int
    left: int
    bottom: int
    right: int
    of: int

    def cut(self, x: Tensor) -> Tensor:
        """The part of (B, C, H, W), a map of the same picture at any resolution that is a multiple of `of`."""
        scale = x.shape[-1] // self.of
        return x[..., scale * self.top : scale * self.bottom, scale * self.left : scale * self.right]

    def grown(self, margin: int) -> "Window":
        """With as many pixels more on each side, as far as the picture goes."""
        top, left = max(0, self.top - margin), max(0, self.left - margin)
        return Window(top, left, min(self.of, self.bottom + margin), min(self.of, self.right + margin), self.of)


class Encoder(nn.Module):
    """(B, 3, R, R) in [-1, 1] -> features (B, code_dim, t, t), and the maps that fidelity fusion taps on the way."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        widths, depths = config.encoder_widths, config.encoder_depths
        dim, side = widths[0], config.resolution // config.stem
        self.unshuffle = nn.PixelUnshuffle(config.stem)
        self.keeps_picture = config.fuses_picture
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
        skips = {x.shape[-1]: x} if self.keeps_picture else {}
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
        self.first_local: int | None = None  # index of the block from which on a window may be generated alone
        norm = group_norm
        for level in reversed(range(len(config.widths))):
            norm = channel_affine if level < config.local_levels else group_norm
            for number in range(config.generator_depths[level]):
                blocks.append(ResidualBlock(dim, config.widths[level], operations, norm=norm))
                dim = config.widths[level]
                if side == config.token_side:
                    blocks.append(AttentionBlock(dim, operations))
                if number == 0 and side in config.fusion:
                    self.taps[len(blocks) - 1] = side
                    self.tap_widths[side] = dim
            if level > 0:
                if level == config.local_levels:
                    self.first_local = len(blocks)
                blocks.append(Upsample(dim, operations))
                side *= 2
        blocks += [norm(dim, operations), operations.Conv2d(dim, 3 * config.head**2, 3, padding=1)]
        self.blocks = nn.ModuleList(blocks)
        self.shuffle = nn.PixelShuffle(config.head)
        self.is_checkpointed = False  # recompute activations in the backward pass instead of storing them

    @property
    def last_layer(self) -> Tensor:
        """Weight of the output convolution."""
        return self.blocks[-1].weight  # type: ignore[return-value]

    def forward(
        self,
        x: Tensor,
        fusion: nn.ModuleDict,
        skips: dict[int, Tensor],
        fidelity: Tensor | float,
        window: Window | None = None,
    ) -> Tensor:
        """`fusion[str(side)](skips[side], x, fidelity)` is applied at every tap, unless `fidelity` is the number 0.

        With a window, in pixels of the map before the local levels, these levels generate that part of the picture
        alone; it equals the same part of the whole but for a few pixels at its border.
        """
        is_fused = isinstance(fidelity, Tensor) or fidelity > 0
        for index, block in enumerate(self.blocks):
            if window is not None and index == self.first_local:
                x = window.cut(x)
                skips = {side: window.cut(skip) if side > window.of else skip for side, skip in skips.items()}
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
