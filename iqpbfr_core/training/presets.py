"""Named architectures and recipes of `iqpbfr train`."""

from dataclasses import replace
from typing import Literal

from ..config import RestorerConfig

# 256 px faces, 16x16 tokens, two codebooks: small enough for a CPU.
SMALL = RestorerConfig(
    family="iqpbfr",
    resolution=256,
    stem=2,
    head=1,
    widths=(16, 32, 64, 128, 256),
    encoder_depths=(1, 1, 2, 2),
    generator_depths=(1, 1, 1, 2, 2),
    code_dim=128,
    num_codes=1024,
    num_hq_codes=1024,
    conditioning="adaln",
    lookup_dim=256,
    lookup_layers=4,
    lookup_mlp_dim=512,
    fusion=(32, 64, 128, 256),
    alpha=1.0,
    metric="builtin",
    local_levels=2,
    tells_features=True,
    keeps_coarse=0.6,
)

# The same for 512 px faces and scores of any metric, from a list: the built-in one looks at 256 px. Not trained by us yet.
SMALL_512 = replace(
    SMALL,
    resolution=512,
    widths=(16, 32, 64, 128, 256, 256),
    encoder_depths=(1, 1, 1, 2, 2),
    generator_depths=(1, 1, 1, 1, 2, 2),
    fusion=(64, 128, 256, 512),
    local_levels=3,
    metric="",
)

# As many codes in one codebook, and as many parameters: what two codebooks are compared with.
SMALL_SINGLE = replace(SMALL, num_codes=SMALL.num_codes + SMALL.num_hq_codes, num_hq_codes=0)

# Both codebooks on the same features, as in the paper.
SMALL_SAME_Z = replace(SMALL, residual_hq=False, alpha=0.8)

# One codebook and no score: what a score adapter is shown on.
SMALL_PLAIN = replace(SMALL_SINGLE, conditioning="none", tells_features=False)

# A few seconds of training in tests; learns nothing worth keeping.
TINY = RestorerConfig(
    family="iqpbfr",
    resolution=64,
    stem=2,
    head=2,
    widths=(16, 32, 64),
    encoder_depths=(1, 1, 1),
    generator_depths=(1, 1, 1),
    code_dim=32,
    num_codes=32,
    num_hq_codes=32,
    conditioning="adaln",
    lookup_dim=64,
    lookup_layers=2,
    lookup_mlp_dim=128,
    fusion=(16, 32),
    alpha=1.0,
    metric="builtin",
    local_levels=1,
    tells_features=True,
)

Preset = Literal["small", "small-512", "small-single", "small-same-z", "small-plain", "tiny"]
PRESETS: dict[Preset, RestorerConfig] = {
    "small": SMALL,
    "small-512": SMALL_512,
    "small-single": SMALL_SINGLE,
    "small-same-z": SMALL_SAME_Z,
    "small-plain": SMALL_PLAIN,
    "tiny": TINY,
}
