"""Restore Photo: find, align, restore and paste all faces in one node."""

from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker
from torch import Tensor

from ..iqpbfr_core.faces.face import Faces
from ..iqpbfr_core.faces.report import numbered
from ..iqpbfr_core.faces.settings import FaceSettings
from ..iqpbfr_core.pipeline import restore_photo
from .decode import adain_input, fidelity_input
from .detect import detect_once
from .layout import check_mask, to_comfy, to_images
from .lookup import quality_input
from .memory import chunk_size, load_weights, on_device
from .paste import detail_input, feather_input, keep_colour_input, match_input, visibility_input
from .progress import Progress, stopping, tell
from .schema import CATEGORY, advanced, search_aliases
from .shown import compare, comparison_output
from .sockets import DETECTOR, FACE_SETTINGS, FACES, PARSER, RESTORER, LoadedNetwork, LoadedRestorer


class RestorePhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_RestorePhoto",
            display_name="Restore Photo (IQP)",
            category=f"{CATEGORY}/restore",
            description="Restore all faces of photos or video frames: detect, align, restore in batches, paste back.",
            **search_aliases("face restore", "old photo", "reactor", "codeformer", "gfpgan", "video"),
            inputs=[
                RESTORER.Input("restorer", tooltip="From Load Face Restorer."),
                io.Image.Input("image", tooltip="Photos or frames of any size; the result has the same size."),
                quality_input(),
                fidelity_input(),
                adain_input(),
                advanced(
                    io.Int.Input(
                        "min_size",
                        default=24,
                        min=1,
                        max=8192,
                        tooltip="Faces narrower than this many pixels are left alone.",
                    )
                ),
                feather_input(),
                visibility_input(),
                keep_colour_input(),
                io.Float.Input(
                    "video_smoothing",
                    default=0.0,
                    min=0.0,
                    max=30.0,
                    step=0.5,
                    tooltip="Above 0 the images are consecutive frames: faces follow paths smoothed over so many frames, and codes change only for a reason. 0 for photos.",
                ),
                DETECTOR.Input(
                    "detector",
                    optional=True,
                    tooltip="Optional: another detector than the built-in one, from Load Face Detector.",
                ),
                FACES.Input(
                    "faces", optional=True, tooltip="Optional: restore only these, from Detect Faces or Select Faces."
                ),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="Optional: the same photos from any upscaler; faces are pasted into it, at its size.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Optional: where the photo may be changed at all; an inpainting restorer fills it.",
                ),
                PARSER.Input(
                    "parser", optional=True, tooltip="Optional: paste face and hair only, as ParseNet sees them."
                ),
                detail_input(),
                match_input(),
                advanced(
                    io.Float.Input(
                        "skip_above",
                        default=1.0,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        display_mode=io.NumberDisplay.slider,
                        optional=True,
                        tooltip="Faces whose score by the built-in metric is at least this are left alone; 1 restores all.",
                    )
                ),
                FACE_SETTINGS.Input(
                    "settings",
                    optional=True,
                    tooltip="Optional: quality, fidelity and visibility of single faces, from Face Settings.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "photo",
                    display_name="image",
                    tooltip="The photos with their faces restored. Without a face, as they were.",
                ),
                io.Mask.Output(
                    "pasted", display_name="mask", tooltip="How much of each pixel comes from a restored face."
                ),
                io.Image.Output(
                    "restored",
                    display_name="restored faces",
                    tooltip="The restored crops. Nothing downstream runs when there is no face.",
                ),
                FACES.Output("restored_faces", display_name="faces", tooltip="The faces that were restored."),
                io.String.Output("report", display_name="report", tooltip="What happened, picture by picture."),
                comparison_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        restorer: LoadedRestorer,
        image: Tensor,
        quality: float,
        fidelity: float,
        adain: bool,
        min_size: int,
        feather: float,
        visibility: float,
        keep_colour: bool,
        video_smoothing: float,
        detector: LoadedNetwork | None = None,
        faces: Faces | None = None,
        background: Tensor | None = None,
        mask: Tensor | None = None,
        parser: LoadedNetwork | None = None,
        detail: float = 1.0,
        match: float = 0.0,
        skip_above: float = 1.0,
        settings: tuple[FaceSettings, ...] = (),
    ) -> io.NodeOutput:
        images = to_images(image)
        if faces is None:
            faces = detect_once(detector, image)
        understood = restorer.restorer.settings(quality, fidelity, adain)
        progress = Progress(max(1, len(faces)))
        load_weights(restorer, len(faces))
        with on_device(parser) as ready, stopping(ready):
            result = restore_photo(
                images,
                restorer.restorer,
                faces=faces,
                quality=quality,
                fidelity=understood.fidelity,
                adain=understood.adain,
                min_size=min_size,
                background=None if background is None else to_images(background),
                parser=ready,
                feather=feather,
                mask=check_mask(mask, len(images), faces.size),
                visibility=visibility,
                keep_colour=keep_colour,
                smoothing=video_smoothing,
                batch_size=chunk_size(restorer.restorer),
                progress=progress.set,
                detail=detail,
                match=match,
                skip_above=skip_above if skip_above < 1 else None,
                settings=settings,
            )
        restored = to_comfy(result.restored) if len(result.restored) else ExecutionBlocker(None)
        said = tell(cls, "\n".join([numbered(result.report), *understood.notes]))
        return io.NodeOutput(
            to_comfy(result.image),
            result.mask[:, 0].cpu(),
            restored,
            result.faces,
            said,
            compare(images, result.image),
        )
