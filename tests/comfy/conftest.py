"""One ComfyUI for all tests of this folder. Without one they are skipped, and say so."""

import json
from pathlib import Path

import pytest
from server import ComfyServer, find_comfyui
from stand_ins import write_checkpoint, write_restorers

PROMPTS = Path(__file__).parent / "prompts"


@pytest.fixture(scope="session")
def comfyui():
    found = find_comfyui()
    if found is None:
        pytest.skip("no ComfyUI: set COMFYUI_DIR, or install one at ~/comfy/ComfyUI")
    return found


@pytest.fixture(scope="session")
def start_comfy(comfyui, tmp_path_factory):
    """Start a ComfyUI with nothing in input/ and models/; it is stopped after the last test."""
    servers = []

    def start(*arguments):
        base = tmp_path_factory.mktemp("comfy")
        servers.append(ComfyServer(comfyui, base, "--cpu", *arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def comfy(start_comfy):
    return start_comfy()


@pytest.fixture(scope="session")
def checkpoint(comfyui, tmp_path_factory):
    """The stand-in for the checkpoint, to be linked where a test needs it."""
    file = tmp_path_factory.mktemp("checkpoint") / "zeros.safetensors"
    write_checkpoint(file, comfyui)
    return file


@pytest.fixture
def restorers(comfy):
    """Stand-ins for the restorers that workflows name, for the time of a test."""
    files = write_restorers(comfy.base)
    yield
    for file in files:
        file.unlink()


@pytest.fixture
def prompt():
    """Read a prompt by name, as a fresh copy."""
    return lambda name: json.loads((PROMPTS / f"{name}.json").read_text())
