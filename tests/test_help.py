"""Every node is explained: a page in web/docs, and names and tooltips in each language of locales/.

Schemas are read from the source, so ComfyUI is not needed. A new node needs `web/docs/<node id>.md` in English, its translations
`web/docs/<node id>/<language>.md`, and an entry in each `locales/<language>/nodeDefs.json`.
"""

import json
import re
from pathlib import Path

import pytest
from schemas import NODES, ROOT

DOCS, LOCALES = ROOT / "web" / "docs", ROOT / "locales"
PROMPTS = ROOT / "tests" / "comfy" / "prompts"  # the workflows in API format
LANGUAGES = ("en", "ja", "zh")
TRANSLATIONS = ("ja", "zh")
SHOW_ADVANCED = {"en": "Show advanced inputs", "ja": "詳細入力を表示", "zh": "显示高级输入"}  # as ComfyUI's page has it
ADVANCED = {"en": ", advanced", "ja": "、詳細", "zh": "，高级"}
PAGES = sorted(DOCS.rglob("*.md"))
SLOTS = {name for node in NODES for slot in (*node.inputs, *node.outputs) for name in (slot.id, slot.name)}
_CODE = re.compile(r"`([^`]+)`")
_MESSAGE = re.compile(r'"([^"]+)"')
_WORKFLOW = re.compile(r"\*\*(\d\d .+?)\*\*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def _names(node) -> list[str]:
    """What pages call inputs and outputs in English: inputs by their id, outputs by the name shown."""
    return [*(slot.id for slot in node.inputs), *(slot.name or slot.id for slot in node.outputs)]


def _page(node, language: str) -> Path:
    return DOCS / f"{node.id}.md" if language == "en" else DOCS / node.id / f"{language}.md"


def _outline(text: str) -> list[tuple[int, int]]:
    """Tips and rows of tables, section by section."""
    return [(len(re.findall("^- ", part, re.M)), len(re.findall(r"^\|", part, re.M))) for part in text.split("\n## ")]


def _figures(text: str) -> list[tuple[str, list[str]]]:
    """Type, and the numbers after it, of every input and output."""
    rows = re.findall(r"^\| [^|]*`[^|]+` \|.*?\| ([A-Z_]+)\b(.*)", text, re.M)
    return [(kind, _NUMBER.findall(rest)) for kind, rest in rows]


def _node_defs(language: str) -> dict:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def _texts(entry) -> list[str]:
    return [entry] if isinstance(entry, str) else [text for value in entry.values() for text in _texts(value)]


def test_all_nodes_were_found():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py"))
    assert sorted(node.id for node in NODES) == sorted(re.findall(r'node_id="(\w+)"', source))


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_page_names_everything(node):
    text = _page(node, "en").read_text(encoding="utf-8")
    assert [name for name in _names(node) if f"\n| `{name}` |" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_a_slot_does_is_in_the_second_column(page):
    """The side panel of ComfyUI shows two."""
    heads = re.findall(
        r"^\| (?:Name|名称|名前) \| (.+?) \|.* (?:Type|类型|型) \|", page.read_text(encoding="utf-8"), re.M
    )
    assert heads
    assert set(heads) <= {
        *("What it does for the picture", "What it is"),
        *("对画面的作用", "内容"),
        *("画像への効果", "内容"),
    }


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_page_says_what_is_out_of_sight(node, language):
    text = _page(node, language).read_text(encoding="utf-8")
    advanced = set(re.findall(rf"^\| .*?`(\w+)` \|.*{ADVANCED[language]} \|", text, re.M))
    assert advanced == {slot.id for slot in node.inputs if slot.is_advanced}
    assert (f"**{SHOW_ADVANCED[language]}**" in text) == bool(advanced)


@pytest.mark.parametrize("language", TRANSLATIONS)
@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_translated_page_calls_slots_what_the_node_calls_them(node, language):
    entry = _node_defs(language)[node.id]
    text = _page(node, language).read_text(encoding="utf-8")
    shown = [slot["name"] for slot in (*entry["inputs"].values(), *entry["outputs"].values())]
    rows = [f"\n| {name} `{english}` |" for name, english in zip(shown, _names(node), strict=True)]
    assert [row for row in rows if row not in text] == []
    assert text.startswith(f"# {entry['display_name'].removesuffix(' (IQP)')}\n")


@pytest.mark.parametrize("language", TRANSLATIONS)
@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_translated_page_says_what_the_english_one_says(node, language):
    """As far as it can be counted: sections, tips, rows, types and limits, files, messages, numbers, workflows."""
    english, translated = (_page(node, which).read_text(encoding="utf-8") for which in ("en", language))
    assert _outline(translated) == _outline(english)
    assert _figures(translated) == _figures(english)
    for facts in (_CODE, _MESSAGE, _WORKFLOW):
        assert set(facts.findall(translated)) - SLOTS == set(facts.findall(english)) - SLOTS
    assert set(_NUMBER.findall(english)) <= set(_NUMBER.findall(translated))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_bold_is_drawn_bold(page):
    """Markdown leaves the stars when bold text ends in a sign and a letter follows without a space, as happens in Chinese."""
    bold = re.findall(r"\*\*(.+?)\*\*(.?)", page.read_text(encoding="utf-8"))
    assert [text for text, after in bold if text[-1] in "。，、：？！」）" and after.isalnum()] == []


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
        named = set(_WORKFLOW.findall(page.read_text(encoding="utf-8")))
        assert named, page
        assert named <= set(prompts), page
        assert {name for name, prompt in prompts.items() if f'"{id}"' in prompt} <= named, page


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readme_lists_every_workflow(name):
    listed = re.findall(r"^\| (\d\d .+?) \|", (ROOT / name).read_text(encoding="utf-8"), re.M)
    assert listed == sorted(path.stem for path in PROMPTS.glob("*.json"))


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
