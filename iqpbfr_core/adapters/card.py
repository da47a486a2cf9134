"""What an adapter's file says of itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..errors import CheckpointError, first_line

FORMAT = "iqpbfr adapter 1"
MAX_TEXT = 2000  # characters


@dataclass(frozen=True)
class AdapterCard:
    """What an adapter belongs to and where it comes from.

    Attributes:
        family: of the restorer it was made for.
        codebook_id: of that restorer; one without codes has an id made from the layers that are modulated.
        metric: name of the metric whose scores it was told; "" before training.
        score_range: scores it was trained on; quality 0 to 1 means the whole of it.
        recipe: how it was trained, for people.
    """

    family: str
    codebook_id: str
    metric: str = ""
    score_range: tuple[float, float] = (0.0, 1.0)
    recipe: str = ""

    def __post_init__(self) -> None:
        texts = (self.family, self.codebook_id, self.metric, self.recipe)
        if not all(isinstance(text, str) and text.isprintable() and len(text) <= MAX_TEXT for text in texts):
            raise CheckpointError(f"an adapter's card holds lines of text of at most {MAX_TEXT} characters.")
        low, high = self.score_range
        if not (isinstance(low, int | float) and isinstance(high, int | float) and 0 <= low < high <= 1):
            raise CheckpointError(f"score_range must rise within [0, 1], got {str(self.score_range)[:100]}.")

    def to_metadata(self) -> dict[str, str]:
        """For a safetensors file; one entry, since several come in any order, and equal adapters are to be equal files."""
        return {FORMAT: json.dumps(asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "AdapterCard":
        """What `to_metadata` wrote; CheckpointError for anything else."""
        if FORMAT not in metadata:
            raise CheckpointError(f"no score adapter (it does not call itself {FORMAT!r}).")
        text = metadata[FORMAT]
        try:
            if len(text) > 8 * MAX_TEXT:
                raise ValueError(f"{len(text):,} characters")
            values = json.loads(text)
            return cls(**{**values, "score_range": tuple(values["score_range"])})
        except (LookupError, RecursionError, TypeError, ValueError) as error:
            raise CheckpointError(f"a score adapter whose card cannot be read ({first_line(error)}).") from error
