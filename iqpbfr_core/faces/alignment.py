"""Aligned crops: the similarity that brings a face onto FFHQ's template, and sampling along it in both directions.

A matrix (2, 3) maps crop pixels to frame pixels. Both are measured from the edge (see the package's docstring), so one
template serves every crop size and a frame scaled by k needs nothing but its matrices scaled by k.
"""

from collections.abc import Callable
from math import ceil, floor

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .face import Faces

# facexlib's mean FFHQ face, as fractions of the crop's side: eyes, nose, corners of the mouth.
TEMPLATE = (
    torch.tensor(
        [
            [192.98138, 239.94708],
            [318.90277, 240.1936],
            [256.63416, 314.01935],
            [201.26117, 371.41043],
            [313.08905, 371.15118],
        ],
        dtype=torch.float64,
    )
    / 512
)
_MARGIN = 4  # frame pixels around a crop that bicubic sampling may reach


def align(faces: Faces, crop_size: int) -> Tensor:
    """(N, 2, 3) float64: crop pixels to frame pixels, the least-squares similarity of template and landmarks.

    Written as complex numbers, a similarity is q = a p + b, and its least-squares fit has a closed form (no
    reflections, no SVD). Raises InputError for a crop smaller than 16 pixels and for landmarks on one spot.
    """
    if crop_size < 16:
        raise InputError(f"crops must be at least 16 pixels wide, got {crop_size}.")
    p = torch.view_as_complex(TEMPLATE * crop_size)
    q = torch.view_as_complex(faces.landmarks.double().contiguous())
    p_mean, q_mean = p.mean(), q.mean(1)
    p_centred = p - p_mean
    a = ((q - q_mean[:, None]) * p_centred.conj()).sum(1) / p_centred.abs().square().sum()
    if len(faces) and float(a.abs().min()) * crop_size < 1:
        raise InputError("a face has all its landmarks on one spot: it cannot be aligned.")
    b = q_mean - a * p_mean
    rows = (torch.stack((a.real, -a.imag, b.real), -1), torch.stack((a.imag, a.real, b.imag), -1))
    return torch.stack(rows, 1)


def invert(matrices: Tensor) -> Tensor:
    """The opposite direction of affine maps (N, 2, 3)."""
    linear = torch.linalg.inv(matrices[:, :, :2])
    return torch.cat((linear, -linear @ matrices[:, :, 2:]), 2)


def rescale(matrices: Tensor, scale_x: float, scale_y: float) -> Tensor:
    """The matrices (N, 2, 3) for frames whose width and height were multiplied by these."""
    return matrices * torch.tensor((scale_x, scale_y), dtype=matrices.dtype)[:, None]


def pixels_per_crop_pixel(matrices: Tensor) -> Tensor:
    """(N,) how many frame pixels one crop pixel spans: above 1, cropping shrinks the face."""
    return matrices[:, :, :2].det().abs().sqrt()


def region(matrix: Tensor, crop_size: int, frame_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the frame's pixels that one crop touches; empty (0, 0, 0, 0) outside the frame."""
    side = float(crop_size)
    corners = torch.tensor([[0, 0], [side, 0], [0, side], [side, side]], dtype=matrix.dtype)
    points = corners @ matrix[:, :2].T + matrix[:, 2]
    (x0, y0), (x1, y1) = points.min(0).values.tolist(), points.max(0).values.tolist()
    height, width = frame_size
    left, top = max(0, floor(x0) - _MARGIN), max(0, floor(y0) - _MARGIN)
    right, bottom = min(width, ceil(x1) + _MARGIN), min(height, ceil(y1) + _MARGIN)
    return (left, top, right, bottom) if left < right and top < bottom else (0, 0, 0, 0)


def crop(
    images: Tensor,
    faces: Faces,
    crop_size: int,
    matrices: Tensor | None = None,
    device: torch.device | None = None,
    progress: Callable[[], None] | None = None,
) -> Tensor:
    """Aligned faces (N, 3, crop_size, crop_size) from frames (B, 3, H, W), bicubic, without aliasing.

    Args:
        images: the frames, [0, 1].
        faces: whose `frames` say which image each is in.
        crop_size: side in pixels.
        matrices: from `align`; computed when None.
        device: where to compute and leave the crops, None = the frames'. Only the faces' regions travel there.
        progress: called before every face; may raise to stop.

    What lies outside the frame is mirrored. The crops have the frames' dtype.
    """
    device = device or images.device
    matrices = align(faces, crop_size) if matrices is None else matrices
    size = (int(images.shape[2]), int(images.shape[3]))
    crops = [images.new_empty(0, images.shape[1], crop_size, crop_size, device=device)]
    for frame, matrix, scale in zip(faces.frames.tolist(), matrices, pixels_per_crop_pixel(matrices), strict=True):
        if progress is not None:
            progress()
        left, top, right, bottom = region(matrix, crop_size, size)
        if right - left < 2 or bottom - top < 2:
            raise InputError(f"a face lies outside its frame of {size[1]}x{size[0]} pixels.")
        patch = images[frame : frame + 1, :, top:bottom, left:right].to(device, torch.float32)
        shift = torch.tensor((left, top), dtype=matrix.dtype)
        local = torch.cat((matrix[:, :2], (matrix[:, 2] - shift)[:, None]), 1)
        is_whole = left > 0 and top > 0 and right < size[1] and bottom < size[0]
        outside = "border" if is_whole else "reflection"  # which takes twice as long, for nothing inside the frame
        drawn = sample(patch, local, (crop_size, crop_size), float(scale), outside=outside)
        crops.append(drawn.clamp(0, 1).to(images.dtype))
    return torch.cat(crops)


def project(
    crop: Tensor, matrix: Tensor, window: tuple[int, int, int, int], mode: str = "bicubic", outside: str = "border"
) -> Tensor:
    """The opposite of `crop`: (1, C, S, S) as it looks in a window of the frame, (1, C, bottom - top, right - left).

    Args:
        crop: float32.
        matrix: (2, 3) crop pixels to frame pixels.
        window: left, top, right, bottom in frame pixels.
        mode, outside: see `sample`.
    """
    left, top, right, bottom = window
    inverse = invert(matrix[None])[0]
    corner = torch.tensor((left, top), dtype=inverse.dtype)
    local = torch.cat((inverse[:, :2], (inverse[:, 2] + inverse[:, :2] @ corner)[:, None]), 1)
    shrink = float(1 / pixels_per_crop_pixel(matrix[None])[0])
    return sample(crop, local, (bottom - top, right - left), shrink, mode, outside)


def sample(
    source: Tensor,
    matrix: Tensor,
    size: tuple[int, int],
    shrink: float,
    mode: str = "bicubic",
    outside: str = "reflection",
) -> Tensor:
    """Draw a picture of `size` from `source` (1, C, h, w), float32.

    Args:
        source: what to draw from.
        matrix: (2, 3) drawn pixels to source pixels.
        size: (H, W) of the result.
        shrink: source pixels per drawn pixel. Above 1 the source is first reduced by it with an anti-aliasing filter.
        mode: "bicubic" or "bilinear".
        outside: what to take beyond the source's edge, in grid_sample's words: "reflection", "border", "zeros".
    """
    height, width = source.shape[2:]
    if shrink > 1:
        reduced = max(2, round(height / shrink)), max(2, round(width / shrink))
        source = F.interpolate(source, size=reduced, mode="bicubic", antialias=True, align_corners=False)
    # From here on positions are fractions of the source in [-1, 1], which its reduction does not change.
    to_fraction = 2 / torch.tensor([[width], [height]], dtype=matrix.dtype)
    theta = (matrix * to_fraction).to(device=source.device, dtype=torch.float32)
    a, b, c = theta[:, :, None, None].unbind(1)  # (2, 1, 1) each: for both coordinates
    y = torch.arange(size[0], device=source.device)[:, None] + 0.5
    x = torch.arange(size[1], device=source.device) + 0.5
    grid = (a * x + (b * y + (c - 1))).permute(1, 2, 0)  # two planes are several times as fast as pairs
    return F.grid_sample(source, grid[None], mode=mode, padding_mode=outside, align_corners=False)
