"""The workflows in the real page: offered, opened and converted in two frontends, run by a click and looked at in the newest.

Both frontends stand before the same ComfyUI: what they send is compared, and need not be run twice.
"""

import importlib.util
import json
import re
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest
from schemas import NODES
from server import FOLDER, NEEDS_CHECKPOINT, NEEDS_RESTORER, NEEDS_UPSCALER, ROOT, find_browser
from stand_ins import IN_A_HURRY, link_checkpoint, write_restorers, write_upscaler

browser = pytest.importorskip("browser", reason="no playwright: pip install playwright")

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
NAMES = [path.stem for path in WORKFLOWS]
OLD_WORKFLOWS = sorted((Path(__file__).parent / "old_workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
HELP_PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
OUTPUT = ROOT / "tests" / "output"
BY_ID = {node.id: node for node in NODES}


@pytest.fixture(scope="session", params=["own", "newest"])
def server(request, comfyui):
    """ComfyUI with the frontend it came with, and with the one of the test environment, which is newer."""
    if find_browser() is None:
        pytest.skip("no Chromium: apt install chromium")
    if request.param == "own":
        return request.getfixturevalue("comfy")
    found = importlib.util.find_spec("comfyui_frontend_package")
    if found is None:
        pytest.skip("no other frontend: pip install comfyui-frontend-package")
    static = Path(found.submodule_search_locations[0]) / "static"
    return request.getfixturevalue("start_comfy")("--front-end-root", str(static))


@pytest.fixture
def is_newest(request):
    return request.node.callspec.params["server"] == "newest"


@pytest.fixture(scope="session")
def open_page(server):
    with browser.open_browser(server) as comfy:
        yield comfy


SOCKETS = re.findall(r'"(IQPBFR_\w+)"', (ROOT / "nodes" / "sockets.py").read_text())


@pytest.fixture
def page(open_page):
    """The page; in the end its console must hold no error of ours."""
    open_page.errors.clear()
    yield open_page
    open_page.close_dialog()
    ours = [error for error in open_page.errors if re.search("iqp", error, re.I)]
    assert not [error for error in ours if "api.comfy.org" not in error]  # where the page asks about packs


def fetch(server, path):
    with urllib.request.urlopen(server.url + quote(path), timeout=60) as answer:
        return answer.read()


def as_sent(prompt, server):
    """Class and inputs by node; widgets that only the page has, such as the text of Preview Any, left out."""
    info = server.get("/object_info")

    def declared(node):
        inputs = info[node["class_type"]]["input"]
        return inputs.get("required", {}) | inputs.get("optional", {})

    return {
        name: (node["class_type"], {k: v for k, v in node["inputs"].items() if k in declared(node)})
        for name, node in prompt.items()
    }


def test_every_socket_type_has_a_colour_of_its_own(page):
    page.load_workflow(json.loads(WORKFLOWS[0].read_text()))
    sockets, links = page.page.evaluate(
        "() => [app.canvas.default_connection_color_byType, window.LGraphCanvas.link_type_colors].map(c => ({...c}))"
    )
    for colours in (sockets, links):
        ours = [colours[name] for name in SOCKETS]
        assert len(set(ours)) == len(SOCKETS)
        assert not set(ours) & {colour for name, colour in colours.items() if name not in SOCKETS}


def test_every_workflow_is_offered(page, server):
    assert sorted(page.templates()) == NAMES
    for path in WORKFLOWS:
        for file in (path, path.with_suffix(".jpg")):
            assert fetch(server, f"/api/workflow_templates/{FOLDER}/{file.name}") == file.read_bytes()


@pytest.fixture
def stand_in(request, page, server):
    """Give the workflow of a name the model file it needs, for the time of a test."""
    files = []

    def write(name):
        if name in NEEDS_UPSCALER:
            files.append(write_upscaler(server.base))
        if name in NEEDS_RESTORER:
            files.extend(write_restorers(server.base))
        if name in NEEDS_CHECKPOINT:
            files.append(link_checkpoint(server.base, request.getfixturevalue("checkpoint")))
        if files:
            page.page.evaluate("() => app.refreshComboInNodes()")

    yield write
    for file in files:
        file.unlink()
    if files:
        page.page.evaluate("() => app.refreshComboInNodes()")


@pytest.mark.parametrize("name", NAMES)
def test_workflow_opens_and_in_the_newest_page_runs_by_one_click(page, server, is_newest, prompt, stand_in, name):
    stand_in(name)
    if is_newest:
        page.open_template(name)
    else:
        page.load_workflow(json.loads((ROOT / "workflows" / f"{name}.json").read_text()))
    sent, wanted = as_sent(page.to_prompt(), server), as_sent(prompt(name), server)
    assert sent.keys() == wanted.keys()
    for node, (kind, inputs) in wanted.items():  # the page also sends optional inputs at their defaults
        assert (kind, {key: value for key, value in sent[node][1].items() if key in inputs}) == (sent[node][0], inputs)
    assert not page.overlaps()
    assert not page.links_behind_nodes()
    if is_newest:
        run_by_click(page, IN_A_HURRY if name in NEEDS_CHECKPOINT else {})
        OUTPUT.mkdir(exist_ok=True)
        page.page.screenshot(path=OUTPUT / f"{page.version}_{name}.png")


@pytest.mark.slow
@pytest.mark.parametrize("path", OLD_WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_of_an_earlier_release_keeps_its_settings_and_in_the_older_page_runs(page, is_newest, stand_in, path):
    """The older page for those who have not updated ComfyUI since, either."""
    stand_in(path.stem)
    saved = json.loads(path.read_text())
    page.load_workflow(saved)
    sent = page.to_prompt()
    for node in saved["nodes"]:
        widgets = BY_ID[node["type"]].widgets if node["type"] in BY_ID else ()
        for widget, value in zip(widgets, node.get("widgets_values", ()), strict=False):
            assert sent[str(node["id"])]["inputs"][widget.id] == value, f"{node['type']}.{widget.id}"
    if not is_newest:
        run_by_click(page, IN_A_HURRY if path.stem in NEEDS_CHECKPOINT else {"steps": 2})


def run_by_click(page, values):
    """Click Run, with other values in the widgets of these names, so that it does not take long."""
    page.page.evaluate(SET_WIDGETS, values)
    run = page.run()
    assert run.is_success, run.error


SET_WIDGETS = """values => app.graph.nodes.flatMap(node => node.widgets ?? []).forEach(widget => {
    widget.value = values[widget.name] ?? widget.value
})"""


def test_blueprints_are_found_and_run(page, stand_in):
    """By a search, as a user finds them; each with a picture before it and one behind."""
    if not page.knows_blueprints:
        pytest.skip(f"frontend {page.version} takes no blueprints of extensions")
    stand_in("11 Restore then upscale")
    page.page.evaluate("() => app.graph.clear()")
    for number, path in enumerate(BLUEPRINTS):
        page.add_node(path.stem, 800, 250 + 200 * number)
    assert page.page.evaluate("() => app.graph.nodes.map(node => node.title)") == [path.stem for path in BLUEPRINTS]
    shown = page.page.evaluate(WIRE)
    run = page.run()
    assert run.is_success, run.error
    assert all(run.pictures(node) for node in shown)
    page.page.screenshot(path=OUTPUT / f"{page.version}_blueprints.png")


WIRE = """() => [...app.graph.nodes].map((node, number) => {
    const [source, shown] = ["IQPBFR_ExamplePicture", "PreviewImage"].map(type => LiteGraph.createNode(type))
    ;[[source, 0], [node, 350], [shown, 800]].forEach(([one, x]) => { one.pos = [x, 500 * number] })
    app.graph.add(source)
    app.graph.add(shown)
    source.connect(0, node, 0)
    node.connect(0, shown, 0)
    return String(shown.id)
})"""


def test_what_few_need_is_out_of_sight(page):
    """Of Restore Photo's eleven knobs, seven are shown when they are asked for."""
    page.open_template("01 Restore a photo")
    assert page.page.evaluate(SHOWN) == ["quality", "fidelity", "visibility", "video_smoothing"]


# By the mark, which Nodes 2.0 and the side panel go by.
SHOWN = """() => app.graph.nodes.find(node => node.type === "IQPBFR_RestorePhoto").widgets
    .filter(widget => !widget.options.advanced).map(widget => widget.name)"""


@pytest.mark.parametrize("name", NEEDS_UPSCALER + NEEDS_RESTORER)
def test_a_model_that_is_not_there_is_offered(page, prompt, name):
    """By ComfyUI's own dialog, in newer versions behind a warning; both know addresses from the loader's properties."""
    files = [file for node in prompt(name).values() for file in node.get("_meta", {}).get("models", ())]
    page.open_template(name)
    warning = page.page.get_by_text("View details").first
    elsewhere = page.page.locator(":not(strong)")  # the note on the canvas names them, too, in bold
    for file in files:
        offers = page.page.get_by_text(file["name"]).and_(elsewhere).locator("visible=true")
        offers.or_(warning).first.wait_for()
        if warning.is_visible():
            warning.click()
        offers.first.wait_for()


@pytest.mark.skipif(not HELP_PAGES, reason="no help pages in web/docs")
def test_help_pages_are_served(server):
    for path in HELP_PAGES:
        assert fetch(server, f"/extensions/{FOLDER}/docs/{path.name}") == path.read_bytes()
