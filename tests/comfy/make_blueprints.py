"""Make subgraphs/<name>.json, the blueprints that newer ComfyUI offers as nodes, from the prompts of workflows.

    PYTHONPATH=tests python tests/comfy/make_blueprints.py

Which nodes of a prompt go inside, and which widgets show outside, stands in BLUEPRINTS. The page joins them; a page that keeps
shown widgets as `proxyWidgets` (1.42 does) writes what older and newer ones read.
"""

import json
import tempfile
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from browser import ComfyPage, open_browser
from conftest import PROMPTS
from make_workflows import MEASURE, PACK, PITCH, ROW_GAP, WIDTH, Prompt, columns
from server import ROOT, ComfyServer, find_comfyui
from stand_ins import write_upscaler

SUBGRAPHS = ROOT / "subgraphs"
JOIN = """([inside, places]) => {
    const nodes = app.graph.nodes.filter(node => inside.includes(String(node.id)))
    nodes.forEach(node => { const [x, y, width, height] = places[node.id]; node.pos = [x, y]; node.setSize([width, height]) })
    const {subgraph, node} = app.graph.convertToSubgraph(new Set(nodes))
    return JSON.parse(JSON.stringify([node.serialize(), subgraph.asSerialisable()]))
}"""


class Blueprint(NamedTuple):
    name: str
    prompt: Prompt
    inside: tuple[str, ...]
    shown: tuple[tuple[str, str], ...]  # node, widget
    description: str
    aliases: list[str]


def read(name: str) -> Prompt:
    return json.loads((PROMPTS / f"{name}.json").read_text())


def enlarged_by_a_model() -> Prompt:
    """Workflow 09 with the upscale model of workflow 11 in the place of the plain enlarging."""
    prompt, other = read("09 Faces into an enlarged photo"), read("11 Restore then upscale")
    enlarge = {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["5", 0], "image": ["3", 0]}}
    return prompt | {"4": enlarge, "5": other["4"]}


BLUEPRINTS = (
    Blueprint(
        "Restore faces (IQP)",
        read("01 Restore a photo"),
        ("1", "4"),
        (("1", "model_name"), ("4", "quality"), ("4", "fidelity"), ("4", "visibility")),
        "Restore all faces of a photo: image in, image and faces out.",
        ["face restore", "codeformer", "reactor", "facerestore_cf"],
    ),
    Blueprint(
        "Four blocks (IQP)",
        read("03 One face in four blocks"),
        ("1", "3", "4", "5", "6", "7"),
        (("1", "model_name"), ("4", "quality"), ("5", "fidelity")),
        "Encoder, lookup, decoder and scorer as blocks for one aligned face; open it to wire them otherwise.",
        ["codebook", "encoder", "decoder", "iqa"],
    ),
    Blueprint(
        "Faces into an upscaled photo (IQP)",
        enlarged_by_a_model(),
        ("1", "4", "5", "6"),
        (("5", "model_name"), ("1", "model_name"), ("6", "quality"), ("6", "fidelity")),
        "Enlarge a photo by an upscale model, and paste its restored faces at that size.",
        ["upscale", "old photo", "face restore"],
    ),
)


def places(prompt: Prompt, inside: tuple[str, ...], heights: dict[str, int]) -> dict[str, tuple[int, int, int, int]]:
    """From left to right, one under the other in each column."""
    column_of, bottoms, found = columns(prompt), {}, {}
    for name in inside:
        x, y = PITCH * column_of[name], bottoms.get(column_of[name], 0)
        found[name] = (x, y, WIDTH, heights[name])
        bottoms[column_of[name]] = y + heights[name] + ROW_GAP
    return found


def make_blueprint(comfy: ComfyPage, blueprint: Blueprint) -> dict[str, Any]:
    """The blueprint as the page would publish it, with nothing wired outside."""
    comfy.load_prompt(blueprint.prompt, blueprint.name)
    heights = comfy.page.evaluate(MEASURE)
    node, subgraph = comfy.page.evaluate(
        JOIN, [list(blueprint.inside), places(blueprint.prompt, blueprint.inside, heights)]
    )
    subgraph["id"] = node["type"] = str(uuid.uuid5(uuid.NAMESPACE_URL, blueprint.name))
    subgraph["name"] = node["title"] = blueprint.name
    node["pos"], node["size"] = [0, 0], [PITCH, 150]
    node["properties"] = {"proxyWidgets": [list(pair) for pair in blueprint.shown]}
    for number, slot in enumerate([*subgraph["inputs"], *subgraph["outputs"]]):
        slot["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{blueprint.name} {number}"))
    for slot in node["inputs"]:
        slot["link"] = None
    for slot in node["outputs"]:
        slot["links"] = []
    for inner in subgraph["nodes"]:
        if inner["type"].startswith("IQPBFR_"):
            inner["properties"] |= PACK
        if models := blueprint.prompt[str(inner["id"])].get("_meta", {}).get("models"):
            inner["properties"]["models"] = models
    return {
        "revision": 0,
        "last_node_id": node["id"],
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {"BlueprintDescription": blueprint.description, "BlueprintSearchAliases": blueprint.aliases},
    }


def main() -> None:
    comfyui = find_comfyui()
    if comfyui is None:
        raise SystemExit("no ComfyUI: set COMFYUI_DIR, or install one at ~/comfy/ComfyUI")
    SUBGRAPHS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        server = ComfyServer(comfyui, Path(base), "--cpu")
        try:
            write_upscaler(server.base)
            with open_browser(server, width=2000, height=1200) as comfy:
                for blueprint in BLUEPRINTS:
                    made = make_blueprint(comfy, blueprint)
                    # ASCII, since ComfyUI reads it in the system's encoding.
                    (SUBGRAPHS / f"{blueprint.name}.json").write_text(json.dumps(made, indent=1) + "\n")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
