"""The workflow files themselves: one for every prompt, tidy, and fit to be shared."""

import json
from pathlib import Path

import pytest
from PIL import Image
from server import ROOT

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
    assert "Needs:" in note["widgets_values"][0]
    assert note["pos"] == [0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_seeds_stay(name):
    """Otherwise a second run could not use what the first one has cached."""
    assert "randomize" not in json.dumps(read(name))


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail_is_small(name):
    path = ROOT / "workflows" / f"{name}.jpg"
    assert path.stat().st_size <= 200_000
    assert Image.open(path).format == "JPEG"
