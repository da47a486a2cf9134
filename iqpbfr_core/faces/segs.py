"""Impact Pack's SEGS, in and out: ((H, W), [SEG, ...]), plain tuples that its filters, detailers and pasters take.

Only the fields are shared with Impact Pack; nothing of it is imported.
"""

from collections import namedtuple
from math import ceil, floor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ..errors import InputError
from .alignment import align, project
from .face import Faces
from .masks import template_mask

# cropped_image (1, h, w, 3) or None, cropped_mask (h, w) float in [0, 1], crop_region and bbox [left, top, right, bottom]
SEG = namedtuple(
    "SEG",
    ("cropped_image", "cropped_mask", "confidence", "crop_region", "bbox", "label", "control_net_wrapper"),
    defaults=(None,),
)
Segs = tuple[tuple[int, int], list[Any]]

_MASK_SIZE = 256
_SAME_FACE = 0.3  # intersection over union from which a SEG's box and a detected face are one
# Where landmarks lie in a detector's box of an upright face, as fractions of its width and height: the median over
# known faces, made symmetric.
_UPRIGHT = torch.tensor([[0.26, 0.375], [0.74, 0.375], [0.50, 0.555], [0.31, 0.74], [0.69, 0.74]])


def to_segs(image: Tensor, faces: Faces, crop_factor: float = 2.0, label: str = "face") -> Segs:
    """The faces of one image (1, 3, H, W) as SEGS; their masks are what a paste would cover.

    `crop_factor` is the side of the crop region in sides of the box, at least 1; regions end at the frame's edges.
    """
    if len(image) != 1 or faces.num_frames != 1:
        raise InputError(f"SEGS describe one image, got {len(image)}; convert the frames one by one.")
    if not crop_factor >= 1:
        raise InputError(f"crop_factor must be at least 1, got {crop_factor}.")
    height, width = faces.size
    items = []
    for index in range(len(faces)):
        face = faces[[index]]
        window = left, top, right, bottom = _region(face, crop_factor)
        shown = project(template_mask(_MASK_SIZE), align(face, _MASK_SIZE)[0], window, "bilinear", "zeros")
        items.append(
            SEG(
                cropped_image=image[:, :, top:bottom, left:right].permute(0, 2, 3, 1).clone(),
                cropped_mask=shown[0, 0].clamp(0, 1).numpy(),
                confidence=float(face.scores[0]),
                crop_region=[left, top, right, bottom],
                bbox=[round(edge) for edge in face.boxes[0].tolist()],
                label=label,
            )
        )
    return (height, width), items


def from_segs(segs: Segs, detected: Faces | None = None) -> Faces:
    """The faces of SEGS, one per SEG and in their order.

    Args:
        segs: from Impact Pack, whichever detector made them.
        detected: faces found in the same image, which have the landmarks SEGS lack. A SEG that none of them overlaps
            is taken for an upright face that fills its box.
    """
    size, items = _check(segs)
    if not items:
        return Faces.none(size)
    boxes = torch.tensor([[float(edge) for edge in seg.bbox] for seg in items])
    landmarks = boxes[:, None, :2] + _UPRIGHT * (boxes[:, 2:] - boxes[:, :2])[:, None]
    if detected is not None and len(detected):
        overlap, nearest = box_iou(boxes, detected.boxes).max(1)
        landmarks = torch.where((overlap >= _SAME_FACE)[:, None, None], detected.landmarks[nearest], landmarks)
    # Confidence is a number or an array of one, depending on the detector.
    scores = torch.tensor([float(np.asarray(seg.confidence).reshape(-1)[0]) for seg in items])
    return Faces(boxes, landmarks, scores, torch.zeros(len(items), dtype=torch.long), size)


def mask(segs: Segs) -> Tensor:
    """(1, 1, H, W) in [0, 1]: all masks of SEGS in one, for `selection.inside` or as the mask of `restore_photo`."""
    (height, width), items = _check(segs)
    whole = torch.zeros(1, 1, height, width)
    for seg in items:
        left, top, right, bottom = seg.crop_region
        part = torch.as_tensor(np.asarray(seg.cropped_mask), dtype=torch.float32)
        whole[0, 0, top:bottom, left:right] = whole[0, 0, top:bottom, left:right].maximum(part)
    return whole


def _region(face: Faces, crop_factor: float) -> tuple[int, int, int, int]:
    height, width = face.size
    (x, y), half_width = face.centres[0].tolist(), float(face.widths[0]) * crop_factor / 2
    half_height = float(face.heights[0]) * crop_factor / 2
    left, top = max(0, floor(x - half_width)), max(0, floor(y - half_height))
    return left, top, min(width, ceil(x + half_width)), min(height, ceil(y + half_height))


def _check(segs: Segs) -> Segs:
    try:
        (height, width), items = segs
        return (int(height), int(width)), list(items)
    except (TypeError, ValueError):
        raise InputError(f"SEGS are ((height, width), [SEG, ...]); got a {type(segs).__name__}.") from None
