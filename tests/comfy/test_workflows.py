"""The workflow files themselves: one for every prompt, tidy, and fit to be shared."""

import json
from pathlib import Path

import pytest
from PIL import Image
from schemas import NODES
from server import ROOT

from iqpbfr_core import __version__

NAMES = sorted(path.stem for path in (Path(__file__).parent / "prompts").glob("*.json"))


def read(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text())


@pytest.mark.parametrize("suffix", ["json", "jpg"])
def test_every_prompt_has_its_workflow_and_thumbnail(suffix):
    assert sorted(path.stem for path in (ROOT / "workflows").glob(f"*.{suffix}")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_nodes_lie_apart_at_whole_numbers(name):
    boxes = [(*node["pos"], *node["size"]) for node in read(name)["nodes"]]
    assert all(isinstance(number, int) for box in boxes for number in box)
    for index, (x, y, width, height) in enumerate(boxes):
        for left, top, w, h in boxes[index + 1 :]:
            assert x + width <= left or left + w <= x or y + height + 30 <= top or top + h + 30 <= y  # 30: title bar


@pytest.mark.parametrize("name", NAMES)
def test_a_note_explains(name):
    (note,) = (node for node in read(name)["nodes"] if node["type"] == "MarkdownNote")
    text = note["widgets_values"][0]
    assert text.startswith("**")
    assert "`" not in text  # code is blue on brown
    if "ExamplePicture" in json.dumps(read(name)):
        assert "**Load Image**" in text or "**Load Video**" in text
    assert note["pos"] == [0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_nodes_say_where_they_come_from_and_loaders_what_they_load(name):
    """For ComfyUI-Manager's search for missing nodes, and ComfyUI's dialog for missing models."""
    for node in read(name)["nodes"]:
        if node["type"].startswith("IQPBFR_"):
            assert node["properties"]["cnr_id"] == "iqp-face-restoration"
            assert node["properties"]["ver"] == __version__
        if node["type"] in ("CheckpointLoaderSimple", "UpscaleModelLoader"):
            (model,) = node["properties"]["models"]
            assert model["name"] == node["widgets_values"][0]
            assert set(model) == {"name", "url", "directory"}


def test_names_are_titles_in_order():
    assert [name[:2] for name in NAMES] == [f"{number:02d}" for number in range(1, len(NAMES) + 1)]


@pytest.mark.parametrize("name", NAMES)
def test_seeds_stay(name):
    """Otherwise a second run could not use what the first one has cached."""
    assert "randomize" not in json.dumps(read(name))


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail_is_small(name):
    path = ROOT / "workflows" / f"{name}.jpg"
    assert path.stat().st_size <= 200_000
    assert Image.open(path).format == "JPEG"


@pytest.mark.parametrize("path", sorted((ROOT / "subgraphs").glob("*.json")), ids=lambda path: path.stem)
def test_blueprint_fits_the_nodes_and_shows_what_is_inside(path):
    blueprint = json.loads(path.read_text(encoding="ascii"))  # ComfyUI reads it in the system's encoding
    (outside,), (inside,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    assert outside["type"] == inside["id"]
    assert outside["title"] == inside["name"] == path.stem
    widgets = {}
    for node in inside["nodes"]:
        if node["type"].startswith("IQPBFR_"):
            known = next(known for known in NODES if known.id == node["type"])
            assert len(node["widgets_values"]) == len(known.widgets)
            widgets[str(node["id"])] = [widget.id for widget in known.widgets]
    for node, widget in outside["properties"]["proxyWidgets"]:
        assert widget in widgets.get(node, ["model_name"])  # of the upscale model's loader
