"""Colorize Face, Inpaint Face: what models of other tasks than restoring are for."""

import torch
from comfy_api.latest import io
from torch import Tensor

from ..iqpbfr_core.image import resize
from .layout import check_mask, to_comfy, to_faces, to_images
from .memory import over_faces
from .schema import CATEGORY, search_aliases
from .sockets import RESTORER, LoadedRestorer


class ColorizeFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_ColorizeFace",
            display_name="Colorize Face (IQP)",
            category=f"{CATEGORY}/restore",
            description="Give grey or sepia faces colour, with a model trained for it, such as codeformer_colorization.pth.",
            **search_aliases("colorization", "black and white", "old photo"),
            inputs=[
                RESTORER.Input("restorer", tooltip="From Load Face Restorer: a colorizing model."),
                io.Image.Input(
                    "image", tooltip="Aligned, square faces of any size; their own colour is not looked at."
                ),
            ],
            outputs=[
                io.Image.Output("colorized", display_name="image", tooltip="Coloured faces at the model's resolution.")
            ],
        )

    @classmethod
    def execute(cls, restorer: LoadedRestorer, image: Tensor) -> io.NodeOutput:
        model = restorer.restorer
        model.check_task("colorize")
        faces = to_faces(image, model.config.resolution)
        parts = over_faces(restorer, len(faces), lambda part: to_comfy(model.colorize(faces[part])))
        return io.NodeOutput(torch.cat(parts))


class InpaintFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_InpaintFace",
            display_name="Inpaint Face (IQP)",
            category=f"{CATEGORY}/restore",
            description="Fill scratched or covered parts of faces, with a model trained for it, such as codeformer_inpainting.pth.",
            **search_aliases("inpainting", "scratches", "remove"),
            inputs=[
                RESTORER.Input("restorer", tooltip="From Load Face Restorer: an inpainting model."),
                io.Image.Input("image", tooltip="Aligned, square faces of any size."),
                io.Mask.Input("mask", tooltip="White where the face is to be filled, painted in the mask editor."),
            ],
            outputs=[
                io.Image.Output(
                    "inpainted",
                    display_name="image",
                    tooltip="The faces at the model's resolution, filled where the mask is white and as they were elsewhere.",
                )
            ],
        )

    @classmethod
    def execute(cls, restorer: LoadedRestorer, image: Tensor, mask: Tensor) -> io.NodeOutput:
        model = restorer.restorer
        model.check_task("inpaint")
        side = model.config.resolution
        faces, size = to_faces(image, side), to_images(image).shape[2:]
        where = check_mask(mask, len(faces), (int(size[0]), int(size[1])))
        fill = torch.zeros(1, 1, side, side) if where is None else resize(where, (side, side))
        fill = fill.expand(len(faces), -1, -1, -1)
        parts = over_faces(restorer, len(faces), lambda part: to_comfy(model.inpaint(faces[part], fill[part])))
        return io.NodeOutput(torch.cat(parts))
