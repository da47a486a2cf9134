"""Colorizing, inpainting and other restorers in a real ComfyUI, with stand-ins for the published files."""

import numpy as np
import pytest
from PIL import Image
from server import NEEDS_RESTORER, ROOT, find_browser

PICTURES = ROOT / "pictures"


def saved(comfy, run, node):
    return np.asarray(Image.open(comfy.path_of(run.files(node)[0])).convert("RGB")).astype(int)


@pytest.mark.skipif(find_browser() is not None, reason="test_browser.py runs every workflow by a click")
@pytest.mark.parametrize("name", NEEDS_RESTORER)
def test_workflow_runs_with_its_files(comfy, prompt, restorers, name):
    run = comfy.run(prompt(name))
    assert run.is_success, run.error


def test_a_face_gets_colour(comfy, prompt, restorers):
    run = comfy.run(prompt("13 Colorize a face"))
    assert run.is_success, run.error
    coloured = saved(comfy, run, "4")
    assert coloured.shape == (512, 512, 3)
    assert (coloured.max(2) - coloured.min(2)).max() > 10


def test_the_faces_of_a_grey_photo_get_colour_and_nothing_else(comfy, prompt, restorers):
    Image.open(PICTURES / "group_photo.jpg").convert("L").convert("RGB").save(comfy.base / "input" / "grey.png")
    graph = prompt("01 Restore a photo")
    loader = next(node for node in graph.values() if node["class_type"] == "IQPBFR_LoadRestorer")
    loader["inputs"]["model_name"] = "codeformer_colorization.pth"
    picture = next(key for key, node in graph.items() if node["class_type"] == "IQPBFR_ExamplePicture")
    graph[picture] = {"class_type": "LoadImage", "inputs": {"image": "grey.png"}}
    photo = next(key for key, node in graph.items() if node["class_type"] == "IQPBFR_RestorePhoto")
    graph["30"] = {"class_type": "SaveImage", "inputs": {"images": [photo, 0], "filename_prefix": "coloured"}}
    graph["31"] = {"class_type": "MaskToImage", "inputs": {"mask": [photo, 1]}}
    graph["32"] = {"class_type": "SaveImage", "inputs": {"images": ["31", 0], "filename_prefix": "where"}}
    run = comfy.run(graph)
    assert run.is_success, run.error
    coloured, where = saved(comfy, run, "30"), saved(comfy, run, "32").max(2)
    colour = coloured.max(2) - coloured.min(2)
    assert colour[where > 200].mean() > 10
    assert colour[where == 0].max() <= 1  # the mask is saved in 8 bits


def test_only_what_the_mask_marks_is_filled(comfy, prompt, restorers):
    graph = prompt("14 Fill a scratched face")
    graph["7"]["inputs"]["images"] = ["6", 0]
    graph["20"] = {"class_type": "ImageScale", "inputs": {"image": ["2", 0], "upscale_method": "bicubic", "width": 512, "height": 512, "crop": "disabled"}}  # fmt: skip
    graph["6"]["inputs"]["image"] = ["20", 0]
    graph["21"] = {"class_type": "SaveImage", "inputs": {"images": ["20", 0], "filename_prefix": "given"}}
    graph["3"]["inputs"] |= {"width": 512, "height": 512}
    run = comfy.run(graph)
    assert run.is_success, run.error
    given, filled = saved(comfy, run, "21"), saved(comfy, run, "7")
    changed = np.abs(given - filled).max(2) > 1
    assert changed[150:164, 90:190].any()
    changed[148:166, 88:192] = False
    assert not changed.any()


@pytest.mark.parametrize(("node", "file", "words"), [
    ("IQPBFR_ColorizeFace", "codeformer.pth", "restores faces: use Restore Aligned Face"),
    ("IQPBFR_ColorizeFace", "codeformer_inpainting.pth", "use Inpaint Face"),
    ("IQPBFR_RestoreAlignedFace", "codeformer_colorization.pth", "use Colorize Face"),
])  # fmt: skip
def test_a_model_of_another_task_says_where_it_belongs(comfy, prompt, restorers, node, file, words):
    graph = prompt("13 Colorize a face")
    graph["1"]["inputs"]["model_name"] = file
    inputs = {"restorer": ["1", 0], "image": ["2", 0]}
    if node == "IQPBFR_RestoreAlignedFace":
        inputs |= {"quality": 1.0, "fidelity": 0.5, "adain": True}
    graph["3"] = {"class_type": node, "inputs": inputs}
    run = comfy.run(graph)
    assert not run.is_success
    assert words in run.error["exception_message"]


def test_look_up_codes_says_that_gfpgan_has_none(comfy, prompt, restorers):
    graph = prompt("03 One face in four blocks")
    loader = next(node for node in graph.values() if node["class_type"] == "IQPBFR_LoadRestorer")
    loader["inputs"]["model_name"] = "GFPGANv1.4.pth"
    run = comfy.run(graph)
    assert not run.is_success
    assert "gfpgan has no codes" in run.error["exception_message"]
