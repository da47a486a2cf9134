"""Train the built-in quality model: grade the degradation that was applied.

Each face is degraded twice in the same way, at two strengths. Loss: L1 to the known grade, plus a hinge that keeps
the two in order (a ranking loss as in Liu et al. 2017, RankIQA, arXiv 1707.08347).
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..degradation import Degradation, apply
from ..image import tile, write_atomically
from ..models.severity import SeverityNet
from .loop import update

KINDS = ("blur", "downsample", "noise", "jpeg")


def degradation_of(kind: str, strength: float, seed: int = 0) -> Degradation:
    """One kind of degradation at `strength` in [0, 1], in pixels of a 256 px face; equal steps look about equal."""
    if kind == "blur":
        return Degradation(sigma=(_geometric(0.3, 6, strength), _geometric(0.3, 6, strength)))
    if kind == "downsample":
        return Degradation(downsample=_geometric(1.1, 12, strength))
    if kind == "noise":
        return Degradation(noise=_geometric(0.8, 40, strength), seed=seed)
    if kind == "jpeg":
        return Degradation(jpeg=_geometric(98, 6, strength))
    raise ValueError(f"unknown kind of degradation {kind!r}; there are {', '.join(KINDS)}")


def _geometric(first: float, last: float, strength: float) -> float:
    return first * (last / first) ** strength


def mixture(strengths: dict[str, float], seed: int = 0) -> Degradation:
    """Several kinds at once, each at its own strength; kinds that are absent do nothing."""
    parts = {kind: degradation_of(kind, strength, seed) for kind, strength in strengths.items()}
    neutral = Degradation(seed=seed)
    return Degradation(
        sigma=parts.get("blur", neutral).sigma,
        downsample=parts.get("downsample", neutral).downsample,
        noise=parts.get("noise", neutral).noise,
        jpeg=parts.get("jpeg", neutral).jpeg,
        seed=seed,
    )


def grade(strengths: dict[str, float]) -> float:
    """The grade of a mixture, in [0, 1], 1 = untouched.

    Blur and downsampling take the same thing away, so the stronger counts; noise and compression come on top.
    """
    lost_detail = max(strengths.get("blur", 0.0), strengths.get("downsample", 0.0))
    return (1 - lost_detail) * (1 - strengths.get("noise", 0.0)) * (1 - strengths.get("jpeg", 0.0))


def draw_strengths(generator: torch.Generator) -> dict[str, float]:
    """One kind (60 %), a mixture (32 %) or nothing (8 %)."""
    u = torch.rand(10, generator=generator).tolist()
    if u[0] < 0.08:
        return {}
    if u[0] < 0.68:
        return {KINDS[min(3, math.floor(u[1] * 4))]: u[2]}
    return {kind: u[3 + i] ** 1.5 for i, kind in enumerate(KINDS) if u[7 + i % 3] < 0.7}


def degraded_pairs(faces: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Each face at two strengths: images (2 B, 3, H, W) and their grades (2 B,); i and B + i are a pair."""
    first, second = [], []
    for seed in seeds.tolist():
        generator = torch.Generator().manual_seed(seed)
        strengths = draw_strengths(generator)
        factor = torch.rand(1, generator=generator).item()
        first.append((strengths, seed))
        second.append(({kind: value * factor for kind, value in strengths.items()}, seed))
    drawn = first + second
    images = apply(torch.cat([faces, faces]), [mixture(strengths, seed) for strengths, seed in drawn])
    return images, torch.tensor([grade(strengths) for strengths, _ in drawn], device=faces.device)


def severity_loss(scores: Tensor, grades: Tensor) -> Tensor:
    """L1 to the grades plus pairwise ranking: a pair's order must hold by half of its true difference."""
    first, second = scores.chunk(2)
    true_first, true_second = grades.chunk(2)
    difference = true_second - true_first
    ranking = F.relu(difference.abs() * 0.5 - (second - first) * difference.sign()).mean()
    return F.l1_loss(scores, grades) + ranking


class SeverityStage:
    """Stage of `iqpbfr train metric`."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.network = SeverityNet()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.modules: dict[str, nn.Module] = {"network": self.network}
        self.optimizers: dict[str, Optimizer] = {"network": AdamW(self.network.parameters(), 3e-3, weight_decay=1e-2)}

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        """Nothing to prepare."""

    def step(self, accelerator: Accelerator, faces: Tensor, seeds: Tensor, step: int) -> dict[str, float]:
        with torch.no_grad():
            images, grades = degraded_pairs(faces, seeds)
            images = images.contiguous(memory_format=torch.channels_last)
        self.network.train()
        with accelerator.autocast():
            scores = self.network(images)
        loss = severity_loss(scores, grades)
        update(accelerator, self.optimizers["network"], loss)
        return {"loss": loss.item(), "l1": F.l1_loss(scores, grades).item()}

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Columns: a face; rows: blurred, downsampled, noisy and compressed ever more, darkened by its score's error."""
        self.network.eval()
        rows = []
        for kind in KINDS:
            strengths = torch.linspace(0, 1, len(faces)).tolist()
            images = apply(faces, [degradation_of(kind, s, i) for i, s in enumerate(strengths)])
            error = (self.network(images) - 1 + torch.tensor(strengths, device=images.device)).abs()
            rows.append(images * (1 - error[:, None, None, None]))
        return tile(rows)

    def export(self, path: Path) -> None:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in self.network.state_dict().items()}
        write_atomically(path, save({k: v.contiguous() for k, v in weights.items()}))
