"""Decode Face: codes to faces."""

import comfy.model_management as management
import torch
from comfy_api.latest import io
from torch import Tensor

from .layout import to_comfy
from .memory import over_faces
from .progress import Progress, tell
from .schema import CATEGORY, advanced, search_aliases
from .sockets import CODES, FEATURES, FaceCodes, FaceFeatures


def fidelity_input() -> io.Float.Input:
    return io.Float.Input(
        "fidelity",
        default=0.9,
        min=0.0,
        max=1.0,
        step=0.01,
        display_mode=io.NumberDisplay.slider,
        tooltip="0 = quality first, from the codes alone; 1 = as close to the input as the model can. RestoreFormer ignores it.",
    )


def adain_input() -> io.Boolean.Input:
    return advanced(
        io.Boolean.Input(
            "adain",
            display_name="follow input colours",
            default=True,
            tooltip="On: colours and contrast of the face follow the input, so that skin keeps its tone. Off: they are the model's own. (AdaIN)",
        )
    )


class DecodeFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_DecodeFace",
            display_name="Decode Face (IQP)",
            category=f"{CATEGORY}/blocks",
            description="Make faces from codes: the generator, with a fidelity knob towards the input.",
            **search_aliases("codebook decoder", "vq decode"),
            inputs=[
                CODES.Input("codes", tooltip="From Look Up Codes, Blend Codes or Load Codes."),
                FEATURES.Input("features", tooltip="From Encode Face: the faces these codes belong to."),
                fidelity_input(),
                adain_input(),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="Restored faces at the model's resolution.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, codes: FaceCodes, features: FaceFeatures, fidelity: float, adain: bool) -> io.NodeOutput:
        if notes := features.model.restorer.settings(None, fidelity, adain).notes:
            tell(cls, "\n".join(notes))
        return io.NodeOutput(to_comfy(decode(codes, features, fidelity, adain)))


def decode(
    chosen: FaceCodes, seen: FaceFeatures, fidelity: float, adain: bool, progress: Progress | None = None
) -> Tensor:
    """Codes to faces (B, 3, R, R), in chunks."""
    chosen.check_same_model(seen.model)
    restorer, rest = seen.model.restorer, management.intermediate_device()
    restorer.check_codes(chosen.codes, seen.features)
    settings = restorer.settings(fidelity=fidelity, adain=adain)

    def work(part: slice) -> Tensor:
        features = seen.features[part].to(restorer.device)
        return restorer.decode(chosen.codes[part].to(restorer.device), features, settings.fidelity, settings.adain).to(
            rest
        )

    return torch.cat(over_faces(seen.model, len(seen.features), work, progress))
