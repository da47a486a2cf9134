"""Settings of single faces: one restored strongly, one left as it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from .face import Faces

_SAME = 0.5  # overlap from which two boxes are of one face


@dataclass(frozen=True)
class FaceSettings:
    """How some faces are restored, whatever holds for the others.

    Attributes:
        faces: which; they are known again, in the same frames, by where they are.
        quality, fidelity, visibility: as `restore_photo` takes them, in [0, 1].
    """

    faces: Faces
    quality: float
    fidelity: float
    visibility: float


def per_face(
    faces: Faces, settings: Sequence[FaceSettings], quality: float, fidelity: float, visibility: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Quality, fidelity and visibility (N,) each of N `faces`: those given, but for faces that `settings` name.

    Of several settings for one face the last holds.
    """
    values = torch.tensor([quality, fidelity, visibility]).repeat(len(faces), 1)
    for own in settings:
        overlap = box_iou(faces.boxes, own.faces.boxes) * (faces.frames[:, None] == own.faces.frames)
        values[(overlap > _SAME).any(1)] = torch.tensor([own.quality, own.fidelity, own.visibility])
    quality_of, fidelity_of, visibility_of = values.unbind(1)
    return quality_of, fidelity_of, visibility_of
