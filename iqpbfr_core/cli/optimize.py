"""iqpbfr optimize"""

from pathlib import Path

import torch
import typer
from torch import Tensor

from ..image import read_image, write_image
from ..optimize import OptimizationResult, WorstOf, optimize_codes
from ..quality import load_metric
from .aligned import through_square
from .console import (
    ADAIN_HELP,
    ADAPTER_HELP,
    FIDELITY_HELP,
    choose_device,
    collect_images,
    for_each,
    load_model,
    output,
    output_names,
    settle,
)
from .download import download_bar


def optimize(
    images: list[Path] = typer.Argument(help="Aligned faces, or folders of them."),
    out: Path = typer.Option(..., "-o", "--out", help="Folder for the faces (PNG)."),
    metric: list[str] = typer.Option(["builtin"], help="What to raise; several: the worst of them counts."),
    steps: int = typer.Option(15, min=1, help="Forward and backward passes per face."),
    target: float | None = typer.Option(None, min=0, max=1, help="Stop at this score instead of climbing on."),
    model: str = typer.Option("builtin", help="'builtin', or a weight file with codebooks (CodeFormer's too)."),
    quality: float = typer.Option(1.0, min=0, max=1, help="Quality of the face to start from."),
    fidelity: float | None = typer.Option(None, min=0, max=1, help=FIDELITY_HELP),
    max_changed: float = typer.Option(0.2, min=0, max=1, help="Largest share of codes that may change."),
    lq_weight: float = typer.Option(0.0, min=0, help="How strongly the result is held to the input."),
    adain: bool | None = typer.Option(None, help=ADAIN_HELP),
    weights: Path | None = typer.Option(None, help="Folder with the metrics' weights; default: pyiqa's own cache."),
    download: bool = typer.Option(False, "--download", help="Download missing weights of the metrics."),
    low_memory: bool = typer.Option(False, help="Recompute activations instead of storing them."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
    adapter: Path | None = typer.Option(None, help=ADAPTER_HELP),
) -> None:
    """Restore aligned faces, then search their codes for a higher score. Ctrl+C keeps the best so far."""
    files = collect_images(images)
    pairs = list(zip(files, output_names(files, out), strict=True))
    where = choose_device(device)
    restorer = load_model(model, adapter, where)
    settings = settle(restorer, quality, fidelity, adain)
    with download_bar() as progress:
        score = WorstOf([load_metric(name, where, weights, download, progress) for name in metric])

    def work(pair: tuple[Path, Path]) -> None:
        result: OptimizationResult | None = None

        def climb(square: Tensor) -> Tensor:
            nonlocal result
            with torch.no_grad():
                features = restorer.encode(square)
                codes = restorer.lookup(features, settings.quality)
            result = optimize_codes(
                restorer,
                codes,
                features,
                score,
                steps,
                max_changed=max_changed,
                lq=square.to(where) if lq_weight > 0 else None,
                lq_weight=lq_weight,
                target=target,
                fidelity=settings.fidelity,
                adain=settings.adain,
                checkpointing=low_memory,
            )
            return result.images

        write_image(through_square(read_image(pair[0]), restorer.config.resolution, climb)[0], pair[1])
        assert result is not None
        gain = f"{result.start_scores.item():.4f} -> {result.scores.item():.4f}"
        output.print(f"{pair[1]}  {gain}  {result.stop_reasons[0]}", soft_wrap=True)
        if result.stop_reasons[0] == "interrupted":
            raise typer.Exit(130)

    for_each(pairs, len(pairs), "Optimising", work, lambda pair: str(pair[0]))
