"""Weights and images filled by a formula, so that parity with published architectures needs no published weights."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

REFERENCES = Path(__file__).parent / "references"
LARGE = 30e6  # parameters
may_be_large = True  # outside tests, and in those marked as slow; conftest.py sees to it


def _noise(key: str, count: int) -> np.ndarray:
    """Pseudo-random numbers in [0, 1) that depend on `key` alone, in float64."""
    seed = zlib.crc32(key.encode()) % 9973
    value = np.sin(12.9898 * np.arange(count, dtype=np.float64) + 78.233 * seed) * 43758.5453
    return value - np.floor(value)


def fill(key: str, shape: list[int]) -> torch.Tensor:
    """The weights of state-dict entry `key`."""
    count = int(np.prod(shape))
    x = 2 * _noise(key, count) - 1
    if key == "body.bn1.running_var":
        values = 1024 * (1 + 0.1 * x)
    elif key.endswith("running_var"):
        values = 1 + 0.1 * x
    elif ".noises.noise" in key:
        values = 0.2 * x
    elif key.endswith("constant_input.weight"):
        values = x
    elif key.endswith(".bias"):
        values = 0.05 * x
    elif "embedding.weight" in key or key.startswith("score_embed"):
        values = x if "quantize" in key else 0.2 * x
    elif key == "position_emb":
        values = 0.1 * x
    elif len(shape) >= 2:
        values = x * np.sqrt(3 / np.prod(shape[1:]))
    elif key.endswith("weight"):
        values = 1 + 0.1 * x
    else:
        values = 0.05 * x
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def shapes(name: str) -> dict[str, list[int]]:
    """The shapes of the state dict of manifest `name`."""
    return json.loads((REFERENCES / f"manifest_{name}.json").read_text())


def filled_weights(name: str) -> dict[str, torch.Tensor]:
    """The formula-filled state dict of manifest `name`; a large one only in a test that is marked as slow."""
    weights = shapes(name)
    count = sum(int(np.prod(shape)) for shape in weights.values())
    assert may_be_large or count < LARGE, f"{name} has {count / 1e6:.0f} M parameters: mark this test as slow"
    return {key: fill(key, shape) for key, shape in weights.items()}


def filled_image(name: str = "a", side: int = 512) -> torch.Tensor:
    """(1, 3, side, side) in [-1, 1]."""
    y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    noise = _noise(name, 3 * side * side).reshape(3, side, side)
    channels = [
        0.5 * np.sin(2 * np.pi * (x * (3 + c) + y * (5 - c)) / side)
        + 0.3 * np.cos(2 * np.pi * x * y / side**2 * (c + 2))
        for c in range(3)
    ]
    image = np.stack(channels) + 0.2 * (2 * noise - 1)
    return torch.from_numpy(image.clip(-1, 1).astype(np.float32))[None]
