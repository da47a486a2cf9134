"""The test photos and the small real detector, where they are: $IQPBFR_TEST_DATA, or shared/data beside the repository."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from iqpbfr_core.image import read_image

_CANDIDATES = (
    *filter(None, [os.environ.get("IQPBFR_TEST_DATA")]),
    *(parent / "shared" / "data" for parent in Path(__file__).resolve().parents),
)
DATA = next((Path(c) for c in _CANDIDATES if (Path(c) / "photos" / "photos.json").is_file()), None)
needs_photos = pytest.mark.skipif(
    DATA is None, reason="no test photos: set IQPBFR_TEST_DATA to the folder that holds photos/ and weights/"
)


@dataclass(frozen=True)
class KnownFace:
    landmarks: torch.Tensor  # (5, 2)
    eye_distance: float
    is_main: bool


def detector_file():
    return DATA / "weights" / "retinaface_mobile0.25_relu.pth"


def read_photo_number(number):
    """(1, 3, H, W) of photos/photo_<number>.jpg."""
    return read_image(DATA / "photos" / f"photo_{number:02d}.jpg")


def known_faces():
    """{file name: faces} as `photos.json` has them."""
    return {
        entry["file"]: [
            KnownFace(torch.tensor(face["landmarks"]), face["eye_dist_px"], face["main"]) for face in entry["faces"]
        ]
        for entry in json.loads((DATA / "photos" / "photos.json").read_text())
    }
