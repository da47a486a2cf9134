"""Choose among the faces that were found. Every function takes Faces and returns some of them, per frame."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError
from ..image import check_mask, from_pil, to_pil
from .face import Faces

ORDERS = ("size", "confidence", "left_to_right", "right_to_left", "top_to_bottom", "centre")


def sort(faces: Faces, by: str = "size") -> Faces:
    """Order the faces of each frame: the largest, the surest, or the one nearest to what `by` names first.

    `by` is one of ORDERS; "centre" is the distance of the face's middle to the frame's.
    """
    if by not in ORDERS:
        raise InputError(f"unknown order {by!r}; there are {', '.join(ORDERS)}.")
    height, width = faces.size
    x, y = faces.centres.unbind(1)
    key = {
        "size": -faces.areas,
        "confidence": -faces.scores,
        "left_to_right": x,
        "right_to_left": -x,
        "top_to_bottom": y,
        "centre": (x - width / 2).hypot(y - height / 2),
    }[by]
    by_key = faces[key.argsort(stable=True)]
    return by_key[by_key.frames.argsort(stable=True)]


def rank(faces: Faces) -> Tensor:
    """(N,) the number of each face within its frame, from 0, in the order they are in."""
    seen = [0] * faces.num_frames
    ranks = []
    for frame in faces.frames.tolist():
        ranks.append(seen[frame])
        seen[frame] += 1
    return torch.tensor(ranks, dtype=torch.long)


def take(faces: Faces, indices: Sequence[int]) -> Faces:
    """The faces with these numbers in each frame; negative ones count from the end. A number no frame has is an error."""
    ranks, counts = rank(faces), faces.frames.bincount(minlength=faces.num_frames)
    chosen = torch.zeros(len(faces), dtype=torch.bool)
    for index in indices:
        wanted = torch.full_like(ranks, index) if index >= 0 else counts[faces.frames] + index
        hit = ranks == wanted
        if not hit.any():
            most = int(counts.max())
            raise InputError(f"there is no face {index}: a frame has at most {most}, numbered from 0.")
        chosen |= hit
    return faces[chosen]


def first(faces: Faces, count: int) -> Faces:
    """At most `count` faces of each frame, in the order they are in: `first(sort(faces), 1)` is the largest."""
    return faces[rank(faces) < count]


def larger_than(faces: Faces, width: float) -> Faces:
    """Faces at least this many pixels wide."""
    return faces[faces.widths >= width]


def surer_than(faces: Faces, confidence: float) -> Faces:
    """Faces with at least this score in [0, 1]."""
    return faces[faces.scores >= confidence]


def at(faces: Faces, x: float, y: float) -> Faces:
    """The face at a position in pixels of the frame, in each frame: the one whose middle is nearest, if its box is there."""
    point = torch.tensor((x, y))
    covered = faces[((faces.boxes[:, :2] <= point) & (point <= faces.boxes[:, 2:])).all(1)]
    nearest = covered[(covered.centres - point).norm(dim=1).argsort()]
    return first(nearest[nearest.frames.argsort(stable=True)], 1)


def inside(faces: Faces, mask: Tensor, share: float = 0.5) -> Faces:
    """Faces of which at least this share of the box is covered by `mask` (B or 1, 1, H, W) in [0, 1]."""
    if mask.ndim != 4 or mask.shape[0] not in (1, faces.num_frames) or tuple(mask.shape[2:]) != faces.size:
        raise InputError(
            f"the mask must have shape ({faces.num_frames}, 1, {faces.size[0]}, {faces.size[1]}), got {tuple(mask.shape)}."
        )
    check_mask(mask)
    kept = []
    for box, frame in zip(faces.boxes.round().long().tolist(), faces.frames.tolist(), strict=True):
        left, top, right, bottom = box
        covered = mask[frame if len(mask) > 1 else 0, 0, top : max(top + 1, bottom), left : max(left + 1, right)]
        kept.append(covered.numel() > 0 and float(covered.float().mean()) >= share)
    return faces[torch.tensor(kept, dtype=torch.bool)]


def preview(images: Tensor, faces: Faces) -> Tensor:
    """The frames (B, 3, H, W) with every face framed and numbered as `take` counts: what to look at before choosing."""
    pictures = [to_pil(image) for image in images]
    for number, box, frame in zip(rank(faces).tolist(), faces.boxes.tolist(), faces.frames.tolist(), strict=True):
        _draw(pictures[frame], number, box)
    return torch.cat([from_pil(picture) for picture in pictures]).to(images)


def _draw(picture: Image.Image, number: int, box: Sequence[float]) -> None:
    canvas = ImageDraw.Draw(picture)
    left, top, right, _ = box
    line = max(1, round(max(picture.size) / 400))
    font = ImageFont.load_default(size=max(10, min((right - left) / 2, max(picture.size) / 20)))
    canvas.rectangle(box, outline=(255, 210, 0), width=line)
    text = canvas.textbbox((left, top), str(number), font=font, anchor="lt")
    canvas.rectangle((left, top, text[2] + 2 * line, text[3] + 2 * line), fill=(255, 210, 0))
    canvas.text((left + line, top + line), str(number), fill=(0, 0, 0), font=font, anchor="lt")
