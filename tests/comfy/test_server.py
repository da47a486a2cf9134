"""The extension in a real ComfyUI: loading, every node, every workflow, caching, interruption, errors."""

import re
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from server import NEEDS_CHECKPOINT, NEEDS_RESTORER, NEEDS_UPSCALER, ROOT, Refused, find_browser, find_python
from stand_ins import write_upscaler

PROMPTS = sorted(p.stem for p in (Path(__file__).parent / "prompts").glob("*.json"))
NODE_IDS = set(re.findall(r'node_id="(IQPBFR_\w+)"', "".join(p.read_text() for p in (ROOT / "nodes").glob("*.py"))))


def show_png(comfy, graph, node, width, height, mode="RGB"):
    """Put Load Image with a picture of this size in the place of the example."""
    name = f"{width}x{height}_{mode}.png"
    Image.effect_mandelbrot((width, height), (-2, -1.5, 1, 1.5), 60).convert(mode).save(comfy.base / "input" / name)
    graph[node] = {"class_type": "LoadImage", "inputs": {"image": name}}


def test_loads_without_warnings(comfy):
    lines = [line for line in comfy.start_log.splitlines() if "IQP" in line or "iqpbfr" in line.lower()]
    assert lines, "the log does not mention the extension"
    assert not [line for line in lines if re.search("fail|error|warn|cannot|skip", line, re.I)], lines


def test_every_node_is_registered_and_explained(comfy):
    info = comfy.get("/object_info")
    assert set(info) >= NODE_IDS
    for name in NODE_IDS:
        node = info[name]
        assert node["description"]
        assert all(node["output_tooltips"]), name
        for kind in ("required", "optional"):
            for key, (_, options) in node["input"].get(kind, {}).items():
                assert options.get("tooltip"), f"{name}.{key} has no tooltip"


def test_every_node_is_in_a_workflow_or_tested_here(prompt):
    used = {node["class_type"] for name in PROMPTS for node in prompt(name).values()}
    # These need a file that a run has saved, a download, another extension, or are tested by themselves.
    elsewhere = {"LoadCodes", "LoadDetector", "LoadParser", "FacesToSegs", "SegsToFaces", "QualityGate", "FaceSettings"}
    elsewhere = {f"IQPBFR_{name}" for name in elsewhere}
    assert NODE_IDS - used <= elsewhere


@pytest.mark.skipif(find_browser() is not None, reason="test_browser.py runs every workflow by a click")
@pytest.mark.parametrize(
    "name", [name for name in PROMPTS if name not in NEEDS_UPSCALER + NEEDS_RESTORER + NEEDS_CHECKPOINT]
)
def test_workflow_runs_with_nothing_in_input_and_models(comfy, prompt, name):
    run = comfy.run(prompt(name))
    assert run.is_success, run.error


def test_no_workflow_uses_what_comfyui_wants_to_be_rid_of(comfy, prompt):
    info = comfy.get("/object_info")
    used = {node["class_type"] for name in PROMPTS for node in prompt(name).values()}
    assert not [name for name in used if info[name].get("deprecated") or info[name].get("experimental")]


def test_four_blocks_restore_the_face(comfy, prompt):
    run = comfy.run(prompt("03 One face in four blocks"))
    restored = Image.open(comfy.path_of(run.files("8")[0]))
    assert restored.size == (256, 256)
    text = run.history["outputs"]["9"]["text"][0]
    assert re.match(r"builtin: mean 0\.\d{4} of 1", text)


def test_nodes_show_their_pictures_themselves(comfy, prompt):
    """Without a preview behind them, small, and again when nothing has changed."""
    graph = {key: node for key, node in prompt("04 Choose the quality").items() if key in "12345"}
    graph |= {
        "20": {"class_type": "IQPBFR_ExamplePicture", "inputs": {"picture": "group photo"}},
        "21": {"class_type": "IQPBFR_DetectFaces", "inputs": {"image": ["20", 0], **DETECT}},
        "22": {
            "class_type": "IQPBFR_SelectFaces",
            "inputs": {"found": ["21", 0], "image": ["20", 0], "order": "size", "numbers": "0", **KEEP_ALL},
        },
        "23": {"class_type": "IQPBFR_LoadMetric", "inputs": {"metric_name": "builtin", "allow_download": False}},
        "24": {
            "class_type": "IQPBFR_ScoreImage",
            "inputs": {"metric": ["23", 0], "image": ["2", 0], "heat_map": False},
        },
        "25": {
            "class_type": "IQPBFR_FilterByScore",
            "inputs": {"metric": ["23", 0], "image": ["5", 1], "min_score": 0.0, "max_count": 2},
        },
    }
    shown = dict.fromkeys(("21", "22", "24", "5"), 1) | {"25": 2}
    for _ in range(2):
        run = comfy.run(graph)
        assert run.is_success, run.error
        assert {name: len(run.pictures(name)) for name in shown} == shown
        assert all(max(Image.open(comfy.path_of(file)).size) <= 1024 for name in shown for file in run.pictures(name))


def test_the_picture_with_the_best_face_is_kept(comfy):
    """Of one without a face, one with five, and one in which they are blurred: by faces, not by whole pictures."""
    graph = {
        "1": {"class_type": "IQPBFR_ExamplePicture", "inputs": {"picture": "group photo"}},
        "2": {"class_type": "ImageBlur", "inputs": {"image": ["1", 0], "blur_radius": 4, "sigma": 3.0}},
        "3": {"class_type": "EmptyImage", "inputs": {"width": 992, "height": 608, "batch_size": 1, "color": 0}},
        "4": {"class_type": "ImageBatch", "inputs": {"image1": ["3", 0], "image2": ["2", 0]}},
        "5": {"class_type": "ImageBatch", "inputs": {"image1": ["4", 0], "image2": ["1", 0]}},
        "6": {"class_type": "IQPBFR_DetectFaces", "inputs": {"image": ["5", 0], **DETECT}},
        "7": {"class_type": "IQPBFR_LoadMetric", "inputs": {"metric_name": "builtin", "allow_download": False}},
        "8": {
            "class_type": "IQPBFR_FilterByScore",
            "inputs": {"metric": ["7", 0], "image": ["5", 0], "min_score": 0.0, "max_count": 1, "faces": ["6", 0]},
        },
        "9": {"class_type": "PreviewAny", "inputs": {"source": ["8", 3]}},
    }
    run = comfy.run(graph)
    assert run.is_success, run.error
    none, blurred, sharp = (float(line.split()[1]) for line in run.history["outputs"]["9"]["text"][0].splitlines()[1:])
    assert none == 0 < blurred < sharp


@pytest.mark.parametrize(("min_score", "is_restored"), [(0.0, False), (1.0, True)])
def test_the_gate_sends_on_what_is_poor_and_nothing_else(comfy, prompt, min_score, is_restored):
    graph = {key: node for key, node in prompt("11 Restore then upscale").items() if key in "123"}
    graph["20"] = {"class_type": "IQPBFR_LoadMetric", "inputs": {"metric_name": "builtin", "allow_download": False}}
    graph["21"] = {
        "class_type": "IQPBFR_QualityGate",
        "inputs": {"metric": ["20", 0], "image": ["2", 0], "min_score": min_score},
    }
    graph["3"]["inputs"]["image"] = ["21", 1]
    graph["22"] = {"class_type": "PreviewImage", "inputs": {"images": ["21", 0]}}
    graph["23"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 2]}}  # before beside after
    run = comfy.run(graph)
    assert run.is_success, run.error
    assert [bool(run.files("22")), bool(run.files("23"))] == [not is_restored, is_restored]
    if is_restored:
        width, height = Image.open(comfy.path_of(run.files("23")[0])).size
        assert width == 2 * height + 4


KEEP_ALL = {"max_count": 100, "min_width": 0, "min_confidence": 0.0}


def test_changing_quality_does_not_encode_again(comfy, prompt):
    graph = prompt("03 One face in four blocks")
    comfy.run(graph)
    graph["4"]["inputs"]["quality"] = 0.25
    run = comfy.run(graph)
    assert run.is_success
    assert {"1", "2", "3", "6"} <= run.cached
    assert not {"4", "5", "7", "8"} & run.cached


def test_half_precision_is_close(comfy, prompt):
    """fp16 and bf16 differ from fp32 by at most 2/255 on average."""
    pictures = {}
    for precision in ("fp32", "fp16", "bf16"):
        graph = {k: v for k, v in prompt("03 One face in four blocks").items() if k in "123458"}
        graph["1"]["inputs"]["precision"] = precision
        run = comfy.run(graph)
        assert run.is_success, run.error
        picture = Image.open(comfy.path_of(run.files("8")[0]))
        pictures[precision] = torch.tensor(list(picture.tobytes()), dtype=torch.float32)
    for precision in ("fp16", "bf16"):
        difference = (pictures[precision] - pictures["fp32"]).abs().mean().item()
        assert difference <= 2, f"{precision}: {difference:.2f}/255"


def test_codes_survive_saving(comfy, prompt):
    graph = prompt("08 Best codes on the eyes only")
    run = comfy.run(graph)
    saved = run.files("10", "codes")[0] if run.files("10", "codes") else None
    if saved is None:  # a cached run reports no new file
        saved = {"filename": sorted((comfy.base / "output" / "codes").iterdir())[-1].name, "subfolder": "codes"}
    graph["11"] = {
        "class_type": "IQPBFR_LoadCodes",
        "inputs": {"restorer": ["1", 0], "file": f"{saved['subfolder']}/{saved['filename']} [output]"},
    }
    graph["12"] = {"class_type": "IQPBFR_PreviewCodes", "inputs": {"codes": ["11", 0], "compare_with": ["6", 0]}}
    graph["13"] = {"class_type": "PreviewAny", "inputs": {"source": ["12", 1]}}
    run = comfy.run(graph)
    assert run.is_success, run.error
    assert run.history["outputs"]["13"]["text"][0] == "0.0"


def _sweep(graph):
    graph["5"]["inputs"] |= {"steps": 20, "last_quality": 0.987}
    graph["3"]["inputs"]["image"] = ["20", 0]
    return "5"


def _target(graph):
    number = next(key for key, node in graph.items() if node["class_type"] == "IQPBFR_RestoreToTarget")
    graph[number]["inputs"] |= {"image": ["20", 0], "target_score": 0.987}
    return number


def _detect(graph):
    graph["20"]["inputs"]["amount"] = 500
    graph["21"] = {"class_type": "IQPBFR_DetectFaces", "inputs": {"image": ["20", 0], **DETECT}}
    graph["22"] = {"class_type": "PreviewAny", "inputs": {"source": ["21", 2]}}
    return "21"


DETECT = {"confidence": 0.8, "min_size": 10, "detection_size": 2048, "detail": 2.0}


def before(graph, node):
    """The nodes that another one waits for."""
    sources = {value[0] for value in graph[node]["inputs"].values() if isinstance(value, list)}
    return sources.union(*(before(graph, source) for source in sources))


@pytest.mark.parametrize(
    ("name", "change"),
    [("04 Choose the quality", _sweep), ("07 Reach a wanted score", _target), ("03 One face in four blocks", _detect)],
)
def test_interrupt_stops_a_node_in_the_middle(comfy, prompt, name, change):
    """ComfyUI itself stops between nodes only: then the next one would be named."""
    graph = prompt(name)
    graph["20"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["2", 0], "amount": 16}}
    node = change(graph)
    for patience in range(1, 10):  # again, until all before the node is cached: then it was at work
        prompt_id = comfy.submit(graph)
        time.sleep(patience)
        comfy.post("/interrupt", {})
        run = comfy.wait(prompt_id)
        if before(graph, node) <= run.cached:
            break
    assert run.interrupted_at == node
    assert comfy.run(prompt("03 One face in four blocks")).is_success


BAD_INPUT = {
    "not square": ((64, 48), "this image is 64x48"),
    "too small": ((8, 8), "at least 16"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_image_is_an_error_in_our_words(comfy, prompt, case):
    size, words = BAD_INPUT[case]
    graph = prompt("03 One face in four blocks")
    show_png(comfy, graph, "2", *size)
    run = comfy.run(graph)
    assert not run.is_success
    assert run.error["node_type"] == "IQPBFR_EncodeFace"
    assert run.error["exception_type"] == "Face restoration"
    assert run.error["exception_message"].startswith("Encode Face (IQP): ")
    assert words in run.error["exception_message"]


def test_alpha_channel_is_dropped(comfy, prompt):
    graph = {key: node for key, node in prompt("11 Restore then upscale").items() if key in "123"}
    show_png(comfy, graph, "2", 64, 64, "RGBA")
    graph["6"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    assert comfy.run(graph).is_success


def test_missing_metric_names_file_and_folder_or_the_command_that_installs_pyiqa(comfy, comfyui, prompt):
    graph = prompt("03 One face in four blocks")
    graph["6"]["inputs"]["metric_name"] = "musiq"
    run = comfy.run(graph)
    message = run.error["exception_message"]
    if "pip install" in message:  # ComfyUI as it is after installing requirements.txt alone
        assert f'{find_python(comfyui)} -m pip install "pyiqa' in message
        return
    assert "musiq_koniq_ckpt-e95806b9.pth" in message
    assert str(comfy.base / "models" / "iqa") in message
    assert "allow_download" in message


def test_foreign_restorer_file_is_refused(comfy, prompt):
    folder = comfy.base / "models" / "facerestore_models"
    folder.mkdir(exist_ok=True)
    save_file({"some.weight": torch.zeros(3)}, folder / "foreign.safetensors")
    graph = prompt("03 One face in four blocks")
    graph["1"]["inputs"]["model_name"] = "foreign.safetensors"
    run = comfy.run(graph)
    assert "no supported family has these keys" in run.error["exception_message"]


def test_missing_restorer_and_unknown_choices_are_refused_early(comfy, prompt):
    graph = prompt("03 One face in four blocks")
    show_png(comfy, graph, "2", 64, 64)  # the example is an output of its own, which would run all the same
    graph["1"]["inputs"]["model_name"] = "gone.pth"
    with pytest.raises(Refused, match=r"gone\.pth") as caught:
        comfy.submit(graph)
    errors = caught.value.details["node_errors"]["1"]["errors"]
    assert [error["extra_info"]["input_name"] for error in errors] == ["model_name"]


def test_what_is_no_restorer_is_not_listed_and_named_where_it_is_chosen(comfy, prompt):
    folder = comfy.base / "models" / "facerestore_models"
    folder.mkdir(exist_ok=True)
    save_file({"BboxHead.0.conv1x1.weight": torch.zeros(3)}, folder / "detector.safetensors")
    options = comfy.get("/object_info/IQPBFR_LoadRestorer")["IQPBFR_LoadRestorer"]["input"]["required"]["model_name"]
    assert "detector.safetensors" not in str(options)
    graph = prompt("03 One face in four blocks")
    show_png(comfy, graph, "2", 64, 64)
    graph["1"]["inputs"]["model_name"] = "detector.safetensors"
    with pytest.raises(Refused, match="it belongs in models/facedetection"):
        comfy.submit(graph)


def test_codes_of_another_model_are_refused(comfy, prompt):
    from networks import make_network

    from iqpbfr_core.checkpoint import save_network

    folder = comfy.base / "models" / "iqpbfr"
    folder.mkdir(exist_ok=True)
    save_network(make_network(), folder / "other.safetensors")
    graph = prompt("03 One face in four blocks")
    graph["21"] = {
        "class_type": "IQPBFR_LoadRestorer",
        "inputs": {"model_name": "other.safetensors", "precision": "fp32"},
    }
    graph["22"] = {"class_type": "IQPBFR_EncodeFace", "inputs": {"restorer": ["21", 0], "image": ["2", 0]}}
    graph["4"]["inputs"]["features"] = ["22", 0]
    run = comfy.run(graph)
    assert "codebook" in run.error["exception_message"]
    assert run.error["node_type"] == "IQPBFR_DecodeFace"


def test_mask_of_another_size_fits(comfy, prompt):
    graph = prompt("08 Best codes on the eyes only")
    graph["30"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 37, "height": 91}}
    graph["6"]["inputs"]["mask"] = ["30", 0]
    assert comfy.run(graph).is_success


def test_optimising_raises_the_score_and_interrupting_keeps_the_best(comfy, prompt):
    graph = prompt("06 Search for better codes")
    graph["6"]["inputs"]["steps"] = 5
    graph["12"] = {"class_type": "PreviewAny", "inputs": {"source": ["6", 4]}}
    run = comfy.run(graph)
    assert run.is_success, run.error
    text = run.history["outputs"]["12"]["text"][0]
    start, end = map(float, re.search(r"0: ([\d.]+) -> ([\d.]+) \(ended by steps\)", text).groups())
    assert end > start

    graph["6"]["inputs"] |= {"steps": 1000, "noise": 0.5}
    prompt_id = comfy.submit(graph)
    time.sleep(3)
    comfy.post("/interrupt", {})
    run = comfy.wait(prompt_id)
    assert run.is_success, run.error
    text = run.history["outputs"]["12"]["text"][0]
    assert "ended by interrupted" in text

    prompt_id = comfy.submit(graph)  # the same again: it goes on, and is not taken from the cache
    time.sleep(3)
    comfy.post("/interrupt", {})
    run = comfy.wait(prompt_id)
    again = run.history["outputs"]["12"]["text"][0]
    assert "ended by interrupted" in again
    reached, better = (float(re.search(r"-> ([\d.]+)", line)[1]) for line in (text, again))
    assert better >= reached


def test_optimised_codes_decode_to_the_image_shown(comfy, prompt):
    graph = prompt("06 Search for better codes")
    graph["6"]["inputs"]["steps"] = 2
    graph["14"] = {
        "class_type": "IQPBFR_DecodeFace",
        "inputs": {"codes": ["6", 0], "features": ["3", 0], "fidelity": 0.5, "adain": True},
    }
    graph["15"] = {"class_type": "PreviewImage", "inputs": {"images": ["14", 0]}}
    run = comfy.run(graph)
    assert run.is_success, run.error
    shown, decoded = (Image.open(comfy.path_of(run.files(node)[0])).tobytes() for node in ("9", "15"))
    assert shown == decoded


def test_restore_then_upscale_runs(comfy, prompt):
    file = write_upscaler(comfy.base)
    run = comfy.run(prompt("11 Restore then upscale"))
    file.unlink()
    assert run.is_success, run.error
    assert Image.open(comfy.path_of(run.files("6")[0])).size == (1024, 1024)


def test_nodes_of_facerestore_cf_are_replaced(comfy):
    """By their names and inputs, as that pack's workflows have them."""
    if not comfy.has("/node_replacements"):
        pytest.skip("this ComfyUI replaces no nodes")
    graph = {
        "1": {"class_type": "FaceRestoreModelLoader", "inputs": {"model_name": "built-in small"}},
        "2": {"class_type": "IQPBFR_ExamplePicture", "inputs": {"picture": "group photo"}},
        "3": {
            "class_type": "FaceRestoreCFWithModel",
            "inputs": {
                "facerestore_model": ["1", 0],
                "image": ["2", 0],
                "facedetection": "retinaface_resnet50",
                "codeformer_fidelity": 0.5,
            },
        },
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    run = comfy.run({name: node | {"_meta": {}} for name, node in graph.items()})
    assert run.is_success, run.error
    assert run.pictures("4")
