"""The training loop: batches, logs, sample grids, checkpoints. What is learnt is up to the stage.

Every step seeds torch with (run seed, step), and data are numbered samples, so a run that is stopped and resumed goes
exactly the way it would have gone without the stop. `accelerate` places the work and does mixed precision.
"""

import csv
import io
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import TrainingError
from ..image import write_atomically, write_image
from .data import batches, list_images, read_faces

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunConfig:
    """How long, how often and where; the recipe itself belongs to the stage."""

    data: Path
    out: Path
    steps: int
    batch_size: int
    resolution: int = 256
    seed: int = 0
    save_every: int = 200
    workers: int = 0
    precision: str = "bf16"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, got {getattr(self, name)}.")


class Stage(Protocol):
    """One thing to learn. `modules` and `optimizers` are everything a checkpoint must hold."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        """Called once, on fresh or resumed weights, with a few training faces (for thresholds and the like)."""
        ...

    def step(self, accelerator: Accelerator, faces: Tensor, seeds: Tensor, step: int) -> dict[str, float]:
        """Learn from one batch; return what to log."""
        ...

    def samples(self, faces: Tensor) -> Tensor:
        """A picture (3, H, W) of the present state on held-out faces."""
        ...

    def export(self, path: Path) -> None:
        """Write the result as a `.safetensors` file that `load_restorer` or `load_metric` reads."""
        ...


def cosine_rate(step: int, steps: int, warmup: int = 100, floor: float = 0.05) -> float:
    """Factor on the learning rate: linear warm-up, then a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def run(stage: Stage, config: RunConfig) -> Path:
    """Train until `config.steps`, resuming from `config.out/state.pt` if there is one; return the exported file."""
    accelerator = Accelerator(mixed_precision=config.precision)
    files = list_images(config.data, "train")
    config.out.mkdir(parents=True, exist_ok=True)
    state_file, exported = config.out / "state.pt", config.out / "model.safetensors"
    for module in stage.modules.values():
        module.to(accelerator.device)
    first = _load_state(stage, state_file, accelerator.device) if state_file.exists() else 0
    spread = files[:: max(1, len(files) // 128)][:128]
    stage.start(accelerator, read_faces(spread, config.resolution).to(accelerator.device))
    shown = read_faces(_held_out(config.data, files), config.resolution).to(accelerator.device)

    loader = batches(files, config.resolution, config.batch_size, config.seed, first, config.steps, config.workers)
    log = _Log(config.out / "log.csv", config.steps)
    groups = [group for optimizer in stage.optimizers.values() for group in optimizer.param_groups]
    for group in groups:
        group.setdefault("initial_lr", group["lr"])  # a resumed run has it from its checkpoint
    for step, (faces, seeds) in enumerate(loader, start=first):
        torch.manual_seed(config.seed * 1_000_003 + step)
        for group in groups:
            group["lr"] = group["initial_lr"] * cosine_rate(step, config.steps)
        log.add(step + 1, stage.step(accelerator, faces.to(accelerator.device), seeds, step))
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            _save_state(stage, state_file, step + 1)
            stage.export(exported)
            write_image(stage.samples(shown), config.out / f"samples_{step + 1:06d}.png")
    return exported


def _held_out(data: Path, files: list[Path]) -> list[Path]:
    held_out = list_images(data, "test")
    return (held_out if held_out != files else files)[:8]


def _save_state(stage: Stage, path: Path, step: int) -> None:
    state = {
        "step": step,
        "modules": {name: m.state_dict() for name, m in stage.modules.items()},
        "optimizers": {name: o.state_dict() for name, o in stage.optimizers.items()},
    }
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())


def _load_state(stage: Stage, path: Path, device: torch.device) -> int:
    state = torch.load(path, map_location=device, weights_only=True)
    try:
        for name, module in stage.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimizer in stage.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"{path} is the checkpoint of another stage or preset ({error}); use another --out."
        ) from error
    return int(state["step"])


def update(accelerator: Accelerator, optimizer: Optimizer, loss: Tensor) -> None:
    """One optimiser step on `loss`, the gradients of each parameter group clipped to norm 1."""
    optimizer.zero_grad()
    accelerator.backward(loss)
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()


class _Log:
    """Means since the last row, as CSV and on the terminal."""

    EVERY = 20

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.steps = path, steps
        self.sums: dict[str, float] = {}
        self.count, self.since = 0, time.perf_counter()

    def add(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if step % self.EVERY and step != self.steps:
            return
        seconds = (time.perf_counter() - self.since) / self.count
        row = {
            "step": step,
            **{k: round(v / self.count, 5) for k, v in self.sums.items()},
            "seconds": round(seconds, 3),
        }
        is_new = not self.path.exists()
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        left = (self.steps - step) * seconds / 60
        logger.info("%s  %.0f min left", "  ".join(f"{k} {v}" for k, v in row.items()), left)
        self.sums, self.count, self.since = {}, 0, time.perf_counter()
