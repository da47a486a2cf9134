"""iqpbfr sweep"""

from pathlib import Path

import torch
import typer

from ..errors import InputError
from ..figure import labelled_grid
from ..image import read_image, resize, write_image
from ..quality import load_metric
from ..restorer import check_range
from .aligned import to_square
from .console import ADAIN_HELP, ADAPTER_HELP, check_overwriting, choose_device, load_model, output, say
from .download import download_bar


def sweep(
    image: Path = typer.Argument(help="An aligned face."),
    out: Path = typer.Option(..., "-o", "--out", help="Picture to write."),
    qualities: str = typer.Option("0,0.25,0.5,0.75,1", "--quality", help="Quality values, one column each."),
    fidelities: str | None = typer.Option(
        None, "--fidelity", help="Fidelity values, one row each; default: what the model is best run at."
    ),
    metric: str = typer.Option("builtin", help="'builtin', or a pyiqa metric: the score written on each face."),
    model: str = typer.Option("builtin", help="'builtin', or a weight file."),
    adain: bool | None = typer.Option(None, help=ADAIN_HELP),
    weights: Path | None = typer.Option(None, help="Folder with the metric's weights; default: pyiqa's own cache."),
    download: bool = typer.Option(False, "--download", help="Download missing weights of this metric."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
    adapter: Path | None = typer.Option(None, help=ADAPTER_HELP),
) -> None:
    """Restore one aligned face at several qualities and fidelities: a labelled grid with scores."""
    wanted = _numbers("quality", qualities)
    kept = [] if fidelities is None else _numbers("fidelity", fidelities)
    check_overwriting([image], [out])
    where = choose_device(device)
    restorer = load_model(model, adapter, where)
    kept = kept or [restorer.supports.default_fidelity]
    say(note for value in wanted for note in restorer.settings(value).notes)
    with download_bar() as progress:
        score = load_metric(metric, where, weights, download, progress)
    side = restorer.config.resolution
    with torch.inference_mode():
        features = restorer.encode(resize(to_square(read_image(image)), (side, side)))
        codes = [restorer.lookup(features, quality) for quality in wanted]
        rows = [torch.cat([restorer.decode(c, features, fidelity, adain) for c in codes]) for fidelity in kept]
        captions = [[f"{value:.3f}" for value in score(row).tolist()] for row in rows]
    picture = labelled_grid(
        [row.cpu() for row in rows],
        [f"fidelity {fidelity:g}" for fidelity in kept],
        [f"quality {quality:g}" for quality in wanted],
        captions,
    )
    write_image(picture, out)
    output.print(str(out), soft_wrap=True)


def _numbers(name: str, text: str) -> list[float]:
    """Comma-separated numbers in [0, 1]."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--{name} must be numbers with commas between them, like 0,0.5,1, got {text!r}.") from None
    for number in numbers:
        check_range(name, number, 0, 1)
    return numbers
