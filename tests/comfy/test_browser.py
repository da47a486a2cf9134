"""The workflows in the real page: offered, opened, converted, queued and looked at, in two frontends."""

import importlib.util
import re
import urllib.request
from pathlib import Path

import pytest
from server import FOLDER, NEEDS_DOWNLOAD, ROOT

browser = pytest.importorskip("browser", reason="no playwright: pip install playwright")

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
NAMES = [path.stem for path in WORKFLOWS]
HELP_PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
OUTPUT = ROOT / "tests" / "output"


@pytest.fixture(scope="session", params=["own", "newest"])
def server(request, comfyui):
    """ComfyUI with the frontend it came with, and with the one of the test environment."""
    if browser.find_browser() is None:
        pytest.skip("no Chromium: apt install chromium")
    if request.param == "own":
        return request.getfixturevalue("comfy")
    found = importlib.util.find_spec("comfyui_frontend_package")
    if found is None:
        pytest.skip("no other frontend: pip install comfyui-frontend-package")
    static = Path(found.submodule_search_locations[0]) / "static"
    return request.getfixturevalue("start_comfy")("--front-end-root", str(static))


@pytest.fixture
def page(server):
    """A fresh page; in the end its console must hold no error of ours."""
    with browser.open_browser(server) as comfy:
        yield comfy
        assert not [error for error in comfy.errors if re.search("iqp", error, re.I)]


def fetch(server, path):
    with urllib.request.urlopen(server.url + path, timeout=60) as answer:
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


def test_every_workflow_is_offered(page, server):
    assert sorted(page.templates()) == NAMES
    for path in WORKFLOWS:
        for file in (path, path.with_suffix(".jpg")):
            assert fetch(server, f"/api/workflow_templates/{FOLDER}/{file.name}") == file.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_workflow_opens_and_runs(page, server, prompt, name):
    page.open_template(name)
    assert as_sent(page.to_prompt(), server) == as_sent(prompt(name), server)
    if name not in NEEDS_DOWNLOAD:
        run = page.run()
        assert run.is_success, run.error
    page.fit()
    OUTPUT.mkdir(exist_ok=True)
    page.page.screenshot(path=OUTPUT / f"{page.version}_{name}.png")
    assert not page.overlaps()


@pytest.mark.skipif(not HELP_PAGES, reason="no help pages in web/docs")
def test_help_pages_are_served(server):
    for path in HELP_PAGES:
        assert fetch(server, f"/extensions/{FOLDER}/docs/{path.name}") == path.read_bytes()
