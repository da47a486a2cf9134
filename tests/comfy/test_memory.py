"""Weights that ComfyUI keeps off the device still give the same face."""

import subprocess
from pathlib import Path

from server import ROOT, find_python


def test_partly_loaded_equals_wholly_loaded(comfyui):
    script = Path(__file__).parent / "partial_load.py"
    command = [find_python(comfyui), str(script), str(comfyui), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.stdout.strip().splitlines()[-1:] == ["0.0"], done.stderr[-2000:]
