"""Example Picture: what comes with the extension, so that every workflow runs as it opens."""

from pathlib import Path

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..iqpbfr_core.image import read_image
from .layout import to_comfy
from .schema import CATEGORY, check_choice, search_aliases

FOLDER = Path(__file__).parents[1] / "pictures"
FACE, GROUP_PHOTO, CLIP = PICTURES = ("face", "group photo", "short clip")


class ExamplePicture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_ExamplePicture",
            display_name="Example Picture (IQP)",
            category=f"{CATEGORY}/loaders",
            description="A picture to try things on. Put Load Image, or Load Video, in its place for your own.",
            **search_aliases("sample image", "test image", "demo"),
            is_output_node=True,  # so that the page shows the picture again after a run in which nothing has changed
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=list(PICTURES),
                    tooltip="face: an aligned, square one. group photo: an old print of five people. short clip: eight frames of it.",
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="One picture, or the frames of the clip."),
            ],
        )

    @classmethod
    def validate_inputs(cls, picture: str) -> bool | str:
        return check_choice("picture", picture, list(PICTURES)) or True

    @classmethod
    def execute(cls, picture: str) -> io.NodeOutput:
        image = read_image(FOLDER / ("face.png" if picture == FACE else "group_photo.jpg"))
        shown = to_comfy(clip(image) if picture == CLIP else image)
        return io.NodeOutput(shown, ui=ui.PreviewImage(shown, cls=cls))


def clip(photo: Tensor, num_frames: int = 8, size: tuple[int, int] = (288, 416)) -> Tensor:
    """(num_frames, 3, *size): a camera passes over the photo (1, 3, H, W), and every frame has grain of its own."""
    height, width = size
    top, first, last = 160, 280, 400  # along the people in the middle
    generator = torch.Generator().manual_seed(0)
    frames = []
    for left in torch.linspace(first, last, num_frames).round().int().tolist():
        view = photo[:, :, top : top + height, left : left + width]
        grain = torch.randn(1, 1, *view.shape[2:], generator=generator) * (4 / 255)
        frames.append((view + grain).clamp(0, 1))
    return torch.cat(frames)
