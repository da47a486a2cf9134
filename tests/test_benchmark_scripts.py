"""Every script in benchmarks/ runs, at settings so small that its figures mean nothing."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from networks import make_network
from PIL import Image

from iqpbfr_core.restorer import Restorer

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py") if "__main__" in file.read_text())
POINTS = {
    "le": (96.0, 120.0),
    "re": (160.0, 120.0),
    "no": (128.0, 157.0),
    "ml": (100.0, 186.0),
    "mr": (156.0, 186.0),
}  # of an aligned face


def tiny_restorer() -> Restorer:
    return Restorer(make_network())


TINY = {  # script -> what it is called with, one list for each call, and the constants that make its work small
    "detector": ([["--photos", "photos", "--faces", "faces", "--scenes", "1"]], {"NO_FACE": ("moon.png",), "SEEDS": range(1), "SCENE_SIZE": 128}),
    "gpu_recipe": (
        [
            ["pack", "faces", "-o", "pack"],
            ["train", "pack", "-o", "runs", "--scale", "0", "--batch", "2", "--workers", "0"],
            ["parts", "runs/fusion/model.safetensors", "-o", "parts"],
        ],
        {},
    ),
    "group_photo": ([["--detector", "builtin", "--rounds", "1"]], {"WIDTH": 480, "HEIGHT": 240, "ROWS": 1, "COLUMNS": 2, "FACE": 160}),
    "optimize": ([["--steps", "1", "--rounds", "1"]], {}),
    "severity": ([["--data", "faces", "--strengths", "2"]], {}),
    "gpu": (
        [["-o", "gpu.md", "--device", "cpu", "--faces", "1", "--rounds", "1", "--product", "64"]],
        {"codeformer": tiny_restorer, "PRECISIONS": {"bf16": torch.bfloat16}},  # half precision takes minutes on a CPU
    ),
    "speed": ([["--faces", "1", "--rounds", "1"]], {"codeformer": tiny_restorer}),
    "start": ([["--rounds", "1"]], {}),
    "sweep": ([["--rounds", "1"]], {"QUALITIES": [0.0, 1.0]}),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with `faces` (two to train on and two to test on) and `photos` (one)."""
    monkeypatch.chdir(tmp_path)
    face = Image.open(ROOT / "pictures" / "face.png").convert("RGB").resize((256, 256))
    corners = {f"{point}_{axis}": at for point, xy in POINTS.items() for axis, at in zip("xy", xy, strict=True)}
    (tmp_path / "photos").mkdir()
    face.save(tmp_path / "photos" / "face.png")
    known = {"landmarks": list(POINTS.values()), "eye_dist_px": 64, "main": True}
    (tmp_path / "photos" / "photos.json").write_text(json.dumps([{"file": "face.png", "faces": [known]}]))
    rows = []
    for split in ("train", "test"):
        (tmp_path / "faces" / split).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            face.save(tmp_path / "faces" / split / name)
            rows.append({"file": f"{split}/{name}", "split": split, **corners})
    with open(tmp_path / "faces" / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_script_runs(name, folder, monkeypatch):
    calls, constants = TINY[name]
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # where a script finds what it shares with others
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)  # where its data classes look for their module
    spec.loader.exec_module(script)
    for constant, value in constants.items():
        monkeypatch.setattr(script, constant, value)
    for arguments in calls:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        script.main()
