"""Restore Aligned Face: encode, look up and decode in one node."""

import torch
from comfy_api.latest import io

from .decode import adain_input, fidelity_input
from .encode import look_for_faces, report_output
from .layout import to_comfy, to_faces
from .lookup import quality_input
from .memory import over_faces
from .progress import tell
from .schema import CATEGORY, search_aliases
from .shown import compare, comparison_output
from .sockets import RESTORER, LoadedRestorer


class RestoreAlignedFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_RestoreAlignedFace",
            display_name="Restore Aligned Face (IQP)",
            category=f"{CATEGORY}/restore",
            description="Restore aligned faces in one go: Encode Face, Look Up Codes and Decode Face together.",
            **search_aliases("face restore", "codeformer", "gfpgan"),
            inputs=[
                RESTORER.Input("restorer", tooltip="From Load Face Restorer."),
                io.Image.Input("image", tooltip="Aligned, square faces of any size."),
                quality_input(),
                fidelity_input(),
                adain_input(),
            ],
            outputs=[
                io.Image.Output("restored", display_name="image", tooltip="Restored faces at the model's resolution."),
                report_output(),
                comparison_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, restorer: LoadedRestorer, image, quality: float, fidelity: float, adain: bool) -> io.NodeOutput:
        model, faces = restorer.restorer, to_faces(image, restorer.restorer.config.resolution)
        model.check_task("restore")
        settings = model.settings(quality, fidelity, adain)
        parts = over_faces(
            restorer,
            len(faces),
            lambda part: model.restore(faces[part], quality, settings.fidelity, adain=settings.adain).cpu(),
        )
        restored = torch.cat(parts)
        said = tell(cls, "\n".join([look_for_faces(image), *settings.notes]))
        return io.NodeOutput(to_comfy(restored), said, compare(faces, restored))
