"""RestoreFormer (Wang et al. 2022, arXiv 2201.06374) and RestoreFormer++ (2023, arXiv 2308.07228).

No code prediction: the nearest code of the encoder's output, then a decoder whose attention looks back at the
encoder's maps. The networks differ in the number of heads and in one more attention scale of ++. There is no score, no
fidelity knob and no AdaIN.
"""

from typing import Any

from torch import Tensor, nn

from ..config import RestorerConfig
from ..layers.attention import CrossAttentionBlock
from .codebook import Codebook
from .family import Family, SingleBook, Site, StateDict
from .vqgan import Decoder, Encoder, dims


class RestoreFormer(SingleBook):
    """Images are (B, 3, R, R) in [-1, 1]."""

    def __init__(self, config: RestorerConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, operations)
        self.quant_conv = operations.Conv2d(config.code_dim, config.code_dim, 1)
        self.quantize = Codebook(config.num_codes, config.code_dim, operations)
        self.post_quant_conv = operations.Conv2d(config.code_dim, config.code_dim, 1)
        num_attended = 2 if config.family == "restoreformer_plus_plus" else 1
        self.decoder = Decoder(config, operations, num_attended)

    @property
    def codebook(self) -> Codebook:
        return self.quantize

    @property
    def sites(self) -> tuple[Site, ...]:
        """What the decoder's attention makes of codes and of the encoder's maps."""
        blocks = ((name, m) for name, m in self.decoder.named_modules() if isinstance(m, CrossAttentionBlock))
        return tuple(Site(f"decoder.{name}", block.proj_out.out_channels) for name, block in blocks)

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        z, skips = self.encoder(images)
        return self.quant_conv(z), skips

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        """Fidelity and AdaIN do not exist in this family and change nothing."""
        return self.decoder(self.post_quant_conv(z_q), skips)


def _read_config(weights: StateDict) -> RestorerConfig:
    widths, encoder_depths = dims(weights, "encoder.down")
    _, generator_depths = dims(weights, "decoder.up")
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
