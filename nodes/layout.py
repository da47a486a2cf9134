"""Between ComfyUI's tensors and the core's: IMAGE (B, H, W, C) and MASK (B, H, W), to and from (B, C, H, W) in [0, 1]."""

import comfy.model_management as management
from torch import Tensor

from ..iqpbfr_core.errors import InputError
from ..iqpbfr_core.faces import alignment
from ..iqpbfr_core.faces.face import Faces
from ..iqpbfr_core.faces.masks import template_mask
from ..iqpbfr_core.faces.paste import paste
from ..iqpbfr_core.image import MIN_SIDE, check_images, resize
from ..iqpbfr_core.image import check_mask as check_shares


def to_images(image: Tensor) -> Tensor:
    """IMAGE (B, H, W, C) to (B, 3, H, W) float32; an alpha channel is dropped, a grey one repeated."""
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise InputError(f"an IMAGE must have shape (B, H, W, 3), got {tuple(image.shape)}.")
    channels = image[..., :3].movedim(-1, 1).float()
    channels = channels.expand(-1, 3, -1, -1) if channels.shape[1] == 1 else channels
    low, high = channels.aminmax() if channels.numel() else (0, 1)
    is_overshot = low > -0.5 and high < 1.5  # as sharpening and upscaling do; NaN is not, nor is another range
    return check_images(channels.clamp(0, 1) if is_overshot else channels, "the image")


def to_faces(image: Tensor, side: int) -> Tensor:
    """IMAGE of aligned, square faces to (B, 3, side, side)."""
    images = to_images(image)
    height, width = images.shape[2:]
    if height != width:
        raise InputError(
            f"aligned faces are square, this image is {width}x{height}. Crop the face first (at least {MIN_SIDE} px)."
        )
    return resize(images, (side, side))


def to_comfy(images: Tensor) -> Tensor:
    """(B, 3, H, W) to IMAGE (B, H, W, 3), on the device ComfyUI keeps results on."""
    return images.float().movedim(1, -1).contiguous().to(management.intermediate_device())


def to_mask(images: Tensor, faces: Faces) -> Tensor:
    """MASK (B, H, W) of what restoring these faces of (B, 3, H, W) would touch."""
    side = 256
    white = images.new_ones(len(faces), 3, side, side)
    return paste(images, white, faces, alignment.align(faces, side), template_mask(side))[1][:, 0]


def check_mask(mask: Tensor | None, count: int, *sizes: tuple[int, int]) -> Tensor | None:
    """MASK (1 or `count`, H, W) of one of the `sizes` (H, W) to (1 or count, 1, H, W) in [0, 1]; None if there is none.

    Load Image gives an empty mask of 64 x 64 with pictures that have no transparency: that is none, too.
    """
    if mask is None or (mask.shape[-2:] == (64, 64) and not mask.any()):
        return None
    if mask.ndim != 3 or len(mask) not in (1, count):
        raise InputError(f"the mask must be one, or one for each of {count} images; got shape {tuple(mask.shape)}.")
    if tuple(mask.shape[1:]) not in sizes:
        height, width = sizes[0]
        raise InputError(
            f"the mask is {mask.shape[2]}x{mask.shape[1]} pixels, the photo {width}x{height}. Paint it on this photo, or "
            "bring it to that size (Convert Mask to Image, Upscale Image, Convert Image to Mask)."
        )
    return check_shares(mask[:, None].float())
