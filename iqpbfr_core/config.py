"""What a restorer is made of and what it was trained for, as plain frozen data.

One family covers CodeFormer, IQPIR and our own models; the others are described by the same fields where they apply.
A config rides inside the metadata of every `.safetensors` file we write.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from .errors import CheckpointError, first_line

CONDITIONINGS = ("none", "add", "add_multi", "adaln")
MAX_COUNT = 2**16  # of anything a config counts
MAX_JSON = 2**16  # characters
TASKS = ("restore", "colorize", "inpaint")


@dataclass(frozen=True)
class Supports:
    """What a model was trained for; the defaults of `Restorer.restore` come from it.

    Attributes:
        task: one of TASKS.
        quality: what may be asked for, (low, high) within [0, 1]; None: the model takes no score.
        scores: the same in scores of the metrics it was trained with, a (lowest, best) per metric.
        fidelity: whether it has a fidelity knob that was trained.
        default_fidelity: what it is best run at.
        adain: whether AdaIN belongs to it.
        codes: whether it has codes to look up, blend and optimise.
    """

    task: str = "restore"
    quality: tuple[float, float] | None = None
    scores: tuple[tuple[float, float], ...] = ()
    fidelity: bool = False
    default_fidelity: float = 0.0
    adain: bool = False
    codes: bool = True


@dataclass(frozen=True)
class RestorerConfig:
    """Architecture of a restorer. The defaults are CodeFormer's.

    Attributes:
        family: what kind of network, one of the names of the families in `models`.
        resolution: side of the aligned face in pixels.
        stem: pixel-unshuffle factor before the encoder (1 for published models).
        head: pixel-shuffle factor after the generator (1 for published models).
        widths: channels per level; the first level works at resolution / head, each next one at half of that.
        encoder_depths: residual blocks per encoder level, from resolution / stem down to the tokens.
        generator_depths: residual blocks per generator level, in the order of `widths`.
        code_dim: width of a code.
        num_codes: entries of the common codebook.
        num_hq_codes: entries of the HQ+ codebook; 0 = single codebook.
        residual_hq: whether the HQ+ codebook was trained on what the common code leaves over of the features (ours) or on the
            features themselves (the paper's form). Codes are added up in both cases.
        conditioning: how the lookup is told the score, one of CONDITIONINGS.
        score_bins: bins of each score embedding ("add": one number, "add_multi": one per metric).
        lookup_dim, lookup_layers, lookup_mlp_dim: the Transformer; heads are 64 wide.
        fusion: pixel resolutions with a fidelity fusion module. Behind a stem the encoder has no map at the full resolution;
            fusion there is with the picture itself.
        tells_features: whether the score of an "adaln" model also scales and shifts the features.
        local_levels: levels of the generator, from the largest down, that scale and shift channels where the others
            normalise groups: there, a pixel depends on its neighbourhood alone, and training may look at a window.
        alpha: default weight of the HQ+ codes (0.8 is what IQPIR trained with).
        attention_heads: heads of RestoreFormer's attention (8, or 4 in ++); 1 elsewhere.
        metric: name of the metric whose score conditions the lookup, where known.
        score_range: scores of `metric` an "adaln" lookup was trained on; quality 0 to 1 means the whole of it.
        fidelity: default fidelity.
        keeps_coarse: share of the degraded picture's coarse part that is kept at fidelity 1, less below; needs fusion with
            the picture itself.
    """

    family: str = "codeformer"
    resolution: int = 512
    stem: int = 1
    head: int = 1
    widths: tuple[int, ...] = (64, 128, 128, 256, 256, 512)
    encoder_depths: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    generator_depths: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    code_dim: int = 256
    num_codes: int = 1024
    num_hq_codes: int = 0
    conditioning: str = "none"
    score_bins: tuple[int, ...] = ()
    lookup_dim: int = 512
    lookup_layers: int = 9
    lookup_mlp_dim: int = 1024
    fusion: tuple[int, ...] = (32, 64, 128, 256)
    alpha: float = 0.8
    attention_heads: int = 1
    metric: str = ""
    score_range: tuple[float, float] = (0.0, 1.0)
    fidelity: float = 0.5
    local_levels: int = 0
    tells_features: bool = False
    keeps_coarse: float = 0.0
    residual_hq: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_value(field.name, getattr(self, field.name), field.default)
        if self.conditioning not in CONDITIONINGS:
            raise CheckpointError(f"unknown conditioning {self.conditioning!r}; there are {', '.join(CONDITIONINGS)}.")
        if self.resolution != self.token_side * self.head * 2 ** (len(self.widths) - 1):
            raise CheckpointError(f"resolution {self.resolution} does not fit {len(self.widths)} levels.")
        sides = [self.resolution // self.head // 2**level for level in range(len(self.widths) - 1)]
        if not set(self.fusion) <= {s for s in sides if s <= self.resolution // self.stem or s == self.resolution}:
            raise CheckpointError(
                f"fusion at {self.fusion} needs levels of encoder and generator there; they are {sides}."
            )
        if self.keeps_coarse and not (self.keeps_coarse <= 1 and self.fuses_picture):
            raise CheckpointError(
                f"keeps_coarse needs fusion with the picture and must be at most 1, got {self.keeps_coarse} and fusion at "
                f"{self.fusion}."
            )
        if any(width % self.attention_heads for width in self.widths[-2:]):
            raise CheckpointError(f"{self.attention_heads} heads cannot share {self.widths[-2:]} channels.")
        if len(self.score_bins) < {"add": 1, "add_multi": 1}.get(self.conditioning, 0):
            raise CheckpointError(f"conditioning {self.conditioning!r} needs score_bins.")
        if self.num_hq_codes not in (0, self.num_codes):
            raise CheckpointError(
                f"both codebooks share one head, so they must be of equal size; got {self.num_codes} and {self.num_hq_codes}."
            )
        low, high = self.score_range
        if not 0 <= low < high <= 1:
            raise CheckpointError(f"score_range must rise within [0, 1], got {self.score_range}.")

    @property
    def token_side(self) -> int:
        """Tokens along one side of the code map."""
        return self.resolution // (self.head * 2 ** (len(self.widths) - 1))

    @property
    def fuses_picture(self) -> bool:
        """Whether the degraded picture is one of the maps that fidelity fuses."""
        return self.stem > 1 and self.resolution in self.fusion

    @property
    def num_tokens(self) -> int:
        return self.token_side**2

    @property
    def encoder_widths(self) -> tuple[int, ...]:
        """Channels per encoder level, from resolution / stem down to the tokens."""
        return self.widths[len(self.widths) - len(self.encoder_depths) :]

    @property
    def num_books(self) -> int:
        return 2 if self.num_hq_codes else 1

    @property
    def num_blocks(self) -> int:
        """Residual and Transformer blocks and score tables, each of which has at least one tensor."""
        depths = sum(self.encoder_depths) + sum(self.generator_depths)
        return depths + self.lookup_layers + len(self.score_bins)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RestorerConfig":
        """Read a config written by `to_json`; unknown or missing fields raise CheckpointError."""
        if len(text) > MAX_JSON:
            raise CheckpointError(f"the config inside the file has {len(text):,} characters, more than any config.")
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}
            return cls(**values)
        except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
            raise CheckpointError(f"the config inside the file cannot be read ({first_line(error)}).") from error


def _check_value(name: str, value: Any, default: Any) -> None:
    """Raise CheckpointError unless a field is of its default's type, and its numbers are finite and not too large."""
    is_list = isinstance(default, tuple)
    kinds: set[type] = {type(entry) for entry in default} if is_list else {type(default)}
    kinds |= {int} if float in kinds or not kinds else set()

    def is_sound(entry: Any) -> bool:
        return type(entry) in kinds and (isinstance(entry, str) or 0 <= entry <= MAX_COUNT)  # NaN is neither

    entries = value if is_list and isinstance(value, tuple) else (value,)
    if isinstance(value, tuple) != is_list or not all(is_sound(entry) for entry in entries):
        raise CheckpointError(f"{name} is {str(value)[:100]}; expected something like {default!r}.")
