"""The training loop: batches, logs, sample grids, checkpoints. What is learnt is up to the stage.

Every step seeds torch with (run seed, step), and data are numbered samples, so a run that is stopped and resumed goes
exactly the way it would have gone without the stop. `accelerate` places the work, does mixed precision, and gives each
of several processes its part of every batch; the first one writes the files.
"""

import csv
import io
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import CheckpointError, TrainingError, first_line
from ..image import write_atomically, write_image
from ..tensor_file import read_torch_file
from .data import Face, FaceSamples, Prepare, Sample, batches, list_faces, read_faces
from .processes import average_gradients, check_shares, share_state
from .scores import ScoreList

logger = logging.getLogger(__name__)

Precision = Literal["no", "bf16", "fp16"]
PRECISIONS = get_args(Precision)
MAX_SEED = 2**32 - 1


class TimeIsUp(Exception):
    """A run has had its time and can be gone on with."""


@dataclass(frozen=True)
class RunConfig:
    """How long, how often and where; the recipe itself belongs to the stage.

    `data`: a folder of faces or of shards of them, or with sub-folders train and test; `more_data`: a second one, from
    which every third sample is taken. `minutes`: when to stop for now, after a checkpoint; the same call goes on.
    """

    data: Path
    out: Path
    steps: int
    batch_size: int
    resolution: int = 256
    seed: int = 0
    save_every: int = 200
    workers: int = 0
    precision: Precision = "bf16"
    more_data: Path | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.seed <= MAX_SEED:
            raise TrainingError(f"seed must lie in [0, {MAX_SEED}], got {self.seed}.")
        if self.precision not in PRECISIONS:
            raise TrainingError(f"unknown precision {self.precision!r}; there are {', '.join(PRECISIONS)}.")


class Stage(Protocol):
    """One thing to learn. `modules` and `optimizers` are everything a checkpoint must hold.

    Of several processes each has a stage, and all must come to the same weights; what needs the others happens in `step`.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    prepare: Prepare  # run by the processes that read the faces

    @property
    def scores(self) -> ScoreList | None:
        """Of the faces, where they are listed; samples then have a `score`."""
        ...

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        """Called once, on fresh or resumed weights, with a few training faces (for thresholds and the like)."""
        ...

    def step(self, accelerator: Accelerator, batch: Sample, step: int) -> dict[str, Tensor]:
        """Learn from this process's part of a batch of what `prepare` made; return what to log, single numbers left where
        they are."""
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
    """Train until `config.steps`, resuming from `config.out/state.pt` if there is one; return the exported file.

    `state.pt` is written last of all files of a checkpoint: whatever a kill leaves undone is done again.

    Raises:
        TimeIsUp: after `config.minutes`, with a checkpoint written.
        TrainingError: the folder holds a run of another stage or with other settings, or one that cannot be read.
    """
    begun = time.monotonic()
    files = list_faces(config.data, "train")
    more = list_faces(config.more_data, "train") if config.more_data else []
    try:
        shares = DataLoaderConfiguration(split_batches=True, non_blocking=True)
        accelerator = Accelerator(mixed_precision=config.precision, dataloader_config=shares)
    except ValueError as error:
        raise TrainingError(f"precision {config.precision!r} cannot be used here ({first_line(error)}).") from error
    if config.precision == "fp16" and accelerator.device.type != "cuda":
        raise TrainingError(f"precision 'fp16' is for CUDA, and this is {accelerator.device.type}: take bf16 or no.")
    state_file, exported = config.out / "state.pt", config.out / "model.safetensors"
    check_shares(accelerator, stage.modules, config.batch_size)
    everything = files + more
    if stage.scores is not None:
        stage.scores.check(everything)
    settings = _settings(config, len(everything), stage.scores, accelerator.num_processes)
    config.out.mkdir(parents=True, exist_ok=True)
    for module in stage.modules.values():
        module.to(accelerator.device)
    first = _load_state(stage, settings, state_file) if state_file.exists() else 0
    share_state(*stage.modules.values())
    spread = everything[:: max(1, len(everything) // 128)][:128]
    stage.start(accelerator, read_faces(spread, config.resolution).to(accelerator.device))
    if first == config.steps:
        if accelerator.is_main_process:
            stage.export(exported)  # it may have been moved away
        return exported
    shown = read_faces(_held_out(config.data, files), config.resolution).to(accelerator.device)

    length = config.steps * config.batch_size
    samples = FaceSamples(files, config.resolution, config.seed, length, stage.prepare, more, stage.scores)
    loader = accelerator.prepare(batches(samples, config.batch_size, first, config.workers))
    log = _Log(accelerator, config.out / "log.csv", config.steps, first)
    groups = [group for optimizer in stage.optimizers.values() for group in optimizer.param_groups]
    for group in groups:
        group.setdefault("initial_lr", group["lr"])  # a resumed run has it from its checkpoint
    for step, batch in enumerate(loader, start=first):
        torch.manual_seed(config.seed * 1_000_003 + step)
        for group in groups:
            group["lr"] = group["initial_lr"] * cosine_rate(step, config.steps)
        is_late = config.minutes is not None and _is_late(accelerator, begun, config.minutes)
        is_checkpoint = (step + 1) % config.save_every == 0 or step + 1 == config.steps or is_late
        log.add(step + 1, stage.step(accelerator, batch, step), is_checkpoint)
        if is_checkpoint and accelerator.is_main_process:
            stage.export(exported)
            write_image(stage.samples(shown), config.out / f"samples_{step + 1:06d}.png")
            _save_state(stage, settings, state_file, step + 1)
        if is_late and step + 1 < config.steps:
            raise TimeIsUp(f"stopped at step {step + 1} of {config.steps}; the same call goes on from there.")
    accelerator.wait_for_everyone()  # the result is there when any process says so
    return exported


def _is_late(accelerator: Accelerator, begun: float, minutes: float) -> bool:
    """Whether any process has had its time: all of them must stop at the same step."""
    if time.monotonic() - begun > 60 * minutes:
        accelerator.set_trigger()
    return accelerator.check_trigger()


def _held_out(data: Path, files: list[Face]) -> list[Face]:
    return (list_faces(data / "test") if (data / "test").is_dir() else files)[:8]


def _settings(config: RunConfig, num_images: int, scores: ScoreList | None, num_processes: int) -> dict[str, int | str]:
    """What a run cannot go on without changing its course."""
    kept = ("steps", "batch_size", "resolution", "seed", "precision")
    named = {name: getattr(config, name) for name in kept}
    listed = "not listed" if scores is None else str(scores)
    return {**named, "training images": num_images, "scores": listed, "number of processes": num_processes}


def _save_state(stage: Stage, settings: dict[str, int | str], path: Path, step: int) -> None:
    state = {
        "step": step,
        "settings": settings,
        "modules": {name: m.state_dict() for name, m in stage.modules.items()},
        "optimizers": {name: o.state_dict() for name, o in stage.optimizers.items()},
    }
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())


def _load_state(stage: Stage, settings: dict[str, int | str], path: Path) -> int:
    """Put a checkpoint back into the stage; return its step."""
    state = _read_state(path)
    if set(state["modules"]) != set(stage.modules) or set(state["optimizers"]) != set(stage.optimizers):
        raise TrainingError(f"{path} is the checkpoint of another stage; use another --out.")
    before = {"number of processes": 1, "scores": "not listed", **state["settings"]}  # older runs knew of no others
    changed = [f"{name} {before[name]}, now {now}" for name, now in settings.items() if before.get(name, now) != now]
    if changed:
        raise TrainingError(
            f"{path.parent} holds a run with other settings ({'; '.join(changed)}). Give it those it was begun with, "
            "or use another --out."
        )
    if not 0 <= state["step"] <= int(settings["steps"]):
        raise TrainingError(f"{path} is at step {state['step']} of {settings['steps']}; use another --out.")
    try:
        for name, module in stage.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimizer in stage.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
    except (AttributeError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"{path} is the checkpoint of another stage or preset ({first_line(error)}); use another --out."
        ) from error
    return state["step"]


def _read_state(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, as far as it can be judged without knowing the stage."""
    try:
        state = read_torch_file(path)
    except CheckpointError as error:
        raise TrainingError(f"{error} Delete it to begin the run anew, or use another --out.") from error
    # Runs begun before settings were kept have none.
    kinds = {"step": int, "settings": dict, "modules": dict, "optimizers": dict}
    state = {"settings": {}, **state} if isinstance(state, dict) else {}
    if not all(isinstance(state.get(name), kind) for name, kind in kinds.items()):
        raise TrainingError(f"{path} is not a checkpoint of a training run. Delete it, or use another --out.")
    return state


def update(accelerator: Accelerator, optimizer: Optimizer, loss: Tensor) -> None:
    """One optimiser step on `loss`, averaged over processes, the gradients of each parameter group clipped to norm 1."""
    optimizer.zero_grad()
    accelerator.backward(loss)
    average_gradients(accelerator, optimizer)
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()


class _Log:
    """Means since the last row, as CSV and on the terminal; a row at every checkpoint, so that a resumed run goes on there."""

    EVERY = 20

    def __init__(self, accelerator: Accelerator, path: Path, steps: int, first: int) -> None:
        """`first`: the step to go on from; what was logged after it is written again."""
        self.accelerator, self.path, self.steps = accelerator, path, steps
        self.sums: dict[str, Tensor] = {}
        self.count, self.since = 0, time.perf_counter()
        if path.exists() and accelerator.is_main_process:
            header, *rows = path.read_text().splitlines(keepends=True) or [""]
            kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= first]  # none of them torn
            write_atomically(path, (header + "".join(kept)).encode() if kept else b"")

    def add(self, step: int, values: dict[str, Tensor], is_checkpoint: bool) -> None:
        """Values stay on their device until a row is written: reading one would make a GPU wait."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.count += 1
        if step % self.EVERY and not is_checkpoint:
            return
        means = {k: round(float(v) / self.count, 5) for k, v in self.accelerator.reduce(self.sums, "mean").items()}
        seconds = (time.perf_counter() - self.since) / self.count
        self.sums, self.count, self.since = {}, 0, time.perf_counter()
        if self.accelerator.is_main_process:
            self._write({"step": step, **means, "seconds": round(seconds, 3)}, (self.steps - step) * seconds / 60)

    def _write(self, row: dict[str, float], minutes_left: float) -> None:
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        logger.info("%s  %.0f min left", "  ".join(f"{k} {v}" for k, v in row.items()), minutes_left)
