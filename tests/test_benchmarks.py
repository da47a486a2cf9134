"""The benchmarks run: what they print, and whose code they run. No time is looked at."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import make_network

from iqpbfr_core.restorer import Restorer

FOLDER = Path(__file__).parents[1] / "benchmarks"
ARCH = """
import torch
from basicsr.utils.img_util import SHIFT

class CodeFormer(torch.nn.Module):
    def __init__(self, dim_embd, codebook_size, n_head, n_layers, connect_list):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, x, w, adain):
        assert x.min() >= -1 and adain
        return x + self.shift * SHIFT * w, None
"""
IMAGES = """
import torch

SHIFT = 2 / 255  # a byte's step in [-1, 1]

def img2tensor(image, bgr2rgb, float32):
    return torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).float()

def tensor2img(output, rgb2bgr, min_max):
    return ((output[0].permute(1, 2, 0).numpy()[..., ::-1] + 1) / 2 * 255).round()
"""


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a script of benchmarks/; what it brings in is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("basicsr", *(file.stem for file in FOLDER.glob("*.py"))):
            del sys.modules[name]


@pytest.fixture
def checkout(tmp_path, benchmark, monkeypatch):
    """A stand-in for a checkout of CodeFormer, whose packages must not be imported as a whole."""
    for name, text in {
        "__init__.py": "1 / 0",
        "archs/__init__.py": "1 / 0",
        "archs/codeformer_arch.py": ARCH,
        "utils/__init__.py": "",
        "utils/img_util.py": IMAGES,
    }.items():
        file = tmp_path / "basicsr" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return benchmark("official").Checkout(tmp_path)


@torch.no_grad()
def test_the_official_loop_is_the_checkouts(checkout):
    network = checkout.network({"shift": torch.tensor([1.0, 2.0, 3.0])[:, None, None]}, torch.device("cpu"))
    face = np.full((512, 512, 3), 100, dtype=np.uint8)
    (restored,) = checkout.restore(network, [face], fidelity=1.0)
    assert restored.dtype == np.uint8
    assert restored[0, 0].tolist() == [103, 102, 101]  # blue, green, red


def test_a_folder_that_is_no_checkout_is_named(tmp_path, benchmark):
    with pytest.raises(SystemExit, match=r"no checkout of .*codeformer_arch\.py"):
        benchmark("official").Checkout(tmp_path)


def test_the_table_of_a_gpu_can_be_made_without_one(benchmark):
    gpu = benchmark("gpu")
    models = {"tiny": lambda: Restorer(make_network())}
    rows = list(gpu.rows(models, torch.device("cpu"), count=1, rounds=1, product_side=64))
    assert [row[0] for row in rows] == [f"tiny, a face, {name}" for name in ("fp32", "fp16", "bf16")]
    assert all(len(row) == len(gpu.HEAD) for row in rows)
    assert rows[0][2:4] == ("0.00", "0.00")
    assert rows[2][5].endswith("%")
    lines = gpu.table(iter(rows)).splitlines()
    assert len(lines) == 5
    assert lines[1] == "| --- | --- | --- | --- | --- | --- |"
