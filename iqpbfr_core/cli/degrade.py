"""iqpbfr degrade"""

from pathlib import Path

import typer

from ..degradation import Preset
from ..degradation import degrade as degrade_images
from ..image import read_image, write_image
from .console import MAX_SEED, collect_images, for_each, output, output_names


def degrade(
    images: list[Path] = typer.Argument(help="Images, or folders of them."),
    out: Path = typer.Option(..., "-o", "--out", help="Folder for the degraded images (PNG)."),
    preset: Preset = typer.Option("full", help="How degraded they are."),
    seed: int = typer.Option(0, min=0, max=MAX_SEED, help="Seed of the first image; the next ones count up."),
) -> None:
    """Make faces bad in the standard way: blur, downsample, noise, JPEG."""
    files = collect_images(images)
    jobs = list(zip(files, output_names(files, out), range(seed, seed + len(files)), strict=True))

    def work(job: tuple[Path, Path, int]) -> None:
        file, target, image_seed = job
        write_image(degrade_images(read_image(file), preset, image_seed)[0], target)
        output.print(str(target), soft_wrap=True)

    for_each(jobs, len(jobs), "Degrading", work, lambda job: str(job[0]))
