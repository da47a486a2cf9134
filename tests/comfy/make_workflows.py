"""Make workflows/<name>.json and .jpg from prompts/<name>.json, in the real page.

    PYTHONPATH=tests python tests/comfy/make_workflows.py [NAME…]

The prompt is the source. Titles come from its `_meta`, and so does the note on the canvas: `_meta.note` of one node.
"""

import argparse
import io
import json
import math
import tempfile
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from browser import ComfyPage, open_browser
from conftest import PROMPTS, write_inputs
from photo_inputs import DETECTOR, install_photos, with_small_detector
from photos import DATA
from PIL import Image
from server import NEEDS_DOWNLOAD, ROOT, ComfyServer, Run, find_comfyui

Prompt = dict[str, dict[str, Any]]

WORKFLOWS = ROOT / "workflows"
WIDTH = 270  # of a node, and of a square picture in it
PITCH = 320  # of columns
MAX_WIDTH = WIDTH + PITCH
MAX_COLUMNS = 6  # longer graphs go on below; wider ones are shown without text
LINE = 16  # of shown text
ROW_GAP = 80  # holds the title bar, and the badge above it
NOTE_SIZE = (WIDTH, 170)
MAX_BYTES = 200_000  # of a thumbnail

MEASURE = "() => Object.fromEntries(app.graph.nodes.map(node => [node.id, Math.ceil(node.computeSize()[1])]))"
FIX_SEEDS = """() => app.graph.nodes.flatMap(node => node.widgets ?? [])
    .filter(widget => widget.name === "control_after_generate").forEach(widget => { widget.value = "fixed" })"""
SET_DETECTOR = """name => app.graph.nodes.filter(node => node.type === "IQPBFR_LoadDetector")
    .forEach(node => { node.widgets[0].value = name })"""
PLACE = """boxes => app.graph.nodes.forEach(node => {
    const [x, y, width, height] = boxes[node.id]
    node.pos = [x, y]
    node.setSize([width, height])
})"""
ADD_NOTE = """text => {
    const note = LiteGraph.createNode("MarkdownNote")
    note.title = "About"
    note.widgets[0].value = text
    app.graph.add(note)
    return String(note.id)
}"""


class Box(NamedTuple):
    x: int
    y: int
    width: int
    height: int


def sources(node: dict[str, Any]) -> list[str]:
    """Ids of the nodes that feed `node`."""
    return [value[0] for value in node["inputs"].values() if isinstance(value, list)]


def note_of(prompt: Prompt) -> str:
    """What the workflow says about itself."""
    for node in prompt.values():
        if note := node.get("_meta", {}).get("note"):
            return note
    raise ValueError("give one node of the prompt a _meta.note: what the workflow shows, and which files it needs")


def columns(prompt: Prompt) -> dict[str, int]:
    """Column by depth: after what feeds a node, and as close to what it feeds as can be."""
    first: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in first:
            first[name] = 1 + max((depth(source) for source in sources(prompt[name])), default=-1)
        return first[name]

    placed: dict[str, int] = {}
    for name in sorted(prompt, key=depth, reverse=True):
        fed = [column for other, column in placed.items() if name in sources(prompt[other])]
        placed[name] = min(fed) - 1 if fed else depth(name)
    return placed


def room(server: ComfyServer, node: dict[str, Any], name: str, run: Run | None) -> tuple[int, int]:
    """Width and additional height for what a node has shown in `run`."""
    if run is None:
        return WIDTH, WIDTH * (node["class_type"] in ("PreviewImage", "SaveImage", "SaveVideo"))
    text = "".join(run.history["outputs"].get(name, {}).get("text", []))
    files = run.pictures(name)
    if not files:
        return WIDTH, LINE * len(text.splitlines())
    across = math.ceil(math.sqrt(len(files)))
    down = math.ceil(len(files) / across)
    width, height = Image.open(server.path_of(files[0])).size
    aspect = across * width / (down * height)
    shown = min(MAX_WIDTH, max(WIDTH, round(WIDTH * aspect)))
    return shown, round(shown / aspect) + 2 * LINE


def arrange(prompt: Prompt, sizes: dict[str, tuple[int, int]], note: str) -> dict[str, Box]:
    """Positions from left to right, in rows of MAX_COLUMNS; the first column is the inputs' alone, with the note on top."""
    boxes = {note: Box(0, 0, *NOTE_SIZE)}
    column_of = columns(prompt)
    last = max(column_of.values())

    def height_of_sources(name: str) -> float:
        middles = [boxes[source].y + boxes[source].height / 2 for source in sources(prompt[name])]
        return sum(middles) / len(middles) if middles else math.inf

    def below(x: int) -> int:
        """Free height under all that reaches beyond `x`."""
        return max((box.y + box.height + ROW_GAP for box in boxes.values() if box.x + box.width > x), default=0)

    def left_of(column: int) -> int:
        return PITCH * ((column - 1) % (MAX_COLUMNS - 1) + 1) if column else 0

    wide = [name for name in prompt if sizes[name][0] > WIDTH and column_of[name] < last]
    top = below(0)
    for column in range(last + 1):
        x = left_of(column)
        if x == PITCH:
            top = below(x)
        y = top
        names = [name for name in prompt if column_of[name] == column and name not in wide]
        for name in sorted(names, key=height_of_sources):
            boxes[name] = Box(x, y, *sizes[name])
            y += boxes[name].height + ROW_GAP
    for name in wide:  # under the columns on their right
        x = left_of(column_of[name])
        boxes[name] = Box(x, below(x), *sizes[name])
    return boxes


def make_workflow(comfy: ComfyPage, prompt: Prompt, name: str, run: Run | None) -> dict[str, Any]:
    """The workflow as the page saves it, laid out, and without what only this session knows."""
    comfy.load_prompt(prompt, name)
    comfy.page.evaluate(FIX_SEEDS)
    comfy.wait_for_pictures([node for node in prompt if prompt[node]["class_type"] == "LoadImage"])
    heights = comfy.page.evaluate(MEASURE)
    sizes = {}
    for node in prompt:
        width, more = room(comfy.server, prompt[node], node, run)
        sizes[node] = (width, heights[node] + more)
    note = comfy.page.evaluate(ADD_NOTE, note_of(prompt))
    comfy.page.evaluate(PLACE, arrange(prompt, sizes, note))
    workflow = comfy.to_workflow()
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    del workflow["extra"]["ds"]  # the page then shows the whole graph when it opens it
    return workflow


def make_thumbnail(comfy: ComfyPage, path: Path) -> None:
    """A picture of the graph, as sharp as MAX_BYTES allows."""
    shot = comfy.page.screenshot(clip=comfy.fit())
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    for quality in range(90, 40, -5):
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            return
    raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {MAX_BYTES}")


def make(server: ComfyServer, name: str) -> None:
    """Write one workflow and its thumbnail."""
    prompt = json.loads((PROMPTS / f"{name}.json").read_text())
    runs = name not in NEEDS_DOWNLOAD or (DATA is not None and "LoadDetector" in str(prompt))
    run = server.run(with_small_detector(prompt)) if runs else None
    with open_browser(server, width=2000, height=1200) as comfy:
        workflow = make_workflow(comfy, prompt, name, run)
        (WORKFLOWS / f"{name}.json").write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n")
        comfy.load_workflow(workflow)
        if run is not None:
            comfy.page.evaluate(SET_DETECTOR, DETECTOR)  # in the picture only: the file keeps its own
            comfy.run()
        make_thumbnail(comfy, WORKFLOWS / f"{name}.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", metavar="NAME", nargs="*", default=sorted(p.stem for p in PROMPTS.glob("*.json")))
    names = parser.parse_args().names
    comfyui = find_comfyui()
    if comfyui is None:
        parser.error("no ComfyUI: set COMFYUI_DIR, or install one at ~/comfy/ComfyUI")
    WORKFLOWS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        server = ComfyServer(comfyui, Path(base), "--cpu")
        try:
            write_inputs(server.base)
            if DATA is not None:
                install_photos(server)
            for name in names:
                make(server, name)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
