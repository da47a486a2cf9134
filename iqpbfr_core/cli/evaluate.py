"""iqpbfr evaluate"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import typer
from rich.progress import track
from rich.table import Table

from ..degradation import Preset
from ..errors import WeightsNotFoundError
from ..evaluation.benchmark import KINDS, evaluate_restorer
from ..image import write_image
from ..quality import Metric, load_metric
from ..training.data import list_images
from .console import (
    ADAIN_HELP,
    ADAPTER_HELP,
    FIDELITY_HELP,
    MAX_SEED,
    check_overwriting,
    choose_device,
    errors,
    load_model,
    output,
    settle,
)

# measure, heading, better direction
MEASURES = (
    ("psnr", "PSNR dB", "up"),
    ("ssim", "SSIM", "up"),
    ("niqe", "NIQE", "down"),
    ("piqe", "PIQE", "down"),
    ("builtin", "built-in", "up"),
)


def evaluate(
    data: Path = typer.Option(..., help="Folder with a sub-folder per split, or with the faces themselves."),
    split: str | None = typer.Option(None, help="Sub-folder of --data; default: test, where there is one."),
    model: str = typer.Option("builtin", help="'builtin', or a weight file."),
    preset: Preset = typer.Option("full", "--degradation", help="How faces are degraded."),
    quality: float = typer.Option(1.0, min=0, max=1),
    fidelity: float | None = typer.Option(None, min=0, max=1, help=FIDELITY_HELP),
    adain: bool | None = typer.Option(None, help=ADAIN_HELP),
    seed: int = typer.Option(
        0, min=0, max=MAX_SEED, help="Seed of the first face's degradation; the next ones count up."
    ),
    limit: int | None = typer.Option(None, min=1, help="Use only the first N faces."),
    weights: Path | None = typer.Option(
        None, help="Folder with NIQE's weights; default: DATA/../weights, then pyiqa's cache."
    ),
    grid: Path | None = typer.Option(None, help="Write a picture of 16 faces: LQ, restored, GT."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    device: str = typer.Option("auto"),
    adapter: Path | None = typer.Option(None, help=ADAPTER_HELP),
) -> None:
    """Degrade faces, restore them and measure: mean and standard deviation over faces."""
    files = (list_images(data / split) if split else list_images(data, "test"))[:limit]
    check_overwriting(files, [grid] if grid else [])
    where = choose_device(device)
    restorer = load_model(model, adapter, where)
    settings = settle(restorer, quality, fidelity, adain)
    metrics: dict[str, Metric] = {"builtin": load_metric("builtin"), "piqe": load_metric("piqe")}
    folder = weights or (data.parent / "weights" if (data.parent / "weights").is_dir() else None)
    try:
        metrics["niqe"] = load_metric("niqe", folder=folder)
    except WeightsNotFoundError as error:
        errors.print(f"NIQE is left out: {error}")

    def progress(starts: Iterable[int]) -> Iterable[int]:
        return track(list(starts), "Evaluating", console=errors, transient=True, disable=not errors.is_terminal)

    result = evaluate_restorer(
        restorer, files, metrics, preset, seed, quality, settings.fidelity, settings.adain, progress=progress
    )
    if grid is not None:
        write_image(result.grid, grid)
    if as_json:
        means = {f"{kind}/{name}": _mean(values) for (kind, name), values in result.scores.items()}
        typer.echo(
            json.dumps(
                {"faces": len(files), "quality": quality, "fidelity": settings.fidelity, "mean": means}, indent=2
            )
        )
        return
    title = (
        f"{len(files)} faces, {preset} degradation, quality {quality:g}, fidelity {settings.fidelity:g}, seed {seed}"
    )
    table = Table("", *(f"{heading} {'↑' if way == 'up' else '↓'}" for _, heading, way in MEASURES), title=title)
    for kind in KINDS:
        cells = []
        for name, _, _ in MEASURES:
            values = result.scores.get((kind, name))
            cells.append("-" if values is None else f"{np.nanmean(values):.3f} ± {np.nanstd(values):.3f}")
        table.add_row(kind.upper() if kind != "restored" else kind, *cells)
    output.print(table)


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    """Over those that have a value, None if there is none."""
    known = [float(value) for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None
