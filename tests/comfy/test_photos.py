"""Photos in a real ComfyUI, found with a real detector; needs the test photos (see tests/photos.py)."""

import numpy as np
import pytest
from photo_inputs import install_photos, with_small_detector
from photos import needs_photos
from PIL import Image

pytestmark = needs_photos


@pytest.fixture(scope="module", autouse=True)
def photos(comfy):
    install_photos(comfy)
    Image.new("RGB", (320, 200), (90, 120, 60)).save(comfy.base / "input" / "no_face.png")


@pytest.fixture
def photo_prompt(prompt):
    """Read a prompt by name, for the small detector."""
    return lambda name: with_small_detector(prompt(name))


def picture_of(comfy, run, node):
    return np.asarray(Image.open(comfy.path_of(run.files(node)[0])).convert("RGB")).astype(int)


def test_restore_photo_changes_faces_and_nothing_else(comfy, photo_prompt):
    graph = photo_prompt("restore_photo")
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


@pytest.mark.parametrize("name", ["group_photo", "old_photo_upscale", "video_frames"])
def test_workflow_runs(comfy, photo_prompt, name):
    run = comfy.run(photo_prompt(name))
    assert run.is_success, run.error


def test_photo_without_a_face_comes_back_as_it_is(comfy, photo_prompt):
    graph = photo_prompt("restore_photo")
    graph["3"]["inputs"]["image"] = "no_face.png"
    run = comfy.run(graph)
    assert run.is_success, run.error
    assert (picture_of(comfy, run, "5") == (90, 120, 60)).all()
    assert not run.files("6"), "nothing downstream of the restored faces may run"


def test_cropping_no_face_is_an_error_in_our_words(comfy, photo_prompt):
    graph = photo_prompt("group_photo")
    graph["3"]["inputs"]["image"] = "no_face.png"
    run = comfy.run(graph)
    assert "there is no face to crop" in run.error["exception_message"]


def test_missing_detector_names_file_folder_and_address(comfy, prompt):
    run = comfy.run(prompt("restore_photo"))
    message = run.error["exception_message"]
    assert "detection_Resnet50_Final.pth" in message
    assert str(comfy.base / "models" / "facedetection") in message
    assert "https://" in message


def test_segs_there_and_back(comfy, photo_prompt):
    graph = photo_prompt("group_photo")
    graph["30"] = {
        "class_type": "IQPBFR_FacesToSegs",
        "inputs": {"image": ["3", 0], "faces": ["5", 0], "crop_factor": 2.0},
    }
    graph["31"] = {"class_type": "IQPBFR_SegsToFaces", "inputs": {"segs": ["30", 0], "detected": ["4", 0]}}
    for key in ("7", "9"):
        graph[key]["inputs"]["faces"] = ["31", 0]
    run = comfy.run(graph)
    assert run.is_success, run.error
    assert comfy.run(photo_prompt("group_photo")).is_success


def test_numbers_that_are_none_are_refused_early(comfy, photo_prompt):
    from server import Refused

    graph = photo_prompt("group_photo")
    graph["5"]["inputs"]["numbers"] = "first"
    with pytest.raises(Refused, match="whole numbers"):
        comfy.submit(graph)
