"""Make workflows/<name>.json and .jpg from prompts/<name>.json, in the real page.

    PYTHONPATH=tests python tests/comfy/make_workflows.py [NAME…]

The prompt is the source. Titles come from its `_meta`, and so do the note on the canvas (`note` of one node), the files a
loader needs (`models`, for ComfyUI's missing-model dialog), the pack of a node that is neither ours nor ComfyUI's (`cnr_id`, for
its search for missing nodes), and the nodes whose pictures the thumbnail compares
(`thumbnail`: "before", "after", or the name of a workflow whose thumbnail serves, where nothing can run here).
"""

import argparse
import io
import itertools
import json
import math
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from browser import ComfyPage, open_browser
from conftest import PROMPTS
from PIL import Image, ImageDraw
from server import NEEDS_CHECKPOINT, NEEDS_RESTORER, ROOT, ComfyServer, Run, find_comfyui
from stand_ins import IN_A_HURRY, link_checkpoint, write_checkpoint, write_restorers, write_upscaler

from iqpbfr_core import __version__

Prompt = dict[str, dict[str, Any]]

WORKFLOWS = ROOT / "workflows"
GRAPH = ("03 One face in four blocks", ROOT / "docs" / "images" / "graph.jpg")  # what the README shows of the canvas
PACK = {"cnr_id": "iqp-face-restoration", "ver": __version__}  # by which ComfyUI-Manager finds missing nodes
WIDTH = 270  # of a node, and of a square picture in it
PITCH = 350  # of columns
MAX_WIDTH = WIDTH + PITCH
MAX_COLUMNS = 9  # longer graphs go on below
LINE = 16  # of shown text
ROW_GAP = 80  # holds the title bar, and the badge above it
STEP = 200  # between points of a link that runs downwards
LETTERS = 46  # of a note, in a line
THUMBNAIL = (640, 360)
MAX_BYTES = 200_000  # of a picture

# What a node needs, with a line for the report that some write on themselves.
MEASURE = """() => Object.fromEntries(app.graph.nodes.map(node => [
    node.id, Math.ceil(node.computeSize()[1]) + 50 * (node.outputs ?? []).some(output => output.name === "report")
]))"""
FIX_SEEDS = """() => app.graph.nodes.flatMap(node => node.widgets ?? [])
    .filter(widget => widget.name === "control_after_generate").forEach(widget => { widget.value = "fixed" })"""
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

ADD_REROUTES = """places => places.forEach(([id, points]) => {
    const link = app.graph.links.get(id)
    points.forEach(point => app.graph.createReroute(point, link))
})"""


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


def room(server: ComfyServer, prompt: Prompt, name: str, run: Run) -> tuple[int, int]:
    """Width and additional height for what a node has shown in `run`; only what feeds nothing may be wide."""
    kind = prompt[name]["class_type"]
    if kind == "SaveVideo":  # ComfyUI lists no size of a video
        return WIDTH, WIDTH
    text = "".join(run.history["outputs"].get(name, {}).get("text", []))
    files = run.pictures(name)
    if not files:
        return WIDTH, LINE * len(text.splitlines())
    across = math.ceil(math.sqrt(len(files)))
    down = math.ceil(len(files) / across)
    width, height = Image.open(server.path_of(files[0])).size
    aspect = across * width / (down * height)
    feeds = any(name in sources(node) for node in prompt.values())
    shown = WIDTH if feeds else min(MAX_WIDTH, max(WIDTH, round(WIDTH * aspect)))
    return shown, round(shown / aspect) + 2 * LINE


def note_size(text: str) -> tuple[int, int]:
    lines = sum(math.ceil(len(paragraph) / LETTERS) + 1 for paragraph in text.split("\n\n"))
    return WIDTH, 50 + 15 * lines


def arrange(prompt: Prompt, sizes: dict[str, tuple[int, int]], note: str) -> dict[str, Box]:
    """Positions from left to right, in rows of MAX_COLUMNS; the first column is the inputs' alone, with the note on top."""
    boxes = {note: Box(0, 0, *note_size(note_of(prompt)))}
    column_of = columns(prompt)
    last = max(column_of.values())

    def height_of_sources(name: str) -> float:
        tops = [boxes[source].y for source in sources(prompt[name]) if source in boxes]
        return sum(tops) / len(tops) if tops else math.inf

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
            if sources(prompt[name]):
                y = max(y, round(height_of_sources(name)))
            boxes[name] = Box(x, y, *sizes[name])
            y += boxes[name].height + ROW_GAP
    for name in wide:  # under the columns on their right
        x = left_of(column_of[name])
        boxes[name] = Box(x, below(x), *sizes[name])
    return boxes


def detours(behind: list[dict[str, Any]]) -> list[tuple[int, list[tuple[float, float]]]]:
    """Points for links that would run behind nodes: through the gaps between columns, and over or between rows."""
    gap = (PITCH - WIDTH) / 2
    places = []
    for lane, link in enumerate(sorted(behind, key=lambda link: (link["from"], link["to"]))):
        (x, y), (end_x, end_y) = link["from"], link["to"]
        if end_x < x:  # to the next row
            corners = [(x + gap, y), (x + gap, end_y - ROW_GAP), (end_x - gap, end_y - ROW_GAP)]
        elif end_x - x < PITCH:  # far down to the next column
            corners = [(x + gap, y), (x + gap, end_y)]
        else:
            height = link["top"] - ROW_GAP / 4 - 12 * (lane % 4)
            start = [(x + gap, y)] if y - height > STEP else []
            end = [(end_x - gap, end_y)] if end_y - height > STEP else []
            corners = [*start, (x + gap, height), (end_x - gap, height), *end]
        places.append((link["id"], _with_steps(corners)))
    return places


def _with_steps(corners: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners with points between those that lie one under the other, since a curve between them bulges sideways."""
    points = corners[:1]
    for (x, y), (end_x, end_y) in itertools.pairwise(corners):
        if x == end_x:
            count = math.ceil(abs(end_y - y) / STEP)
            points += [(x, y + (end_y - y) * part / count) for part in range(1, count)]
        points.append((end_x, end_y))
    return points


def make_workflow(comfy: ComfyPage, prompt: Prompt, name: str, run: Run) -> dict[str, Any]:
    """The workflow as the page saves it, laid out, and without what only this session knows."""
    comfy.page.evaluate("() => app.clean()")  # pictures of the last one
    comfy.load_prompt(prompt, name)
    comfy.page.evaluate(FIX_SEEDS)
    heights = comfy.page.evaluate(MEASURE)
    sizes = {}
    for node in prompt:
        width, more = room(comfy.server, prompt, node, run)
        sizes[node] = (width, heights[node] + more)
    note = comfy.page.evaluate(ADD_NOTE, note_of(prompt))
    comfy.page.evaluate(PLACE, arrange(prompt, sizes, note))
    comfy.page.evaluate(ADD_REROUTES, detours(comfy.links_behind_nodes()))
    workflow = comfy.to_workflow()
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    del workflow["extra"]["ds"]  # the page then shows the whole graph when it opens it
    for node in workflow["nodes"]:
        if node["type"].startswith("IQPBFR_"):
            node["properties"] |= PACK
        meta = prompt.get(str(node["id"]), {}).get("_meta", {})
        node["properties"] |= {key: meta[key] for key in ("models", "cnr_id") if key in meta}
    return workflow


def save_picture(picture: Image.Image, path: Path) -> None:
    """As good a JPEG as MAX_BYTES allows."""
    for quality in range(90, 40, -5):
        picture.convert("RGB").save(path, quality=quality, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            return
    raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {MAX_BYTES}")


def compare(before: Image.Image, after: Image.Image) -> Image.Image:
    """Before on the left, after on the right: halves of one picture where they show the same, else both whole."""
    width, height = THUMBNAIL
    canvas = Image.new("RGB", THUMBNAIL, (32, 32, 32))
    is_same_view = (
        abs(before.width / before.height - after.width / after.height) < 0.02 and before.width > before.height
    )
    if is_same_view:
        scale = max(width / before.width, height / before.height)
        size = (round(before.width * scale), round(before.height * scale))
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        whole = (left, top, left + width, top + height)
        canvas.paste(before.convert("RGB").resize(size, Image.Resampling.LANCZOS).crop(whole))
        half = after.convert("RGB").resize(size, Image.Resampling.LANCZOS).crop(whole)
        canvas.paste(half.crop((width // 2, 0, width, height)), (width // 2, 0))
        ImageDraw.Draw(canvas).line((width // 2, 0, width // 2, height), fill="white", width=3)
        return canvas
    wide = after.width > 2 * after.height  # a strip, which goes under what it was made of
    rooms = (
        ((0, 0, width, height // 2), (0, height // 2, width, height))
        if wide
        else ((0, 0, width // 2, height), (width // 2, 0, width, height))
    )
    for picture, (left, top, right, bottom) in zip((before, after), rooms, strict=True):
        shown = picture.convert("RGB")
        scale = min((right - left - 12) / shown.width, (bottom - top - 12) / shown.height)
        shown = shown.resize((round(shown.width * scale), round(shown.height * scale)), Image.Resampling.LANCZOS)
        canvas.paste(shown, ((left + right - shown.width) // 2, (top + bottom - shown.height) // 2))
    return canvas


def make_thumbnail(server: ComfyServer, prompt: Prompt, run: Run | None, path: Path) -> None:
    """Before and after, from the pictures of the nodes the prompt names."""
    marked = {node["_meta"]["thumbnail"]: name for name, node in prompt.items() if "thumbnail" in node.get("_meta", {})}
    if run is None:
        (other,) = marked
        shutil.copyfile(WORKFLOWS / f"{other}.jpg", path)
        return
    before, after = (Image.open(server.path_of(run.pictures(marked[which])[0])) for which in ("before", "after"))
    save_picture(compare(before, after), path)


def in_a_hurry(prompt: Prompt) -> Prompt:
    """The same, made small where a checkpoint paints: it shows as many pictures, of the same shape."""
    return {
        name: node | {"inputs": node["inputs"] | {k: v for k, v in IN_A_HURRY.items() if k in node["inputs"]}}
        for name, node in prompt.items()
    }


def make(comfy: ComfyPage, name: str) -> None:
    """Write one workflow and its thumbnail."""
    prompt = json.loads((PROMPTS / f"{name}.json").read_text())
    run = comfy.server.run(in_a_hurry(prompt) if name in NEEDS_CHECKPOINT else prompt)
    if not run.is_success:
        raise RuntimeError(f"{name}: {run.error}")
    workflow = make_workflow(comfy, prompt, name, run)
    (WORKFLOWS / f"{name}.json").write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n")
    is_shown = name not in NEEDS_RESTORER + NEEDS_CHECKPOINT  # what stand-ins make is noise
    make_thumbnail(comfy.server, prompt, run if is_shown else None, WORKFLOWS / f"{name}.jpg")
    if name == GRAPH[0]:
        comfy.load_workflow(workflow)
        comfy.run()
        shot = comfy.page.screenshot(clip=comfy.fit())
        save_picture(Image.open(io.BytesIO(shot)), GRAPH[1])


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
            write_upscaler(server.base)
            write_restorers(server.base)
            if any(name in NEEDS_CHECKPOINT for name in names):
                write_checkpoint(Path(base) / "zeros.safetensors", comfyui)
                link_checkpoint(server.base, Path(base) / "zeros.safetensors")
            with open_browser(server, width=2000, height=1200) as comfy:
                for name in names:
                    make(comfy, name)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
