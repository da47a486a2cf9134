"""Load Face Detector, Detect Faces, Select Faces."""

import functools

import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..iqpbfr_core.checkpoint import BUILTIN
from ..iqpbfr_core.faces import report, selection
from ..iqpbfr_core.faces.detection import DETECTOR_FILES, DETECTORS, load_detector
from ..iqpbfr_core.faces.face import Faces
from ..iqpbfr_core.faces.remembered import RememberedFaces
from ..iqpbfr_core.faces.report import numbered
from .folders import DETECTION_FOLDER, face_files, naming_the_switch
from .layout import check_mask, to_comfy, to_images, to_mask
from .memory import load_managed, on_device
from .progress import Progress, stopping, tell
from .schema import CATEGORY, advanced, check_choice, search_aliases
from .shown import on_node
from .sockets import DETECTOR, FACES, LoadedNetwork

FILE_MARK = "file: "
FRAMES_AT_ONCE = 8
FOUND = RememberedFaces()


def detector_choices() -> list[str]:
    """The built-in detector, the named ones, and the files users have beside them."""
    return [BUILTIN, *DETECTORS, *(FILE_MARK + name for name in face_files())]


class LoadDetector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_LoadDetector",
            display_name="Load Face Detector (IQP)",
            category=f"{CATEGORY}/loaders",
            description="Load RetinaFace, which finds faces and their eyes, nose and mouth.",
            **search_aliases("retinaface", "face detection model"),
            inputs=[
                io.Combo.Input(
                    "detector_name",
                    options=detector_choices(),
                    default=BUILTIN,
                    tooltip="builtin is part of this extension. The weights of the others lie in models/facedetection, where other face restoration packs keep them too.",
                ),
                io.Boolean.Input(
                    "allow_download",
                    default=False,
                    tooltip="Let missing weights be downloaded into models/facedetection and checked. Off: nothing touches the network.",
                ),
            ],
            outputs=[
                DETECTOR.Output("detector", display_name="detector", tooltip="For Detect Faces and Restore Photo.")
            ],
        )

    @classmethod
    def validate_inputs(cls, detector_name: str) -> bool | str:
        known = DETECTOR_FILES.get(detector_name, detector_name)
        return check_choice("detector_name", known, detector_choices()) or True

    @classmethod
    def execute(cls, detector_name: str, allow_download: bool) -> io.NodeOutput:
        detector_name = DETECTOR_FILES.get(detector_name, detector_name)
        if detector_name == BUILTIN:
            return io.NodeOutput(builtin_detector())
        if detector_name.startswith(FILE_MARK):
            path = folder_paths.get_full_path_or_raise(DETECTION_FOLDER, detector_name.removeprefix(FILE_MARK))
            return io.NodeOutput(load_managed(detector_name, load_detector, path))
        folders = folder_paths.get_folder_paths(DETECTION_FOLDER)
        found = folder_paths.get_full_path(DETECTION_FOLDER, DETECTORS[detector_name].name)
        with naming_the_switch():
            source = found or detector_name
            loaded = load_managed(
                detector_name,
                load_detector,
                source,
                folder=folders[0],
                download=allow_download,
                progress=Progress(1).set,
            )
        return io.NodeOutput(loaded)


@functools.cache
def builtin_detector() -> LoadedNetwork:
    """The detector that is part of this extension, loaded once."""
    return load_managed(BUILTIN, load_detector)


def detect(loaded: LoadedNetwork | None, images: Tensor, **options: float) -> Faces:
    """Find the faces of (B, 3, H, W), with the built-in detector if none is given; `options` as the detector takes them."""
    progress = Progress(len(images))
    found = []
    with on_device(loaded or builtin_detector()) as detector, stopping(detector):
        for frames in images.split(FRAMES_AT_ONCE):
            found.append(detector(frames, **options))
            progress.advance(len(frames))
    return Faces.of_frames(found)


def detect_once(loaded: LoadedNetwork | None, image: Tensor) -> Faces:
    """`detect` on an IMAGE, unless its faces are known: ComfyUI passes the same tensor again when only a slider moved."""
    detector = loaded or builtin_detector()
    return FOUND.get(image, detector, lambda: detect(detector, to_images(image)))


class DetectFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_DetectFaces",
            display_name="Detect Faces (IQP)",
            category=f"{CATEGORY}/faces",
            description="Find all faces of photos or frames, large and small, each once.",
            **search_aliases("find faces", "face bbox", "retinaface"),
            is_output_node=True,  # so that it runs, and shows its picture, without a node behind it
            inputs=[
                DETECTOR.Input(
                    "detector", optional=True, tooltip="From Load Face Detector. Without one, the built-in one is used."
                ),
                io.Image.Input("image", tooltip="Photos or video frames of any size."),
                io.Float.Input(
                    "confidence",
                    default=0.8,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How sure the detector must be. Lower finds more, and more that is no face.",
                ),
                io.Int.Input(
                    "min_size",
                    default=10,
                    min=1,
                    max=8192,
                    tooltip="Narrower faces are left out, in pixels of the photo.",
                ),
                advanced(
                    io.Int.Input(
                        "detection_size",
                        default=640,
                        min=64,
                        max=4096,
                        step=32,
                        tooltip="Longest side, in pixels, at which the photo is looked at. Bounds memory, whatever the photo's size.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "detail",
                        default=2.0,
                        min=0.0,
                        max=16.0,
                        step=0.5,
                        tooltip="A second, tiled pass looks up to this many times closer and finds small faces; 1 and less turn it off.",
                    )
                ),
            ],
            outputs=[
                FACES.Output(
                    "faces", display_name="faces", tooltip="For Select, Crop and Paste Faces and Restore Photo."
                ),
                io.Image.Output("preview", display_name="preview", tooltip="The photos with numbered boxes."),
                io.Int.Output("count", display_name="count", tooltip="How many faces there are in all frames."),
                io.Mask.Output("mask", display_name="mask", tooltip="What restoring these faces would touch."),
                io.String.Output("report", display_name="report", tooltip="What was found, picture by picture."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        confidence: float,
        min_size: int,
        detection_size: int,
        detail: float,
        detector: LoadedNetwork | None = None,
    ) -> io.NodeOutput:
        images = to_images(image)
        found = detect(detector, images, confidence=confidence, min_size=min_size, size=detection_size, detail=detail)
        faces = selection.sort(found, "left_to_right")
        said = tell(cls, numbered(report.found(faces)))
        preview = selection.preview(images, faces)
        return io.NodeOutput(
            faces, to_comfy(preview), len(faces), to_mask(images, faces), said, ui=on_node(cls, preview)
        )


class SelectFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_SelectFaces",
            display_name="Select Faces (IQP)",
            category=f"{CATEGORY}/faces",
            description="Choose which faces go on: the largest, the third from the left, those under a mask.",
            **search_aliases("filter faces", "largest face", "pick face"),
            is_output_node=True,
            inputs=[
                FACES.Input("found", tooltip="From Detect Faces."),
                io.Image.Input("image", tooltip="The photos the faces were found in, for the preview."),
                io.Combo.Input(
                    "order",
                    options=list(selection.ORDERS),
                    default="size",
                    tooltip="What comes first in each frame; faces are numbered from 0 in this order.",
                ),
                io.String.Input(
                    "numbers",
                    default="",
                    tooltip="Which to keep in each frame, like 0 or 0, 2 or -1 for the last. Empty keeps all, up to max_count.",
                ),
                io.Int.Input(
                    "max_count",
                    default=100,
                    min=1,
                    max=4096,
                    tooltip="At most so many faces of each frame, the first in the order.",
                ),
                advanced(
                    io.Int.Input(
                        "min_width",
                        default=0,
                        min=0,
                        max=8192,
                        tooltip="Leave out faces narrower than this, in pixels.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "min_confidence",
                        default=0.0,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        display_mode=io.NumberDisplay.slider,
                        tooltip="Leave out faces the detector was less sure of.",
                    )
                ),
                io.Mask.Input("mask", optional=True, tooltip="Optional: keep only faces at least half covered by it."),
            ],
            outputs=[
                FACES.Output("faces", display_name="faces", tooltip="The chosen faces, in order."),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="The photos with the chosen faces numbered."
                ),
                io.Int.Output("count", display_name="count", tooltip="How many faces were chosen."),
                io.Mask.Output("face_mask", display_name="mask", tooltip="What restoring these faces would touch."),
            ],
        )

    @classmethod
    def validate_inputs(cls, numbers: str) -> bool | str:
        try:
            parse_numbers(numbers)
        except ValueError:
            return f"numbers is {numbers!r}; give whole numbers with commas between, like 0, 2."
        return True

    @classmethod
    def execute(
        cls,
        found: Faces,
        image: Tensor,
        order: str,
        numbers: str,
        max_count: int,
        min_width: int,
        min_confidence: float,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        images = to_images(image)
        faces = selection.surer_than(selection.larger_than(found, min_width), min_confidence)
        wanted = check_mask(mask, len(images), found.size)
        if wanted is not None:
            faces = selection.inside(faces, wanted)
        faces = selection.sort(faces, order)
        if numbers.strip():
            faces = selection.take(faces, parse_numbers(numbers))
        faces = selection.first(faces, max_count)
        preview = selection.preview(images, faces)
        return io.NodeOutput(faces, to_comfy(preview), len(faces), to_mask(images, faces), ui=on_node(cls, preview))


def parse_numbers(text: str) -> list[int]:
    """ "0, 2" to [0, 2]; ValueError for anything that is no whole number."""
    return [int(part) for part in text.replace(",", " ").split()]
