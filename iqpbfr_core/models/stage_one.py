"""The autoencoder a CodeFormer was built on (`vqgan_code1024.pth`): encoder, codebook, generator, and no lookup.

It draws a face as it is, through its nearest codes; it is there for training and for score adapters, not for restoring.
"""

from typing import Any

from torch import Tensor, nn

from ..config import RestorerConfig, Supports
from .autoencoder import Encoder, Generator, levels
from .codebook import Codebook
from .family import Family, SingleBook, StateDict

TOKEN_SIDE = 16  # attention everywhere in this model means 16 x 16 tokens


class StageOne(SingleBook):
    """Images are (B, 3, R, R) in [-1, 1]."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, operations)
        self.generator = Generator(config, operations)
        self.quantize = Codebook(config.num_codes, config.code_dim, operations)

    @property
    def codebook(self) -> Codebook:
        return self.quantize

    @property
    def supports(self) -> Supports:
        return Supports(task="autoencode")

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        return self.encoder(images)

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        return self.generator(z_q, nn.ModuleDict(), skips, 0.0)


def _read_config(weights: StateDict) -> RestorerConfig:
    widths, encoder_depths = levels(weights, "encoder.blocks")
    _, generator_depths = levels(weights, "generator.blocks")
    encoder_depths[-1] -= 2  # the two residual blocks around the middle attention
    generator_depths[0] -= 2
    num_codes, code_dim = weights["quantize.embedding.weight"].shape
    return RestorerConfig(
        family="stage_one",
        resolution=TOKEN_SIDE * 2 ** (len(widths) - 1),
        widths=tuple(widths),
        encoder_depths=tuple(encoder_depths),
        generator_depths=tuple(reversed(generator_depths)),
        code_dim=code_dim,
        num_codes=num_codes,
        lookup_layers=0,
        fusion=(),
    )


FAMILY = Family(
    names=("stage_one",),
    keys=("encoder.blocks.0.weight", "generator.blocks.0.weight", "quantize.embedding.weight"),
    read_config=_read_config,
    build=StageOne,
)
