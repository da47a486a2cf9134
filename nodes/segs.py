"""Faces to SEGS and back, for the Impact Pack's filters and detailers."""

from comfy_api.latest import io
from torch import Tensor

from ..iqpbfr_core.faces.face import Faces
from ..iqpbfr_core.faces.segs import from_segs, to_segs
from ..iqpbfr_core.faces.segs import mask as mask_of
from .layout import to_images
from .schema import CATEGORY, search_aliases
from .sockets import FACES


class FacesToSegs(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_FacesToSegs",
            display_name="Faces to SEGS (IQP)",
            category=f"{CATEGORY}/faces",
            description="Hand detected faces to the Impact Pack: its SEGS filters, detailers and pasters take them.",
            **search_aliases("impact pack", "segs"),
            inputs=[
                io.Image.Input("image", tooltip="The photo the faces were found in; SEGS describe one image."),
                FACES.Input("faces", tooltip="From Detect Faces or Select Faces."),
                io.Float.Input(
                    "crop_factor",
                    default=3.0,
                    min=1.0,
                    max=10.0,
                    step=0.1,
                    tooltip="Side of the crop region, in sides of the face's box.",
                ),
            ],
            outputs=[io.SEGS.Output("segs", display_name="SEGS", tooltip="For the Impact Pack.")],
        )

    @classmethod
    def execute(cls, image: Tensor, faces: Faces, crop_factor: float) -> io.NodeOutput:
        return io.NodeOutput(to_segs(to_images(image), faces, crop_factor))


class SegsToFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_SegsToFaces",
            display_name="SEGS to Faces (IQP)",
            category=f"{CATEGORY}/faces",
            description="Take faces the Impact Pack found or filtered.",
            **search_aliases("impact pack", "segs"),
            inputs=[
                io.SEGS.Input("segs", tooltip="From the Impact Pack."),
                FACES.Input(
                    "detected",
                    optional=True,
                    tooltip="Optional: faces found in the same photo, for exact landmarks. Without them SEGS are taken for upright faces.",
                ),
            ],
            outputs=[
                FACES.Output("faces", display_name="faces", tooltip="For Crop and Paste Faces and Restore Photo."),
                io.Mask.Output("mask", display_name="mask", tooltip="All masks of the SEGS in one."),
            ],
        )

    @classmethod
    def execute(cls, segs: tuple, detected: Faces | None = None) -> io.NodeOutput:
        return io.NodeOutput(from_segs(segs, detected), mask_of(segs)[:, 0].clamp(0, 1))
