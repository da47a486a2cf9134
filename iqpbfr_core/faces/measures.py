"""What the eye objects to in a pasted face, as numbers: seams around it, and flicker from frame to frame."""

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError


def seam(before: Tensor, after: Tensor, band: int = 2) -> float:
    """How abruptly a paste ends: the mean change of the outermost pixels that were changed, 0 = it fades out.

    Args:
        before, after: (B, 3, H, W) frames without and with the paste, [0, 1].
        band: how many pixels from the edge of the changed area inwards count as outermost.
    """
    if before.shape != after.shape:
        raise InputError(f"a seam needs two images of one shape, got {tuple(before.shape)} and {tuple(after.shape)}.")
    change = (after - before).abs().amax(1, keepdim=True).float()
    changed = (change > 0).float()
    # Holes where a crop happens to equal the frame are no edge; the frame's own border is none either.
    closed = -F.max_pool2d(-F.max_pool2d(changed, 5, 1, 2), 5, 1, 2)
    inner = -F.max_pool2d(-F.pad(closed, [band] * 4, value=1.0), 2 * band + 1, 1)
    edge = (closed - inner).clamp(min=0)
    return float((change * edge).sum() / edge.sum().clamp(min=1))


def flicker(frames: Tensor) -> float:
    """Mean change between consecutive frames (T, 3, H, W) of a thing that stands still, in [0, 1].

    Bring a moving thing to rest first: cut it out along its true motion.
    """
    if frames.ndim != 4 or len(frames) < 2:
        raise InputError(f"flicker needs at least 2 frames (T, 3, H, W), got {tuple(frames.shape)}.")
    return float((frames[1:].float() - frames[:-1].float()).abs().mean())
