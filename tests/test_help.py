"""Every node is explained: a page in web/docs, and names and tooltips in each language of locales/.

Schemas are read from the source, so ComfyUI is not needed. A new node needs `web/docs/<node id>.md` and an entry in each
`locales/<language>/nodeDefs.json`; `web/docs/<node id>/<language>.md` is optional.
"""

import json
import re

import pytest
from schemas import NODES, ROOT

DOCS, LOCALES = ROOT / "web" / "docs", ROOT / "locales"
PROMPTS = ROOT / "tests" / "comfy" / "prompts"  # the workflows in API format
LANGUAGES = ("en", "ja", "zh")
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_a_slot_does_is_in_the_second_column(page):
    """The side panel of ComfyUI shows two."""
    heads = re.findall(
        r"^\| (?:Name|标识|ID) \| (.+?) \|.* (?:Type|类型|型) \|", page.read_text(encoding="utf-8"), re.M
    )
    assert heads
    assert set(heads) <= {
        *("What it does for the picture", "What it is"),
        *("对画面的作用", "内容"),
        *("画像への効果", "内容"),
    }


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_page_says_what_is_out_of_sight(node):
    text = (DOCS / f"{node.id}.md").read_text(encoding="utf-8")
    advanced = set(re.findall(r"^\| `(\w+)` \|.*, advanced \|", text, re.M))
    assert advanced == {slot.id for slot in node.inputs if slot.is_advanced}
    assert ("**Show advanced inputs**" in text) == bool(advanced)


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
    paths = [re.fullmatch(r"f'\{CATEGORY\}/(\w+)'", node.category) for node in NODES]
    assert all(paths), [node.id for node, path in zip(NODES, paths, strict=True) if not path]
    source = (ROOT / "nodes" / "schema.py").read_text(encoding="utf-8")
    root = re.search(r'^CATEGORY = "(.+)"', source, re.M)[1]
    parts = {*root.split("/"), *(path[1] for path in paths)}
    main = json.loads((LOCALES / language / "main.json").read_text(encoding="utf-8"))
    assert parts <= set(main["nodeCategories"])
