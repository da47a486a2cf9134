"""One ComfyUI for all tests of this folder. Without one they are skipped, and say so."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from server import ROOT, ComfyServer, find_comfyui

PROMPTS = Path(__file__).parent / "prompts"


def write_inputs(base: Path) -> None:
    """The pictures and the models that workflows and tests load, below a server's base directory."""
    (base / "input").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "docs" / "images" / "example_lq.png", base / "input" / "example_lq.png")
    write_upscaler(base / "models" / "upscale_models")


def write_upscaler(folder: Path) -> None:
    """A stand-in for an upscale model: a tiny SRVGGNetCompact whose weights are zero, which leaves plain enlarging."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        "body.0.weight": torch.zeros(4, 3, 3, 3), "body.0.bias": torch.zeros(4), "body.1.weight": torch.zeros(4),
        "body.2.weight": torch.zeros(4, 4, 3, 3), "body.2.bias": torch.zeros(4), "body.3.weight": torch.zeros(4),
        "body.4.weight": torch.zeros(12, 4, 3, 3), "body.4.bias": torch.zeros(12),
    }  # fmt: skip
    torch.save(weights, folder / "RealESRGAN_x2plus.pth")


@pytest.fixture(scope="session")
def comfyui():
    found = find_comfyui()
    if found is None:
        pytest.skip("no ComfyUI: set COMFYUI_DIR, or install one at ~/comfy/ComfyUI")
    return found


@pytest.fixture(scope="session")
def start_comfy(comfyui, tmp_path_factory):
    """Start a ComfyUI with the inputs in place; it is stopped after the last test."""
    servers = []

    def start(*arguments):
        base = tmp_path_factory.mktemp("comfy")
        write_inputs(base)
        servers.append(ComfyServer(comfyui, base, "--cpu", *arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def comfy(start_comfy):
    return start_comfy()


@pytest.fixture
def prompt():
    """Read a prompt by name, as a fresh copy."""
    return lambda name: json.loads((PROMPTS / f"{name}.json").read_text())
