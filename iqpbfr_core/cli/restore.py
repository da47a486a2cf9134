"""iqpbfr restore"""

from pathlib import Path

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from ..image import check_images, read_image, resize, write_image
from ..restorer import Restorer, load_restorer
from .console import choose_device, collect_images, errors, for_each, output, output_names


def restore_aligned(restorer: Restorer, face: Tensor, quality: float, fidelity: float, adain: bool = True) -> Tensor:
    """Restore one aligned face (1, 3, H, W) of any size.

    A face that is not square is padded, not stretched. The result has the input's size, or its proportions at the
    model's resolution where the input is smaller.
    """
    check_images(face, "the image")
    height, width = face.shape[2:]
    side = max(height, width)
    square = F.pad(face, (0, side - width, 0, side - height), mode="replicate")
    resolution = restorer.config.resolution
    restored = restorer.restore(resize(square, (resolution, resolution)), quality, fidelity, adain=adain)
    final = max(side, resolution)
    scale = final / side
    restored = resize(restored, (final, final))
    return restored[:, :, : round(height * scale), : round(width * scale)]


def restore(
    images: list[Path] = typer.Argument(help="Aligned faces, or folders of them."),
    out: Path = typer.Option(..., "-o", "--out", help="Folder for the restored faces (PNG)."),
    model: str = typer.Option("builtin", help="'builtin', or a weight file (.safetensors, .pth, .ckpt)."),
    quality: float = typer.Option(1.0, min=0, max=1, help="Wanted quality score; 1 is the best the model knows."),
    fidelity: float = typer.Option(0.5, min=0, max=1, help="0 = quality first, 1 = closest to the input."),
    aligned: bool = typer.Option(True, "--aligned", help="Inputs are aligned face crops (so far the only mode)."),
    adain: bool = typer.Option(True, help="Match feature statistics to the input, as the official scripts do."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
) -> None:
    """Restore aligned faces."""
    files = collect_images(images)
    targets = output_names(files, out)
    restorer = load_restorer(model, choose_device(device))
    if not restorer.has_quality and quality != 1:
        errors.print(f"Note: {restorer.config.family} takes no quality score; --quality has no effect.")

    def work(pair: tuple[Path, Path]) -> None:
        face = read_image(pair[0])
        write_image(restore_aligned(restorer, face, quality, fidelity, adain)[0], pair[1])
        output.print(str(pair[1]), highlight=False, soft_wrap=True)

    with torch.inference_mode():
        pairs = list(zip(files, targets, strict=True))
        for_each(pairs, len(pairs), "Restoring", work, lambda pair: str(pair[0]))
