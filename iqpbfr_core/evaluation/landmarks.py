"""Do the eyes, the nose and the mouth stay where they were? Judged by a face detector that no loss has ever seen."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..faces.detection import load_detector

DETECTION_SIDE = 256  # on larger faces the detector with small anchors answers twice
REPORTED_SIDE = 512


class LandmarkJudge:
    """Mean distance of five landmarks between two pictures of a face, in pixels of a 512-pixel face.

    Args:
        path: RetinaFace weights, as for `load_detector`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.detector = load_detector(Path(path))

    def landmarks(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 5, 2) in pixels of a 512-pixel face; NaN where no face is found."""
        faces = self.detector(images.clamp(0, 1), confidence=0.5, size=DETECTION_SIDE)
        landmarks = torch.full((len(images), 5, 2), torch.nan)
        for frame in faces.frames.unique().tolist():
            landmarks[frame] = faces.landmarks[faces.frames == frame][0]  # the best: they come by falling score
        return landmarks * (REPORTED_SIDE / images.shape[3])

    def error(self, images: Tensor, references: Tensor) -> np.ndarray:
        """(B, 3, H, W) twice -> (B,); NaN where a face is not found in both."""
        return (self.landmarks(images) - self.landmarks(references)).norm(dim=2).mean(1).numpy()
