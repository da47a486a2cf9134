"""Photos in a real ComfyUI, found with the built-in detector."""

import shutil

import numpy as np
import pytest
from photos import detector_file, needs_photos
from PIL import Image


def show_no_face(comfy, graph, node="3"):
    """Put Load Image with a photo of nobody in the place of the example."""
    Image.new("RGB", (320, 200), (90, 120, 60)).save(comfy.base / "input" / "no_face.png")
    graph[node] = {"class_type": "LoadImage", "inputs": {"image": "no_face.png"}}


def picture_of(comfy, run, node):
    return np.asarray(Image.open(comfy.path_of(run.files(node)[0])).convert("RGB")).astype(int)


def test_restore_photo_changes_faces_and_nothing_else(comfy, prompt):
    graph = prompt("01 Restore a photo")
    graph["20"] = {"class_type": "MaskToImage", "inputs": {"mask": ["4", 1]}}
    graph["21"] = {"class_type": "PreviewImage", "inputs": {"images": ["20", 0]}}
    graph["22"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    run = comfy.run(graph)
    assert run.is_success, run.error
    before, after, mask = (picture_of(comfy, run, node) for node in ("22", "5", "21"))
    assert before.shape == after.shape
    outside = mask == 0  # in a PNG of 8 bits: a share of up to 1/255
    assert outside.any()
    assert np.abs(before - after)[outside].max() <= 1
    assert (np.abs(before - after)[mask > 200]).mean() > 1


def test_faces_may_have_settings_of_their_own(comfy, prompt):
    """Restore Photo finds the faces by itself, and knows those again that Detect Faces has found."""
    graph = prompt("01 Restore a photo")
    detect = {"image": ["3", 0], "confidence": 0.8, "min_size": 10, "detection_size": 640, "detail": 2.0}
    graph["20"] = {"class_type": "IQPBFR_DetectFaces", "inputs": detect}
    own = {"faces": ["20", 0], "quality": 1.0, "fidelity": 0.5, "visibility": 0.0}
    graph["21"] = {"class_type": "IQPBFR_FaceSettings", "inputs": own}
    graph["4"]["inputs"]["settings"] = ["21", 0]
    graph["22"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    run = comfy.run(graph)
    assert run.is_success, run.error
    assert (picture_of(comfy, run, "22") == picture_of(comfy, run, "5")).all()


def test_photo_without_a_face_comes_back_as_it_is(comfy, prompt):
    graph = prompt("01 Restore a photo")
    show_no_face(comfy, graph)
    run = comfy.run(graph)
    assert run.is_success, run.error
    assert (picture_of(comfy, run, "5") == (90, 120, 60)).all()
    assert not run.files("6"), "nothing downstream of the restored faces may run"


def preview_text(graph, node, output):
    graph["40"] = {"class_type": "PreviewAny", "inputs": {"source": [node, output]}}


def test_report_says_what_happened(comfy, prompt):
    graph = prompt("01 Restore a photo")
    preview_text(graph, "4", 4)
    assert comfy.run(graph).history["outputs"]["40"]["text"][0] == "5 faces restored"
    graph["4"]["inputs"]["min_size"] = 80
    text = comfy.run(graph).history["outputs"]["40"]["text"][0]
    assert text.endswith("narrower than 80 px left alone")
    show_no_face(comfy, graph)
    assert comfy.run(graph).history["outputs"]["40"]["text"][0] == "no face found"


@pytest.mark.parametrize(
    ("picture", "words"), [("face", "face found"), ("group photo", "Warning: no face in the middle")]
)
def test_a_picture_that_is_no_aligned_face_is_named(comfy, prompt, picture, words):
    graph = {key: node for key, node in prompt("11 Restore then upscale").items() if key in "123"}
    graph["2"]["inputs"]["picture"] = picture
    if picture == "group photo":
        graph["7"] = {
            "class_type": "ImageCrop",
            "inputs": {"image": ["2", 0], "width": 256, "height": 256, "x": 0, "y": 0},
        }
        graph["3"]["inputs"]["image"] = ["7", 0]
    preview_text(graph, "3", 1)
    run = comfy.run(graph)
    assert run.is_success, run.error
    assert run.history["outputs"]["40"]["text"][0].startswith(words)


def test_load_images_empty_mask_is_none_and_others_must_fit(comfy, prompt):
    graph = prompt("01 Restore a photo")
    graph["30"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 64, "height": 64}}
    graph["4"]["inputs"]["mask"] = ["30", 0]
    preview_text(graph, "4", 4)
    assert comfy.run(graph).history["outputs"]["40"]["text"][0] == "5 faces restored"
    graph["30"]["inputs"] |= {"value": 1.0, "width": 37, "height": 91}
    message = comfy.run(graph).error["exception_message"]
    assert "the mask is 37x91 pixels, the photo 992x608" in message
    assert "Upscale Image" in message


def test_cropping_no_face_is_an_error_in_our_words(comfy, prompt):
    graph = prompt("02 Restore step by step")
    show_no_face(comfy, graph)
    run = comfy.run(graph)
    assert "there is no face to crop" in run.error["exception_message"]


def load_detector(graph, name):
    """Put Load Face Detector before Restore Photo."""
    inputs = {"detector_name": name, "allow_download": False}
    graph["2"] = {"class_type": "IQPBFR_LoadDetector", "inputs": inputs}
    graph["4"]["inputs"]["detector"] = ["2", 0]


@pytest.mark.parametrize("name", ["retinaface_resnet50", "detection_Resnet50_Final.pth"])
def test_missing_detector_names_file_folder_and_address(comfy, prompt, name):
    graph = prompt("01 Restore a photo")
    load_detector(graph, name)
    message = comfy.run(graph).error["exception_message"]
    assert "detection_Resnet50_Final.pth" in message
    assert str(comfy.base / "models" / "facedetection") in message
    assert "https://" in message


@needs_photos
def test_detector_of_the_users_own(comfy, prompt):
    folder = comfy.base / "models" / "facedetection"
    folder.mkdir(exist_ok=True)
    file = shutil.copy(detector_file(), folder)
    graph = prompt("01 Restore a photo")
    load_detector(graph, f"file: {detector_file().name}")
    run = comfy.run(graph)
    (folder / file).unlink()
    assert run.is_success, run.error


def test_segs_there_and_back(comfy, prompt):
    graph = prompt("02 Restore step by step")
    graph["30"] = {
        "class_type": "IQPBFR_FacesToSegs",
        "inputs": {"image": ["3", 0], "faces": ["5", 0], "crop_factor": 2.0},
    }
    graph["31"] = {"class_type": "IQPBFR_SegsToFaces", "inputs": {"segs": ["30", 0], "detected": ["4", 0]}}
    for key in ("7", "9"):
        graph[key]["inputs"]["faces"] = ["31", 0]
    run = comfy.run(graph)
    assert run.is_success, run.error
    assert comfy.run(prompt("02 Restore step by step")).is_success


def test_empty_segs_are_no_faces(comfy, prompt):
    graph = prompt("01 Restore a photo")
    show_no_face(comfy, graph)
    graph["30"] = {"class_type": "IQPBFR_DetectFaces", "inputs": {
        "image": ["3", 0], "confidence": 0.8, "min_size": 10, "detection_size": 640, "detail": 2.0,
    }}  # fmt: skip
    inputs = {"image": ["3", 0], "faces": ["30", 0], "crop_factor": 2.0}
    graph["31"] = {"class_type": "IQPBFR_FacesToSegs", "inputs": inputs}
    graph["32"] = {"class_type": "IQPBFR_SegsToFaces", "inputs": {"segs": ["31", 0]}}
    graph["4"]["inputs"]["faces"] = ["32", 0]
    run = comfy.run(graph)
    assert run.is_success, run.error


def test_numbers_that_are_none_are_refused_early(comfy, prompt):
    graph = prompt("02 Restore step by step")
    graph["5"]["inputs"]["numbers"] = "first"
    refused = comfy.post("/prompt", {"prompt": graph})["node_errors"]  # Detect Faces shows its faces all the same
    assert list(refused) == ["5"]
    assert "whole numbers" in refused["5"]["errors"][0]["details"]
