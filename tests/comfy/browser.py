"""The page of a ComfyUI server in headless Chromium: load, convert, queue and look at workflows."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from playwright.sync_api import FloatRect, Page, Request, TimeoutError, sync_playwright
from server import FOLDER, ROOT, ComfyServer, Refused, Run, find_browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# As for somebody who has been here before: no tutorial, and nothing over the canvas.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
PATIENCE = 120_000  # milliseconds: machines that run tests are busy

IS_READY = """() => window.app?.vueAppReady && window.app.graph && !document.querySelector("#splash-loader")
    && Object.keys(LiteGraph.registered_node_types).some(name => name.startsWith("IQPBFR_"))"""
FIT = """() => {
    const boxes = app.graph.nodes.map(node => [...node.getBounding()])
    const margin = 24
    const [left, top] = [0, 1].map(axis => Math.min(...boxes.map(box => box[axis])) - margin)
    const [right, bottom] = [0, 1].map(axis => Math.max(...boxes.map(box => box[axis] + box[axis + 2])) + margin)
    const {ds, canvas} = app.canvas
    const area = canvas.getBoundingClientRect()
    const [menuLeft, menuTop, menus] = [80, 110, 190]
    ds.scale = Math.min(1, (area.width - menus) / (right - left), (area.height - menus) / (bottom - top))
    ds.offset = [menuLeft / ds.scale - left, menuTop / ds.scale - top]
    app.canvas.setDirty(true, true)
    return {
        x: area.x + menuLeft,
        y: area.y + menuTop,
        width: (right - left) * ds.scale,
        height: (bottom - top) * ds.scale,
    }
}"""
IS_OPEN = "name => app.extensionManager.workflow.activeWorkflow?.filename.startsWith(name)"
SHOWS_PICTURES = """ids => app.graph.nodes.filter(node => ids.includes(String(node.id)))
    .every(node => node.imgs?.length && node.imgs.every(image => image.complete && image.naturalWidth))"""
OVERLAPS = """() => {
    const nodes = app.graph.nodes.map(node => ({title: node.title, box: [...node.getBounding()]}))
    const meet = (a, b, axis) => a[axis] < b[axis] + b[axis + 2] && b[axis] < a[axis] + a[axis + 2]
    return nodes.flatMap((one, index) => nodes.slice(index + 1)
        .filter(other => meet(one.box, other.box, 0) && meet(one.box, other.box, 1))
        .map(other => [one.title, other.title]))
}"""

# Links whose line, from stop to stop, passes behind a node that is not one of its ends.
BEHIND = """() => {
    const nodes = app.graph.nodes, title = LiteGraph.NODE_TITLE_HEIGHT
    const box = node => [node.pos[0], node.pos[1] - title, node.size[0], node.size[1] + title]
    const line = (a, b) => {
        const reach = 0.25 * Math.hypot(b[0] - a[0], b[1] - a[1])
        const stops = [a, [a[0] + reach, a[1]], [b[0] - reach, b[1]], b]
        return Array.from({length: 60}, (_, step) => {
            const t = step / 59, weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t ** 2 * (1 - t), t ** 3]
            return [0, 1].map(axis => weights.reduce((sum, weight, index) => sum + weight * stops[index][axis], 0))
        })
    }
    const holds = (node, [x, y]) => {
        const [left, top, width, height] = box(node)
        return x > left + 3 && x < left + width - 3 && y > top + 3 && y < top + height - 3
    }
    return [...app.graph.links.values()].flatMap(link => {
        const source = app.graph.getNodeById(link.origin_id), target = app.graph.getNodeById(link.target_id)
        const from = [...source.getOutputPos(link.origin_slot)], to = [...target.getInputPos(link.target_slot)]
        const stops = [from, ...link.constructor.getReroutes(app.graph, link).map(stop => [...stop.pos]), to]
        const points = stops.slice(1).flatMap((stop, index) => line(stops[index], stop))
        const others = nodes.filter(node => node !== source && node !== target)
        const met = others.filter(node => points.some(point => holds(node, point)))
        if (!met.length) return []
        const between = others.map(box)
            .filter(([x, y, width]) => x < to[0] && x + width > from[0] && met.some(node => Math.abs(box(node)[1] - y) < 400))
        return [{id: link.id, from, to, top: Math.min(...between.map(([, y]) => y)), titles: [source, target, ...met].map(node => node.title)}]
    })
}"""


def blueprints() -> dict[str, Any]:
    """What newer servers answer to /global_subgraphs, with the text of each blueprint."""
    return {
        path.stem: {
            "source": "custom_node",
            "name": path.stem,
            "info": {"node_pack": f"custom_nodes.{FOLDER}"},
            "data": path.read_text(),
        }
        for path in (ROOT / "subgraphs").glob("*.json")
    }


class ComfyPage:
    """ComfyUI's page, ready for use; `errors` are the console's."""

    def __init__(self, page: Page, server: ComfyServer) -> None:
        self.page = page
        self.server = server
        self.errors: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on(
            "console", lambda said: self.errors.append(f"{said.text} {said.location}") if said.type == "error" else None
        )
        page.on("pageerror", lambda error: self.errors.append(error.stack or error.message))
        self.knows_blueprints = False  # of extensions: older pages never ask for them
        page.on("request", self._note)
        server.post("/settings", SETTINGS)
        if not server.has("/global_subgraphs"):
            page.route("**/api/global_subgraphs*", lambda route: route.fulfill(json=blueprints()))
        page.goto(server.url, wait_until="domcontentloaded")
        page.wait_for_function(IS_READY)

    def _note(self, request: Request) -> None:
        self.knows_blueprints |= request.url.endswith("/global_subgraphs")

    @property
    def version(self) -> str:
        """Of the frontend."""
        return self.page.evaluate("window.__COMFYUI_FRONTEND_VERSION__")

    def load_prompt(self, prompt: dict[str, Any], name: str) -> None:
        """Open a prompt in API format."""
        self.page.evaluate("([prompt, name]) => app.loadApiJson(prompt, name)", [prompt, name])

    def load_workflow(self, workflow: dict[str, Any]) -> None:
        """Open a workflow in UI format."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)

    def to_prompt(self) -> dict[str, Any]:
        """What is open, in API format."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def to_workflow(self) -> dict[str, Any]:
        """What is open, in UI format, as the page would save it."""
        return self.page.evaluate("async () => JSON.parse(JSON.stringify((await app.graphToPrompt()).workflow))")

    def run(self) -> Run:
        """Click Run, wait until what is open has run and the page shows the pictures."""
        with self.page.expect_response(
            lambda answer: answer.url.endswith("/prompt") and answer.request.method == "POST"
        ) as queued:
            self.page.get_by_role("button", name="Run", exact=True).first.click()
        answer = queued.value.json()
        if not queued.value.ok:
            raise Refused(answer)
        run = self.server.wait(answer["prompt_id"])
        self.wait_for_pictures([node for node in run.history["outputs"] if run.pictures(node)])
        return run

    def wait_for_pictures(self, nodes: list[str]) -> None:
        """Until these nodes show theirs."""
        self.fit()  # what is off the screen is not loaded
        self.page.wait_for_function(SHOWS_PICTURES, arg=nodes)

    def fit(self) -> FloatRect:
        """Show the whole graph clear of the menus; returns where it is in the page."""
        place = self.page.evaluate(FIT)
        self.page.wait_for_timeout(500)  # for the canvas and what floats over it to be drawn
        return place

    def templates(self) -> list[str]:
        """Open the template browser at this extension's workflows; returns their names."""
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        cards = self.page.locator("[data-testid^=template-workflow-]")
        cards.first.wait_for()  # once it has loaded, the browser chooses its first category, whatever was clicked
        self.page.get_by_role("dialog").get_by_text(FOLDER).first.click()
        self.page.get_by_role("heading", name=FOLDER).wait_for()
        cards.first.wait_for()
        shown = 0
        while (count := cards.count()) > shown:  # the page adds cards as one scrolls down
            shown = count
            cards.last.scroll_into_view_if_needed()
            self.page.wait_for_timeout(500)
        return cards.evaluate_all("cards => cards.map(card => card.dataset.testid.replace('template-workflow-', ''))")

    def close_dialog(self) -> None:
        """Close what is open over the canvas, if anything is."""
        self.page.keyboard.press("Escape")
        self.page.get_by_role("dialog").first.wait_for(state="detached")
        self.page.wait_for_timeout(500)  # the page forgets a dialog some time after it is gone

    def open_template(self, name: str) -> None:
        """Open one of this extension's workflows as a user does."""
        self.templates()
        card = self.page.get_by_test_id(f"template-workflow-{name}")
        for _ in range(5):
            card.click()
            with suppress(TimeoutError):  # a click is lost on a card that the page was just drawing anew
                # A workflow that was opened before gets a number behind its name.
                self.page.wait_for_function(IS_OPEN, arg=name, timeout=PATIENCE / 6)
                return
        raise AssertionError(f"five clicks on the card of {name!r} opened nothing")

    def add_node(self, name: str, x: int, y: int) -> None:
        """Search for a node by its name and put it where the page shows this point."""
        count = self.page.evaluate("() => app.graph.nodes.length")
        self.page.evaluate("() => { app.extensionManager.command.execute('Workspace.SearchBox.Toggle') }")
        self.page.get_by_role("dialog").locator("input").first.fill(name)
        self.page.get_by_role("dialog").get_by_text(name, exact=True).first.wait_for()
        self.page.keyboard.press("Enter")
        self.page.get_by_role("dialog").first.wait_for(state="detached")
        self.page.mouse.click(x, y)  # until then it hangs on the pointer
        self.page.wait_for_function("count => app.graph.nodes.length > count", arg=count)

    def links_behind_nodes(self) -> list[dict[str, Any]]:
        """Links that run behind nodes: `id`, their ends `from` and `to`, `top` of what lies between, and `titles`."""
        return self.page.evaluate(BEHIND)

    def overlaps(self) -> list[list[str]]:
        """Titles of nodes that cover each other."""
        return self.page.evaluate(OVERLAPS)


@contextmanager
def open_browser(server: ComfyServer, width: int = 1600, height: int = 1000) -> Iterator[ComfyPage]:
    """The page of `server` in a browser of its own, with a fresh profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
        try:
            yield ComfyPage(browser.new_page(viewport={"width": width, "height": height}), server)
        finally:
            browser.close()
