"""Who restores aligned faces in the benchmarks: our restorers, and the official loop."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from official import Checkout
from torch import Tensor

from iqpbfr_core.checkpoint import build_network
from iqpbfr_core.config import RestorerConfig
from iqpbfr_core.degradation import apply, draw
from iqpbfr_core.image import read_image, resize
from iqpbfr_core.restorer import Restorer

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from formula import filled_weights  # noqa: E402

Restore = Callable[[Tensor, float], Tensor]  # faces (N, 3, R, R) uint8 and fidelity to faces of the same kind


@dataclass
class Contender:
    """Something that restores faces.

    Attributes:
        restore: how.
        side: of its faces.
        fidelity: its default.
        like: name of the contender whose result this one's should be.
    """

    restore: Restore
    side: int
    fidelity: float
    like: str


def ours(restorer: Restorer, like: str) -> Contender:
    """All faces together."""

    def restore(faces: Tensor, fidelity: float) -> Tensor:
        return (restorer.restore(faces / 255, fidelity=fidelity) * 255).round().byte().cpu()

    return Contender(restore, restorer.config.resolution, restorer.supports.default_fidelity, like)


def theirs(checkout: Checkout, device: torch.device, fidelity: float, like: str) -> Contender:
    """The official loop, one face after the other."""
    network = checkout.network(filled_weights("codeformer"), device)

    def restore(faces: Tensor, fidelity: float) -> Tensor:
        pictures = list(np.ascontiguousarray(faces.flip(1).permute(0, 2, 3, 1).numpy()))
        restored = np.stack(checkout.restore(network, pictures, fidelity))
        return torch.from_numpy(restored).permute(0, 3, 1, 2).flip(1)

    return Contender(restore, 512, fidelity, like)


def codeformer() -> Restorer:
    """A restorer of CodeFormer's size."""
    network = build_network(RestorerConfig())
    network.load_state_dict(filled_weights("codeformer"))
    return Restorer(network)


def degraded_faces(count: int, side: int) -> Tensor:
    """(count, 3, side, side) uint8: one face, degraded in so many ways."""
    face = read_image(ROOT / "pictures" / "face.png")
    faces = torch.cat([apply(face, [draw("full", seed, min(face.shape[2:]))]) for seed in range(count)])
    return (resize(faces, (side, side)) * 255).round().byte()
