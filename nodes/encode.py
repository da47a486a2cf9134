"""Encode Face: aligned faces to features."""

from comfy_api.latest import io

from ..iqpbfr_core.restorer import Features
from .bridge import management, over_faces, to_faces
from .schema import CATEGORY, search_aliases
from .sockets import FEATURES, RESTORER, FaceFeatures, LoadedRestorer


class EncodeFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_EncodeFace",
            display_name="Encode Face",
            category=CATEGORY,
            description="See what is in a degraded face: the codebook encoder. Done once; quality is chosen afterwards.",
            **search_aliases("codebook encoder", "vq encode"),
            inputs=[
                RESTORER.Input("restorer", tooltip="From Load Face Restorer."),
                io.Image.Input(
                    "image", tooltip="Aligned, square faces of any size; they are resized to the model's resolution."
                ),
            ],
            outputs=[
                FEATURES.Output(
                    "features", display_name="features", tooltip="For Look Up Codes, Decode Face and Quality Sweep."
                )
            ],
        )

    @classmethod
    def execute(cls, restorer: LoadedRestorer, image) -> io.NodeOutput:
        return io.NodeOutput(encode(restorer, image))


def encode(model: LoadedRestorer, image) -> FaceFeatures:
    """IMAGE to features, in chunks, kept where ComfyUI keeps results."""
    faces = to_faces(image, model.restorer.config.resolution)
    rest = management.intermediate_device()
    parts = over_faces(model, len(faces), lambda part: model.restorer.encode(faces[part]).to(rest))
    return FaceFeatures(model, Features.cat(parts))
