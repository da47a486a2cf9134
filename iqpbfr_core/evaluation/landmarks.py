"""Do the eyes, the nose and the mouth stay where they were? Judged by networks that no loss has ever seen."""

import os
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoint import read_weights
from ..errors import CheckpointError
from ..faces.detection import load_detector
from ..faces.weights import load_strictly
from ..models.fan import FAN, HEAT_SIDE, SIDE

DETECTION_SIDE = 256  # on larger faces the detector with small anchors answers twice
REPORTED_SIDE = 512


class LandmarkJudge(ABC):
    """Mean distance of landmarks between two pictures of a face (LMD), in pixels of a 512-pixel face."""

    @abstractmethod
    def landmarks(self, images: Tensor) -> Tensor:
        """(B, 3, R, R) in [0, 1] -> (B, n, 2) in pixels of a 512-pixel face; NaN where no face is found."""

    def error(self, images: Tensor, references: Tensor) -> np.ndarray:
        """(B, 3, R, R) in [0, 1] twice -> (B,); NaN where a face is not found in both."""
        return (self.landmarks(images) - self.landmarks(references)).norm(dim=2).mean(1).numpy()


class FiveLandmarks(LandmarkJudge):
    """Eyes, nose and corners of the mouth, by a face detector.

    Args:
        path: RetinaFace weights, as for `load_detector`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.detector = load_detector(Path(path))

    def landmarks(self, images: Tensor) -> Tensor:
        faces = self.detector(images.clamp(0, 1), confidence=0.5, size=DETECTION_SIDE)
        landmarks = torch.full((len(images), 5, 2), torch.nan)
        for frame in faces.frames.unique().tolist():
            landmarks[frame] = faces.landmarks[faces.frames == frame][0]  # the best: they come by falling score
        return landmarks * (REPORTED_SIDE / images.shape[3])


class DenseLandmarks(LandmarkJudge):
    """WFLW's 98 landmarks by the network that papers measure LMD with; it finds a face in whatever it is shown.

    Args:
        path: facexlib's `alignment_WFLW_4HG.pth`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.network = load_strictly(FAN, read_weights(path)[0], "a face alignment network").eval()
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error

    @torch.no_grad()
    def landmarks(self, images: Tensor) -> Tensor:
        inputs = F.interpolate(images.cpu().float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        return peaks(self.network(inputs)[:, :-1]) * (REPORTED_SIDE / HEAT_SIDE)


def peaks(heat: Tensor) -> Tensor:
    """Where heat maps (B, n, S, S) are warmest, as (B, n, 2): the middle of the pixel, and a quarter of one towards its
    warmer neighbours.
    """
    side = heat.shape[-1]
    place = heat.flatten(2).argmax(2)
    column, row = place % side, place // side
    padded = F.pad(heat, (1, 1, 1, 1), mode="replicate").flatten(2)

    def at(dx: int, dy: int) -> Tensor:
        return padded.gather(2, ((row + 1 + dy) * (side + 2) + column + 1 + dx)[..., None])[..., 0]

    towards = torch.stack((at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)), 2).sign()
    return torch.stack((column, row), 2) + 0.5 + 0.25 * towards
