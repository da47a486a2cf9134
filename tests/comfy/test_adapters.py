"""Score adapters in a real ComfyUI, on stand-ins for the published restorers."""

import numpy as np
import pytest
from PIL import Image
from server import Refused

NAME = "16 Give CodeFormer a quality knob"


def saved(comfy, run, number):
    return np.asarray(Image.open(comfy.path_of(run.files("8")[number])).convert("RGB")).astype(int)


def ask(graph, quality):
    for node in ("5", "6"):
        graph[node]["inputs"] |= {"quality": quality, "fidelity": 0.0}
    return graph


def test_quality_is_obeyed_with_the_adapter_and_ignored_without(comfy, prompt, restorers):
    low, high = (comfy.run(ask(prompt(NAME), quality)) for quality in (0.0, 1.0))
    assert low.is_success, low.error
    assert high.is_success, high.error
    assert (saved(comfy, low, 0) == saved(comfy, high, 0)).all()
    assert (saved(comfy, low, 1) != saved(comfy, high, 1)).any()


def test_codes_of_an_adapted_restorer_are_optimised(comfy, prompt, restorers):
    graph = prompt(NAME)
    graph["20"] = {"class_type": "IQPBFR_LookUpCodes", "inputs": {"features": ["9", 0], "quality": 0.3, "guidance": 2.0, "alpha": 1.0, "temperature": 0.0, "seed": 0}}  # fmt: skip
    optimize = next(
        n for n in prompt("06 Search for better codes").values() if n["class_type"] == "IQPBFR_OptimizeCodes"
    )
    graph["21"] = {"class_type": "IQPBFR_OptimizeCodes", "inputs": {**optimize["inputs"], "codes": ["20", 0], "features": ["9", 0], "metric": ["10", 0], "steps": 2}}  # fmt: skip
    graph["22"] = {"class_type": "PreviewImage", "inputs": {"images": ["21", 1]}}
    run = comfy.run(graph)
    assert run.is_success, run.error


@pytest.mark.parametrize(
    ("file", "words"), [("GFPGANv1.4.pth", "the model is a gfpgan"), ("built-in small", "told a quality already")]
)
def test_an_adapter_of_another_model_is_refused(comfy, prompt, restorers, file, words):
    graph = prompt(NAME)
    graph["1"]["inputs"]["model_name"] = file
    run = comfy.run(graph)
    assert not run.is_success
    assert words in run.error["exception_message"]
    assert "Apply Score Adapter" in run.error["exception_message"]


def test_a_missing_adapter_says_where_it_is_looked_for(comfy, prompt):
    graph = prompt(NAME)
    graph["1"]["inputs"]["model_name"] = "built-in small"
    graph["4"] = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}}
    with pytest.raises(Refused, match=r"iqpbfr_adapters.*iqpbfr train adapter"):
        comfy.submit(graph)  # the example picture is an output of its own, which would run all the same
