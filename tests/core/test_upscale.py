"""Upscalers: whole pictures without seams between tiles, and files that are something else."""

import pytest
import torch
from networks import write_upscaler
from safetensors.torch import save_file

from iqpbfr_core import upscale
from iqpbfr_core.errors import CheckpointError, WeightsNotFoundError

pytest.importorskip("spandrel")


def test_tiles_leave_no_seam(tmp_path, monkeypatch):
    file = write_upscaler(tmp_path / "x2.pth")
    images = torch.rand(2, 3, 50, 71)
    whole = upscale.load_upscaler(file)(images)
    assert whole.shape == (2, 3, 100, 142)
    monkeypatch.setattr(upscale, "_TILE", 24)
    monkeypatch.setattr(upscale, "_CONTEXT", 8)
    assert torch.allclose(upscale.load_upscaler(file)(images), whole, atol=1e-6)
    assert len(whole.unique()) > 100


def test_files_that_are_no_upscalers_are_refused(tmp_path):
    save_file({"some.weight": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors: this is no upscaler that spandrel knows"):
        upscale.load_upscaler(tmp_path / "other.safetensors")
    (tmp_path / "page.pth").write_text("<!doctype html>")
    with pytest.raises(CheckpointError, match="saved web page"):
        upscale.load_upscaler(tmp_path / "page.pth")
    with pytest.raises(WeightsNotFoundError):
        upscale.load_upscaler(tmp_path / "gone.pth")
    write_upscaler(tmp_path / "grey.pth", channels=1)
    with pytest.raises(CheckpointError, match="1 channels"):
        upscale.load_upscaler(tmp_path / "grey.pth")
