"""Encode Face: aligned faces to features."""

import comfy.model_management as management
import torch
from comfy_api.latest import io

from ..iqpbfr_core.faces.report import numbered
from ..iqpbfr_core.image import resize
from ..iqpbfr_core.restorer import Features
from .detect import detect
from .layout import to_faces, to_images
from .memory import over_faces
from .progress import tell
from .schema import CATEGORY, search_aliases
from .sockets import FEATURES, RESTORER, FaceFeatures, LoadedRestorer

MIDDLE_SIZE = 256  # at which aligned faces are looked at
MIDDLE_CONFIDENCE = 0.3  # they may be in a bad state
NO_FACE = "Warning: no face in the middle. Cut one out with Detect Faces and Crop Faces, or use Restore Photo."


class EncodeFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_EncodeFace",
            display_name="Encode Face (IQP)",
            category=f"{CATEGORY}/blocks",
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
                ),
                report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, restorer: LoadedRestorer, image) -> io.NodeOutput:
        return io.NodeOutput(encode(restorer, image), tell(cls, look_for_faces(image)))


def report_output() -> io.String.Output:
    return io.String.Output("report", display_name="report", tooltip="Pictures without a face in the middle are named.")


def look_for_faces(image) -> str:
    """Whether aligned faces are what they should be: text for the node, since a picture without a face can be encoded, too."""
    images = resize(to_images(image), (MIDDLE_SIZE, MIDDLE_SIZE))
    faces = detect(None, images, confidence=MIDDLE_CONFIDENCE)
    has_face = torch.zeros(len(images), dtype=torch.bool)
    is_central = ((faces.centres - MIDDLE_SIZE / 2).abs() < MIDDLE_SIZE / 4).all(1) & (faces.widths > MIDDLE_SIZE / 4)
    has_face[faces.frames[is_central]] = True
    return numbered(tuple("face found" if has else NO_FACE for has in has_face.tolist()))


def encode(model: LoadedRestorer, image) -> FaceFeatures:
    """IMAGE to features, in chunks, kept where ComfyUI keeps results."""
    faces = to_faces(image, model.restorer.config.resolution)
    rest = management.intermediate_device()
    parts = over_faces(model, len(faces), lambda part: model.restorer.encode(faces[part]).to(rest))
    return FaceFeatures(model, Features.cat(parts))
