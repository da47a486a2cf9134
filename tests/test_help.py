"""Every node is explained: a page in web/docs, and names and tooltips in each language of locales/.

Schemas are read from the source, so ComfyUI is not needed. A new node needs `web/docs/<node id>.md` and an entry in each
`locales/<language>/nodeDefs.json`; `web/docs/<node id>/<language>.md` is optional.
"""

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS, LOCALES = ROOT / "web" / "docs", ROOT / "locales"
PROMPTS = ROOT / "tests" / "comfy" / "prompts"  # the workflows in API format
LANGUAGES = ("en", "ja", "zh")
TREES = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "nodes").glob("*.py"))]
# Helpers such as quality_input(): name -> definition.
HELPERS = {node.name: node for tree in TREES for node in tree.body if isinstance(node, ast.FunctionDef)}


@dataclass(frozen=True)
class Slot:
    """An input or output: its id, the name shown (None: the id), and its tooltip (None: not a plain string)."""

    id: str
    name: str | None
    tooltip: str | None


@dataclass(frozen=True)
class Node:
    id: str
    display_name: str
    description: str
    inputs: list[Slot]
    outputs: list[Slot]


def _constant(node: ast.expr | None):
    return node.value if isinstance(node, ast.Constant) else None


def _slot(call: ast.Call) -> Slot:
    """`io.Float.Input("id", ...)`, or a helper that returns such a call and may take the id as its first argument."""
    first = call.args[0] if call.args else None
    if isinstance(call.func, ast.Name):
        helper = HELPERS[call.func.id]
        if first is None and helper.args.defaults:
            first = helper.args.defaults[0]
        call = next(node.value for node in ast.walk(helper) if isinstance(node, ast.Return))
        if isinstance(call.args[0], ast.Constant):
            first = call.args[0]
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    id = _constant(options.get("id", first))
    assert isinstance(id, str), ast.unparse(call)
    return Slot(id, _constant(options.get("display_name")), _constant(options.get("tooltip")))


def _node(schema: ast.Call) -> Node:
    options = {keyword.arg: keyword.value for keyword in schema.keywords}
    texts = (_constant(options[key]) for key in ("node_id", "display_name", "description"))
    slots = ([_slot(call) for call in options[key].elts] for key in ("inputs", "outputs"))
    return Node(*texts, *slots)


NODES = [
    _node(call)
    for tree in TREES
    for call in ast.walk(tree)
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "Schema"
]
PAGES = sorted(DOCS.rglob("*.md"))


def _node_defs(language: str) -> dict:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def _texts(entry) -> list[str]:
    return [entry] if isinstance(entry, str) else [text for value in entry.values() for text in _texts(value)]


def test_all_nodes_were_found():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py"))
    assert sorted(node.id for node in NODES) == sorted(re.findall(r'node_id="(\w+)"', source))


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_page_names_everything(node):
    for page in (DOCS / f"{node.id}.md", *DOCS.glob(f"{node.id}/*.md")):
        text = page.read_text(encoding="utf-8")
        names = [*(slot.id for slot in node.inputs), *(slot.name or slot.id for slot in node.outputs)]
        assert [name for name in names if f"\n| `{name}` |" not in text] == [], f"rows missing in the tables of {page}"


def test_pages_belong_to_nodes():
    ids = {node.id for node in NODES}
    for page in PAGES:
        assert (page.stem if page.parent == DOCS else page.parent.name) in ids, page
        assert page.parent == DOCS or page.stem in LANGUAGES, page


def test_pages_name_the_workflows_that_show_the_node():
    prompts = {path.stem: path.read_text(encoding="utf-8") for path in PROMPTS.glob("*.json")}
    assert prompts
    for page in PAGES:
        id = page.stem if page.parent == DOCS else page.parent.name
        named = set(re.findall(r"\*\*(\d\d .+?)\*\*", page.read_text(encoding="utf-8")))
        assert named, page
        assert named <= set(prompts), page
        assert {name for name, prompt in prompts.items() if f'"{id}"' in prompt} <= named, page


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_locale_has_every_text(node, language):
    entry = _node_defs(language)[node.id]
    assert set(entry) == {"display_name", "description", "inputs", "outputs"}
    assert list(entry["inputs"]) == [slot.id for slot in node.inputs]
    assert list(entry["outputs"]) == [str(index) for index in range(len(node.outputs))]
    for slot in (*entry["inputs"].values(), *entry["outputs"].values()):
        assert set(slot) == {"name", "tooltip"}
    for text in _texts(entry):
        assert text.strip()
        assert not set(text) & set("{}@|"), f"vue-i18n reads these signs as its own: {text}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_locale_has_no_other_nodes(language):
    assert set(_node_defs(language)) == {node.id for node in NODES}


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_english_repeats_the_schema(node):
    """The page shows the English locale instead of the schema, so they must not drift apart."""
    entry = _node_defs("en")[node.id]
    assert (entry["display_name"], entry["description"]) == (node.display_name, node.description)
    written = [*entry["inputs"].values(), *entry["outputs"].values()]
    for slot, text in zip([*node.inputs, *node.outputs], written, strict=True):
        assert text["name"] == (slot.name or slot.id)
        assert slot.tooltip in (None, text["tooltip"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_categories_are_named(language):
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py"))
    parts = {part for path in re.findall(r'^CATEGORY = "(.+)"', source, re.M) for part in path.split("/")}
    main = json.loads((LOCALES / language / "main.json").read_text(encoding="utf-8"))
    assert parts
    assert parts <= set(main["nodeCategories"])
