"""Metric and built-in model from faces, planned for half an hour of one GPU, in calls that stop in time and go on.

    python benchmarks/gpu_recipe.py pack FACES --more PORTRAITS -o pack          # a copy of at most 18 MiB
    python benchmarks/gpu_recipe.py train pack -o runs --minutes 9               # again and again, until it says so
    python benchmarks/gpu_recipe.py parts runs/fusion/model.safetensors -o parts # pieces of at most 16 MiB

`--start` begins from the weights of another model instead of from nothing; `--scale 0.001 --batch 2` proves on a CPU
that all stages run. Join the parts with `cat parts/* > model.safetensors`.
"""

import argparse
import io
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from iqpbfr_core.checkpoint import load_network
from iqpbfr_core.models.code_restorer import CodeRestorer
from iqpbfr_core.quality import load_severity
from iqpbfr_core.training.autoencoder import AutoencoderStage
from iqpbfr_core.training.data import list_images
from iqpbfr_core.training.fusion import FusionStage
from iqpbfr_core.training.lookup import LookupStage
from iqpbfr_core.training.loop import RunConfig, Stage, TimeIsUp, run
from iqpbfr_core.training.perceptual import PerceptualLoss
from iqpbfr_core.training.presets import PRESETS
from iqpbfr_core.training.severity import SeverityStage

PACK = 18 * 2**20
PART = 16 * 2**20
# Steps of 32 faces; planned for 25 minutes of an H100, not timed on one yet.
STEPS = {"metric": 1500, "autoencoder": 6000, "lookup": 6000, "fusion": 4000}


def pack(folders: list[Path], out: Path, resolution: int) -> None:
    """Training faces as JPEG, at the highest quality at which they all fit."""
    groups = [list_images(folder, "train") for folder in folders]
    for quality in range(95, 40, -3):
        encoded = [[_jpeg(file, resolution, quality) for file in files] for files in groups]
        size = sum(len(content) for group in encoded for content in group)
        if size <= PACK:
            break
    for name, files, contents in zip(("faces", "more"), groups, encoded, strict=False):
        (out / name / "train").mkdir(parents=True, exist_ok=True)
        for file, content in zip(files, contents, strict=True):
            (out / name / "train" / f"{file.stem}.jpg").write_bytes(content)
    print(f"{sum(map(len, groups))} faces, JPEG quality {quality}, {size / 2**20:.1f} MiB")  # noqa: T201


def _jpeg(file: Path, resolution: int, quality: int) -> bytes:
    content = io.BytesIO()
    image = Image.open(file).convert("RGB").resize((resolution, resolution), Image.Resampling.LANCZOS)
    image.save(content, "JPEG", quality=quality, subsampling=0)
    return content.getvalue()


def train(options: argparse.Namespace) -> None:
    """One stage after the other, each from the result of those before it."""
    until = time.monotonic() + 60 * options.minutes
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    config = PRESETS[options.preset]
    results = {name: options.out / name / "model.safetensors" for name in STEPS}

    def start() -> CodeRestorer:
        torch.manual_seed(0)
        return load_network(options.start).float() if options.start else CodeRestorer(config)  # type: ignore[return-value]

    def steps(name: str) -> int:
        return max(1, round(STEPS[name] * options.scale))

    stages: dict[str, Callable[[], Stage]] = {
        "metric": lambda: SeverityStage(0, start() if options.start else None),
        "autoencoder": lambda: AutoencoderStage(
            start(),
            load_severity(results["metric"]),
            PerceptualLoss(),
            steps("autoencoder"),
            is_trained=options.start is not None,
        ),
        "lookup": lambda: LookupStage(_trained(results["autoencoder"]), load_severity(results["metric"])),
        "fusion": lambda: FusionStage(_trained(results["lookup"]), load_severity(results["metric"]), PerceptualLoss()),
    }
    for name, make in stages.items():
        left = (until - time.monotonic()) / 60
        more = options.pack / "more"
        settings = RunConfig(
            options.pack / "faces",
            options.out / name,
            steps(name),
            options.batch,
            256 if name == "metric" else config.resolution,
            save_every=max(1, steps(name) // 8),
            workers=options.workers,
            more_data=more if more.is_dir() else None,
            minutes=max(0.0, left),
        )
        run(make(), settings)
    logging.info("All stages are done: %s", results["fusion"])


def _trained(path: Path) -> CodeRestorer:
    return load_network(path).float()  # type: ignore[return-value]


def parts(file: Path, out: Path) -> None:
    """A file in pieces whose names sort."""
    content = file.read_bytes()
    out.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, len(content), PART)):
        (out / f"{file.name}.{number:03d}").write_bytes(content[first : first + PART])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack")
    packing.add_argument("faces", type=Path)
    packing.add_argument("--more", type=Path)
    packing.add_argument("--resolution", type=int, default=256)
    training = verbs.add_parser("train")
    training.add_argument("pack", type=Path)
    ours = [name for name, config in PRESETS.items() if config.metric == "builtin"]  # others need scores from a list
    training.add_argument("--preset", choices=ours, default="small")
    training.add_argument("--start", type=Path)
    training.add_argument("--minutes", type=float, default=9)
    training.add_argument("--scale", type=float, default=1.0)
    training.add_argument("--batch", type=int, default=32)
    training.add_argument("--workers", type=int, default=14)
    splitting = verbs.add_parser("parts")
    splitting.add_argument("file", type=Path)
    for verb in (packing, training, splitting):
        verb.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.verb == "pack":
        pack([folder for folder in (options.faces, options.more) if folder], options.out, options.resolution)
    elif options.verb == "parts":
        parts(options.file, options.out)
    else:
        try:
            train(options)
        except TimeIsUp as pause:
            logging.info("%s", pause)


if __name__ == "__main__":
    main()
