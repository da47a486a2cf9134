"""Look Up Codes: features and a wanted quality to codes."""

import comfy.model_management as management
from comfy_api.latest import io

from ..iqpbfr_core.restorer import Codes
from .memory import over_faces
from .progress import Progress, tell
from .schema import CATEGORY, advanced, search_aliases
from .sockets import CODES, FEATURES, FaceCodes, FaceFeatures


def quality_input(id: str = "quality", default: float = 1.0) -> io.Float.Input:
    """The knob of the method."""
    return io.Float.Input(
        id,
        default=default,
        min=0.0,
        max=1.0,
        step=0.01,
        display_mode=io.NumberDisplay.slider,
        tooltip="Wanted quality score, 1 = the best the model knows. Models without a score (CodeFormer, RestoreFormer) ignore it.",
    )


class LookUpCodes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_LookUpCodes",
            display_name="Look Up Codes (IQP)",
            category=f"{CATEGORY}/blocks",
            description="Predict the codes of a face of the wanted quality: the quality-conditioned Transformer lookup.",
            **search_aliases("quality lookup", "code prediction", "transformer lookup"),
            inputs=[
                FEATURES.Input("features", tooltip="From Encode Face."),
                quality_input(),
                advanced(
                    io.Float.Input(
                        "guidance",
                        display_name="quality push",
                        default=1.0,
                        min=0.0,
                        max=10.0,
                        step=0.1,
                        tooltip="Above 1 exaggerates what the wanted quality changes: crisper skin and hair, in the end overdone. 1 is off. Only the built-in kind of model has it, and models with a score adapter. (guidance)",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "alpha",
                        display_name="rich detail",
                        default=1.0,
                        min=0.0,
                        max=2.0,
                        step=0.05,
                        tooltip="How much the face is enriched by the high-quality codebook: 0 plain and soft, 1 as the model was trained, above that skin, hair and eyes get harder. No effect with one codebook. (alpha)",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "temperature",
                        default=0.0,
                        min=0.0,
                        max=2.0,
                        step=0.05,
                        tooltip="0 takes the likeliest code everywhere; above, codes are drawn and the face varies with the seed.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "seed",
                        default=0,
                        min=0,
                        max=2**31 - 1,
                        control_after_generate=False,
                        tooltip="Of the drawing; no effect at temperature 0.",
                    )
                ),
            ],
            outputs=[
                CODES.Output("codes", display_name="codes", tooltip="For Decode Face, Blend, Preview and Save Codes.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, features: FaceFeatures, quality: float, guidance: float, alpha: float, temperature: float, seed: int
    ) -> io.NodeOutput:
        if notes := features.model.restorer.settings(quality).notes:
            tell(cls, "\n".join(notes))
        return io.NodeOutput(look_up(features, quality, guidance, alpha, temperature, seed))


def look_up(
    seen: FaceFeatures,
    quality: float,
    guidance: float = 1.0,
    alpha: float = 1.0,
    temperature: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> FaceCodes:
    """Features to codes, in chunks; `alpha` in units of the model's own."""
    restorer, rest = seen.model.restorer, management.intermediate_device()

    def work(part: slice) -> Codes:
        features = seen.features[part].to(restorer.device)
        return restorer.lookup(features, quality, guidance, alpha * restorer.config.alpha, temperature, seed).to(rest)

    return FaceCodes(seen.model, Codes.cat(over_faces(seen.model, len(seen.features), work, progress)))
