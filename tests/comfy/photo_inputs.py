"""The test photos in a ComfyUI's folders, and workflows told to use the small detector."""

import shutil
from typing import Any

from photos import DATA, detector_file
from PIL import Image
from server import ComfyServer

PHOTO = "photo_05.jpg"
DETECTOR = "file: retinaface_mobile0.25_relu.pth"


def install_photos(comfy: ComfyServer) -> None:
    """photo.jpg and clip.mp4 as inputs, and the small detector among the models."""
    folder = comfy.base / "models" / "facedetection"
    folder.mkdir(exist_ok=True)
    shutil.copy(detector_file(), folder)
    picture = Image.open(DATA / "photos" / PHOTO).convert("RGB")
    picture.thumbnail((640, 640))
    picture = picture.crop((0, 0, picture.width // 2 * 2, picture.height // 2 * 2))  # as video encoders want it
    picture.save(comfy.base / "input" / "photo.jpg", quality=95)
    _write_clip(comfy)


def _write_clip(comfy: ComfyServer) -> None:
    """A short clip of the photo, made by ComfyUI itself."""
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.jpg"}},
        "2": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 4}},
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "fps": 8.0}},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": "clip", "format": "auto", "codec": "auto"},
        },
    }
    run = comfy.run(graph)
    if not run.is_success:
        raise RuntimeError(f"no clip was written: {run.error}")
    shutil.copy(next((comfy.base / "output").glob("clip*.mp4")), comfy.base / "input" / "clip.mp4")


def with_small_detector(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same prompt with the detector of the test data."""
    changed = {name: {**node, "inputs": dict(node["inputs"])} for name, node in prompt.items()}
    for node in changed.values():
        if node["class_type"] == "IQPBFR_LoadDetector":
            node["inputs"]["detector_name"] = DETECTOR
    return changed
