"""What installing requirements.txt does to the ComfyUI it is installed into: next to nothing."""

import json
import subprocess

from server import ROOT, find_python


def test_requirements_move_nothing_and_add_little(comfyui, tmp_path):
    """ComfyUI's own packages stay at their versions, whatever newer ones there are."""
    python, plan = find_python(comfyui), tmp_path / "plan.json"
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True, text=True
    ).stdout
    present = {package["name"].lower().replace("_", "-") for package in json.loads(listed)}
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--dry-run", "--report", plan, "-r", ROOT / "requirements.txt"],
        check=True,
        timeout=300,
    )
    planned = {item["metadata"]["name"].lower().replace("_", "-") for item in json.loads(plan.read_text())["install"]}
    assert not planned & present, "moved"
    assert len(planned - present) <= 3


def test_requirements_are_in_comfyuis_own_list(comfyui):
    """So that nothing is added to a ComfyUI that has only what it names itself."""

    def names(text):
        lines = (line.strip() for line in text.splitlines())
        return {line.split(">")[0].split("=")[0].split("~")[0].lower() for line in lines if line and line[0] != "#"}

    own = names((comfyui / "requirements.txt").read_text())
    assert names((ROOT / "requirements.txt").read_text()) <= own
