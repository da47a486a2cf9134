"""The socket types of this extension, and what travels through them."""

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..iqpbfr_core.adapters import ScoreAdapter
from ..iqpbfr_core.errors import InputError
from ..iqpbfr_core.restorer import Codes, Features, Restorer

RESTORER = io.Custom("IQPBFR_RESTORER")
METRIC = io.Custom("IQPBFR_METRIC")
FEATURES = io.Custom("IQPBFR_FEATURES")
CODES = io.Custom("IQPBFR_CODES")
DETECTOR = io.Custom("IQPBFR_DETECTOR")
PARSER = io.Custom("IQPBFR_PARSER")
ADAPTER = io.Custom("IQPBFR_ADAPTER")
FACES = io.Custom("IQPBFR_FACES")  # iqpbfr_core.faces.face.Faces
FACE_SETTINGS = io.Custom("IQPBFR_FACE_SETTINGS")  # a tuple of iqpbfr_core.faces.settings.FaceSettings


@dataclass(frozen=True)
class LoadedRestorer:
    """A restorer and the patcher through which ComfyUI moves its weights."""

    name: str
    restorer: Restorer
    patcher: object


@dataclass(frozen=True)
class LoadedNetwork:
    """A metric, detector or parser: a `holder` with a `network`, and the patcher through which ComfyUI moves its weights.

    pyiqa's metrics have no patcher: they are on the CPU but while they work.
    """

    name: str
    holder: Any
    patcher: object = None


@dataclass(frozen=True)
class LoadedAdapter:
    """A score adapter, which belongs to one restorer and moves where that goes."""

    name: str
    adapter: ScoreAdapter


@dataclass(frozen=True)
class FaceFeatures:
    """What the encoder saw, with the model that saw it."""

    model: LoadedRestorer
    features: Features


@dataclass(frozen=True)
class FaceCodes:
    """What the lookup decided, with the model whose codebooks the indices point into."""

    model: LoadedRestorer
    codes: Codes

    def check_same_model(self, other: LoadedRestorer) -> None:
        """Raise InputError unless `other` has the codebooks these codes point into."""
        ours, theirs = self.model.restorer.codebook_id, other.restorer.codebook_id
        if ours != theirs:
            raise InputError(
                f"the codes come from {self.model.name} (codebook {ours}), this needs codes of {other.name} (codebook "
                f"{theirs}). Look the codes up with that model."
            )
