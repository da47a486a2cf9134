"""A real ComfyUI for tests: found, started on a folder of its own, and asked through its HTTP interface."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = "ComfyUI-IQP-Face-Restoration"
IMPACT = Path(__file__).parent / "impact_stand_in.py"
NEEDS_UPSCALER = ("11 Restore then upscale",)
NEEDS_RESTORER = (
    "13 Colorize a face",
    "14 Fill a scratched face",
    "15 Compare restorers",
    "16 Give CodeFormer a quality knob",
)
NEEDS_CHECKPOINT = (
    "12 Generate then restore",
    "17 Repaint where a face is bad",
    "20 Generate many and keep the best face",
    "21 To the Impact Pack and back",
)


def find_comfyui() -> Path | None:
    """$COMFYUI_DIR, the ComfyUI whose custom_nodes this repository stands in, or comfy-cli's default workspace."""
    places = [os.environ.get("COMFYUI_DIR"), ROOT.parent.parent, Path.home() / "comfy" / "ComfyUI"]
    return next((Path(p) for p in places if p and (Path(p) / "comfy_execution").is_dir()), None)


def find_python(comfyui: Path) -> str:
    """$COMFYUI_PYTHON, ComfyUI's own virtual environment, or the one that runs the tests."""
    places = [
        os.environ.get("COMFYUI_PYTHON"),
        comfyui / ".venv" / "bin" / "python",
        comfyui / "venv" / "bin" / "python",
    ]
    return next((str(p) for p in places if p and Path(p).exists()), sys.executable)


def find_browser() -> str | None:
    """Chromium or Chrome of this machine."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@dataclass(frozen=True)
class Run:
    """What ComfyUI's history says about one prompt."""

    history: dict[str, Any]

    def _messages(self, kind: str) -> list[dict[str, Any]]:
        return [content for name, content in self.history["status"]["messages"] if name == kind]

    @property
    def is_success(self) -> bool:
        return self.history["status"]["status_str"] == "success"

    @property
    def cached(self) -> set[str]:
        """Ids of nodes that were not executed again."""
        return {node for message in self._messages("execution_cached") for node in message["nodes"]}

    @property
    def error(self) -> dict[str, Any]:
        return next(iter(self._messages("execution_error")), {})

    @property
    def interrupted_at(self) -> str | None:
        """The node that was at work; None if the run was not interrupted."""
        return next((message["node_id"] for message in self._messages("execution_interrupted")), None)

    def files(self, node: str, kind: str = "images") -> list[dict[str, str]]:
        return self.history["outputs"].get(node, {}).get(kind, [])

    def pictures(self, node: str) -> list[dict[str, str]]:
        """The files of a node that are pictures; ComfyUI lists videos among the images, too."""
        return [file for file in self.files(node) if file["filename"].endswith((".png", ".jpg", ".webp"))]


class Refused(Exception):
    """The server did not take a prompt; `details` is its answer."""

    def __init__(self, details: dict[str, Any]) -> None:
        super().__init__(json.dumps(details))
        self.details = details


class ComfyServer:
    """ComfyUI on a free port, with input, output and models below `base`, this extension and the stand-in for Impact Pack."""

    def __init__(self, comfyui: Path, base: Path, *arguments: str) -> None:
        self.base = base
        for name in ("input", "output", "temp", "user", "models", "custom_nodes"):
            (base / name).mkdir(parents=True, exist_ok=True)
        for name, target in ((FOLDER, ROOT), (IMPACT.name, IMPACT)):
            link = base / "custom_nodes" / name
            if not link.is_symlink():
                link.symlink_to(target)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = base / "comfyui.log"
        command = [find_python(comfyui), "main.py", "--port", str(self.port), "--base-directory", str(base)]
        with open(self.log, "w") as log:
            self._process = subprocess.Popen(
                [*command, "--disable-auto-launch", *arguments], cwd=comfyui, stdout=log, stderr=log
            )
        self._wait()
        self.start_log = self.log.read_text()

    def _wait(self, seconds: int = 180) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError):
                if self._process.poll() is not None:
                    break
                time.sleep(0.5)
        raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-4000:]}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def has(self, path: str) -> bool:
        """Whether this version answers there."""
        try:
            self.get(path)
        except urllib.error.HTTPError:
            return False
        return True

    def post(self, path: str, content: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                body = answer.read()
                return json.loads(body) if body else None
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error)) from None

    def submit(self, prompt: dict[str, Any]) -> str:
        """Queue a prompt in API format; returns its id. Raises Refused with the server's reasons."""
        return self.post("/prompt", {"prompt": prompt})["prompt_id"]

    def wait(self, prompt_id: str, seconds: int = 300) -> Run:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return Run(history[prompt_id])
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} did not end within {seconds} s:\n{self.log.read_text()[-3000:]}")

    def run(self, prompt: dict[str, Any], seconds: int = 300) -> Run:
        return self.wait(self.submit(prompt), seconds)

    def path_of(self, file: dict[str, str]) -> Path:
        return self.base / file["type"] / file["subfolder"] / file["filename"]
