"""Put restored crops back: each on its own region of the frame, through a mask, leaving all other pixels as they are."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from .alignment import pixels_per_crop_pixel, project, region
from .detail import keep_detail, match_surroundings
from .face import Faces


def paste(
    images: Tensor,
    crops: Tensor,
    faces: Faces,
    matrices: Tensor,
    masks: Tensor,
    visibility: float | Tensor = 1.0,
    keep: Tensor | None = None,
    detail: float = 0.0,
    match: float = 0.0,
    progress: Callable[[], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Blend crops into frames.

    Args:
        images: (B, 3, H, W) frames in [0, 1]; not changed.
        crops: (N, 3, S, S) in [0, 1].
        faces: whose `frames` say where each crop belongs.
        matrices: (N, 2, 3) crop pixels to frame pixels, see `alignment`.
        masks: (N or 1, 1, S, S) opacity of the crops in [0, 1].
        visibility: 0 shows the frame, 1 the crop; number or (N,).
        keep: (B or 1, 1, H, W) in [0, 1], where the frames may be changed at all: a user's mask.
        detail: how much of the frames' own detail is kept where it is finer than crops can hold, in [0, 1].
        match: how far crops take on the sharpness and grain of what surrounds them, in [0, 1].
        progress: called before every crop; may raise to stop.

    Returns:
        The frames, and their opacity (B, 1, H, W): what the crops' share of each pixel is. Where it is 0, pixels are
        bit-identical to the input. Both have the frames' dtype and device; blending is done in float32 on the
        crops' device.
    """
    visibilities = torch.as_tensor(visibility, dtype=torch.float32)
    if not ((visibilities >= 0) & (visibilities <= 1)).all():
        raise InputError(f"visibility must lie in [0, 1], got {visibility}.")
    visibilities = visibilities.expand(len(crops)).tolist()
    for name, value in (("detail", detail), ("match", match)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must lie in [0, 1], got {value}.")
    batch, _, height, width = images.shape
    if keep is not None and (keep.ndim != 4 or keep.shape[0] not in (1, batch) or keep.shape[1:] != (1, height, width)):
        raise InputError(f"the mask must have shape ({batch}, 1, {height}, {width}), got {tuple(keep.shape)}.")
    size = crops.shape[-1]
    pasted = images.clone()
    opacity = images.new_zeros(batch, 1, height, width)
    masks = masks.expand(len(crops), -1, -1, -1)
    scales = pixels_per_crop_pixel(matrices).tolist()
    for index, (frame, matrix) in enumerate(zip(faces.frames.tolist(), matrices, strict=True)):
        if progress is not None:
            progress()
        window = left, top, right, bottom = region(matrix, size, (height, width))
        if left == right:
            continue  # the crop lies wholly outside: there is nothing to paste on
        here = (slice(frame, frame + 1), slice(None), slice(top, bottom), slice(left, right))
        crop = crops[index : index + 1].float()
        mask = masks[index : index + 1].to(crop)
        face = project(crop, matrix, window).clamp(0, 1)
        share = project(mask, matrix, window, "bilinear", "zeros").clamp(0, 1)
        under = pasted[here].to(face)
        face = keep_detail(under, face, scales[index], detail)
        face = match_surroundings(under, face, share, match, seed=index).clamp(0, 1)
        share = share * visibilities[index]
        if keep is not None:
            allowed = keep[frame if len(keep) > 1 else 0, :, top:bottom, left:right]
            share = share * allowed.to(share)
        pasted[here] = torch.lerp(under, face, share).to(images)
        opacity[here] = opacity[here].maximum(share.to(opacity))
    return pasted, opacity
