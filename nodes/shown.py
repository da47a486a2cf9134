"""Pictures that nodes show on themselves, and before beside after: small, whatever the photos' size."""

from comfy_api.latest import io, ui
from torch import Tensor

from ..iqpbfr_core.figure import side_by_side
from ..iqpbfr_core.image import resize
from .layout import to_comfy

MAX_COUNT = 16
MAX_SIDE = 1024


def small(images: Tensor) -> Tensor:
    """(B, 3, H, W) with a longer side of at most MAX_SIDE."""
    height, width = images.shape[2:]
    scale = MAX_SIDE / max(height, width)
    return images if scale >= 1 else resize(images, (max(1, round(height * scale)), max(1, round(width * scale))))


def on_node(node: type[io.ComfyNode], *batches: Tensor) -> dict[str, list]:
    """What NodeOutput takes as `ui`: the first MAX_COUNT pictures of batches (B, 3, H, W), shown on the node."""
    saved = [ui.PreviewImage(to_comfy(small(batch[:MAX_COUNT])), cls=node).values for batch in batches]
    return {"images": [picture for batch in saved for picture in batch]}


def comparison_output() -> io.Image.Output:
    return io.Image.Output(
        "comparison",
        display_name="comparison",
        tooltip="Before on the left, after on the right, each at most 1024 pixels long.",
    )


def compare(before: Tensor, after: Tensor) -> Tensor:
    """(B, 3, H, W) twice, of any size each, to one IMAGE: before on the left, after on the right."""
    return to_comfy(side_by_side(before.cpu(), small(after.cpu())))
