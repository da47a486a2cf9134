"""iqpbfr score, iqpbfr metrics"""

import csv
import json
import math
import sys
from pathlib import Path

import torch
import typer

from ..errors import InputError, MetricError
from ..image import read_image
from ..quality import list_metrics, load_metric
from .console import choose_device, collect_images, for_each
from .download import download_bar


def score(
    images: list[Path] = typer.Argument(help="Images, or folders of them."),
    metric: str = typer.Option("builtin", help="'builtin', or a pyiqa metric (see `iqpbfr metrics`)."),
    weights: Path | None = typer.Option(None, help="Folder with the metric's weights; default: pyiqa's own cache."),
    download: bool = typer.Option(False, "--download", help="Download missing weights of this metric."),
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
) -> None:
    """Score images without a reference: 0 to 1, 1 = best, and the metric's own scale."""
    if as_csv and as_json:
        raise InputError("--csv and --json exclude each other.")
    files = collect_images(images)
    with download_bar() as progress:
        measured = load_metric(metric, choose_device(device), weights, download, progress)
    rows: list[dict[str, str | float]] = []

    def work(file: Path) -> None:
        with torch.inference_mode():
            raw = measured.raw(read_image(file))
        score, own = measured.normalise(raw).item(), raw.item()
        if not math.isfinite(own):
            raise MetricError(f"metric {metric} has no score for it ({own}).")
        rows.append({"file": str(file), "metric": metric, "score": round(score, 5), "raw": round(own, 5)})

    try:
        for_each(files, len(files), "Scoring", work, str)
    finally:
        _print(rows, as_csv, as_json)


def _print(rows: list[dict[str, str | float]], as_csv: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, ["file", "metric", "score", "raw"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        for row in rows:
            typer.echo(f"{row['score']:.4f}  {row['raw']:10.4f}  {row['file']}")


def metrics() -> None:
    """List the metrics that `score` knows."""
    typer.echo("\n".join(list_metrics()))
