"""`auto`: bfloat16 only where the picture stays the same and the processor is faster at it."""

from pathlib import Path

import pytest
import torch

from iqpbfr_core import load_restorer
from iqpbfr_core.degradation import apply, draw
from iqpbfr_core.image import read_image, resize
from iqpbfr_core.precision import automatic_dtype

FACE = Path(__file__).parents[2] / "pictures" / "face.png"


@pytest.fixture
def processor(monkeypatch):
    """Makes torch see a processor with these capabilities."""
    return lambda **can: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)


@pytest.mark.parametrize("can", [{"avx512_bf16": True}, {"avx512_bf16": False, "amx_bf16": True}])
def test_the_built_in_model_takes_bfloat16_where_it_is_multiplied(processor, can):
    processor(**can)
    assert automatic_dtype("builtin", "cpu") == torch.bfloat16
    assert load_restorer(dtype="auto").dtype == torch.bfloat16
    assert load_restorer().dtype == torch.float32


def test_everything_else_stays_in_float32(processor, monkeypatch, tiny_file):
    processor(avx512_bf16=True)
    assert automatic_dtype("builtin", "cuda") == torch.float32
    assert load_restorer(tiny_file, dtype="auto").dtype == torch.float32
    processor(avx512_bf16=False, avx2=True)
    assert automatic_dtype("builtin", "cpu") == torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as an older torch
    assert automatic_dtype("builtin", "cpu") == torch.float32


@pytest.mark.parametrize("fidelity", [0.0, None])
def test_the_built_in_model_draws_the_same_in_bfloat16(fidelity):
    face = resize(apply(read_image(FACE), [draw("full", 0, 256)]), (256, 256))
    full, half = (
        load_restorer(dtype=dtype).restore(face, fidelity=fidelity) for dtype in (torch.float32, torch.bfloat16)
    )
    assert (full - half).abs().mean() < 2 / 255
