"""Load Face Parser, Crop Faces, Paste Faces."""

import comfy.model_management as management
import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..iqpbfr_core.errors import InputError
from ..iqpbfr_core.faces import alignment
from ..iqpbfr_core.faces.colour import match_colour
from ..iqpbfr_core.faces.face import Faces
from ..iqpbfr_core.faces.masks import FEATHER, load_parser, template_mask
from ..iqpbfr_core.faces.paste import paste
from ..iqpbfr_core.faces.weights import PARSENET
from ..iqpbfr_core.image import resize
from .folders import DETECTION_FOLDER, naming_the_switch
from .layout import check_mask, to_comfy, to_images
from .memory import load_managed, on_device
from .progress import Progress, stopping
from .schema import CATEGORY, advanced, search_aliases
from .sockets import FACES, PARSER, LoadedNetwork


class LoadParser(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_LoadParser",
            display_name="Load Face Parser (IQP)",
            category=f"{CATEGORY}/loaders",
            description="Load facexlib's ParseNet, which tells face and hair from background, hat and clothes.",
            **search_aliases("parsenet", "face segmentation"),
            inputs=[
                io.Boolean.Input(
                    "allow_download",
                    default=False,
                    tooltip="Let parsing_parsenet.pth be downloaded into models/facedetection and checked. Off: nothing touches the network.",
                ),
            ],
            outputs=[PARSER.Output("parser", display_name="parser", tooltip="For Paste Faces and Restore Photo.")],
        )

    @classmethod
    def execute(cls, allow_download: bool) -> io.NodeOutput:
        found = folder_paths.get_full_path(DETECTION_FOLDER, PARSENET.name)
        folder = folder_paths.get_folder_paths(DETECTION_FOLDER)[0]
        with naming_the_switch():
            parser = load_managed(
                "ParseNet", load_parser, found, folder=folder, download=allow_download, progress=Progress(1).set
            )
        return io.NodeOutput(parser)


class CropFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_CropFaces",
            display_name="Crop Faces (IQP)",
            category=f"{CATEGORY}/faces",
            description="Cut faces out, turned upright and scaled onto the template that restorers were trained with.",
            **search_aliases("align faces", "warp faces"),
            inputs=[
                io.Image.Input("image", tooltip="The photos the faces were found in."),
                FACES.Input("faces", tooltip="From Detect Faces or Select Faces."),
                io.Int.Input(
                    "crop_size",
                    default=512,
                    min=16,
                    max=4096,
                    step=16,
                    tooltip="Side of the square crops; 512 for CodeFormer and its kin.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "crops",
                    display_name="crops",
                    tooltip="One aligned face after the other, for Encode Face or any other node.",
                )
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, faces: Faces, crop_size: int) -> io.NodeOutput:
        images = to_images(image)
        faces.check_belong(images)
        if not len(faces):
            raise InputError(
                "there is no face to crop. Lower confidence or min_size in Detect Faces, or use Restore Photo, which "
                "passes pictures without faces through."
            )
        device, ask = management.get_torch_device(), management.throw_exception_if_processing_interrupted
        return io.NodeOutput(to_comfy(alignment.crop(images, faces, crop_size, device=device, progress=ask)))


def feather_input() -> io.Float.Input:
    return advanced(
        io.Float.Input(
            "feather",
            default=FEATHER,
            min=0.01,
            max=1.0,
            step=0.01,
            display_mode=io.NumberDisplay.slider,
            tooltip="How softly the face fades into the photo, as a share of half the crop's side.",
        )
    )


def visibility_input() -> io.Float.Input:
    return io.Float.Input(
        "visibility",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        display_mode=io.NumberDisplay.slider,
        tooltip="0 shows the photo, 1 the restored face.",
    )


def keep_colour_input() -> io.Boolean.Input:
    return advanced(
        io.Boolean.Input(
            "keep_colour", default=False, tooltip="Give every restored face the tones it had in the photo."
        )
    )


def detail_input() -> io.Float.Input:
    return advanced(
        io.Float.Input(
            "detail",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            display_mode=io.NumberDisplay.slider,
            optional=True,
            tooltip="Faces larger than the model: how much of the photo's own finest detail is kept, 0 none, 1 all that is not noise.",
        )
    )


def match_input() -> io.Float.Input:
    return advanced(
        io.Float.Input(
            "match",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            display_mode=io.NumberDisplay.slider,
            optional=True,
            tooltip="How far faces take on the sharpness and grain of the photo around them.",
        )
    )


class PasteFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_PasteFaces",
            display_name="Paste Faces (IQP)",
            category=f"{CATEGORY}/faces",
            description="Put aligned faces back where they came from, without a seam. Pixels outside the mask stay exactly as they are.",
            **search_aliases("paste back", "unwarp faces"),
            inputs=[
                io.Image.Input("image", tooltip="The photos the faces were found in, or the same photos upscaled."),
                io.Image.Input("crops", tooltip="Restored faces, in the order of Crop Faces, of any size."),
                FACES.Input("faces", tooltip="The faces the crops were cut from."),
                feather_input(),
                visibility_input(),
                keep_colour_input(),
                io.Mask.Input("mask", optional=True, tooltip="Optional: where the photo may be changed at all."),
                PARSER.Input(
                    "parser", optional=True, tooltip="Optional: paste face and hair only, as ParseNet sees them."
                ),
                detail_input(),
                match_input(),
            ],
            outputs=[
                io.Image.Output("photo", display_name="image", tooltip="The photos with the faces in them."),
                io.Mask.Output(
                    "pasted", display_name="mask", tooltip="How much of each pixel comes from a restored face."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        crops: Tensor,
        faces: Faces,
        feather: float,
        visibility: float,
        keep_colour: bool,
        mask: Tensor | None = None,
        parser: LoadedNetwork | None = None,
        detail: float = 1.0,
        match: float = 0.0,
    ) -> io.NodeOutput:
        images, restored = to_images(image), to_images(crops)
        if len(restored) != len(faces):
            raise InputError(
                f"there are {len(restored)} crops for {len(faces)} faces; give the crops of just these faces, in order."
            )
        side = restored.shape[-1]
        if restored.shape[-2] != side:
            raise InputError(
                f"crops are square, these are {side}x{restored.shape[-2]}. Do not change their proportions between crop and paste."
            )
        scale_x, scale_y = faces.scale_in(images)
        device = management.get_torch_device()
        restored = restored.to(device)
        matrices = alignment.rescale(alignment.align(faces, side), scale_x, scale_y)
        if keep_colour:
            restored = match_colour(restored, alignment.crop(images, faces, side, matrices, device))
        if parser is None:
            shown = template_mask(side, feather, device)
        else:
            with on_device(parser) as ready, stopping(ready):
                shown = ready(restored, feather)
        size = (images.shape[2], images.shape[3])
        allowed = check_mask(mask, len(images), faces.size, size)
        allowed = None if allowed is None else resize(allowed, size)
        ask = management.throw_exception_if_processing_interrupted
        pasted, opacity = paste(
            images, restored, faces, matrices, shown, visibility, allowed, detail, match, progress=ask
        )
        return io.NodeOutput(to_comfy(pasted), opacity[:, 0])
