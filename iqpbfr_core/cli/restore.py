"""iqpbfr restore: whole photos, or with --aligned face crops."""

from functools import partial
from pathlib import Path

import torch
import typer
from torch import Tensor

from ..faces.detection import DETECTORS, load_detector
from ..image import read_image, resize, write_image
from ..pipeline import restore_photo
from ..restorer import Restorer, Settings
from .aligned import through_square
from .console import (
    ADAIN_HELP,
    ADAPTER_HELP,
    FIDELITY_HELP,
    check_word,
    choose_device,
    collect_images,
    errors,
    for_each,
    load_model,
    output,
    output_names,
    refuse_options,
    settle,
)
from .download import download_bar
from .masks import mask_of
from .photos import CHOICES, collect_photos, restore_file


def restore_aligned(restorer: Restorer, face: Tensor, settings: Settings) -> Tensor:
    """Restore one aligned face (1, 3, H, W) of any size; see `through_square`."""
    return through_square(
        face,
        restorer.config.resolution,
        lambda square: restorer.restore(square, settings.quality, settings.fidelity, adain=settings.adain),
    )


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What --aligned has no use for, by parameter.
_ONLY_PHOTOS = (
    "detector", "model_dir", "download", "faces", "confidence", "min_face", "small_faces", "visibility", "keep_colour",
    "image_format", "detail", "match", "skip_above", "as_json",
)  # fmt: skip


def restore(
    context: typer.Context,
    images: list[Path] = typer.Argument(help="Photos, or folders of them (with the folders inside)."),
    out: Path = typer.Option(..., "-o", "--out", help="Folder for the restored photos; names and formats are kept."),
    aligned: bool = typer.Option(False, "--aligned", help="Inputs are aligned face crops: no detection, PNG out."),
    model: str = typer.Option("builtin", help="'builtin', or a weight file (.safetensors, .pth, .ckpt, .onnx)."),
    quality: float = typer.Option(1.0, min=0, max=1, help="Wanted quality score; 1 is the best the model knows."),
    fidelity: float | None = typer.Option(None, min=0, max=1, help=FIDELITY_HELP),
    adain: bool | None = typer.Option(None, help=ADAIN_HELP),
    detector: str = typer.Option(
        "builtin", help=f"builtin, {', '.join(DETECTORS)} (these two need weights), or a RetinaFace weight file."
    ),
    model_dir: Path | None = typer.Option(None, help="Folder of the detector's weights, such as models/facedetection."),
    download: bool = typer.Option(False, "--download", help="Allow missing detector weights to be downloaded."),
    faces: str = typer.Option("all", help=f"Which faces of a photo: {', '.join(CHOICES)}."),
    confidence: float = typer.Option(0.8, min=0, max=1, help="Least detection score of a face."),
    min_face: float = typer.Option(24, min=0, help="Faces narrower than this many pixels are left alone."),
    small_faces: str = typer.Option("leave", help="What to do with those: leave, upscale."),
    visibility: float = typer.Option(1.0, min=0, max=1, help="0 = the photo, 1 = the restored face."),
    keep_colour: bool = typer.Option(False, "--keep-colour", help="Give every restored face the tones it had."),
    image_format: str | None = typer.Option(None, "--format", help="Write this format (png, jpg, ...) instead."),
    resume: bool = typer.Option(False, "--resume", help="Skip photos whose result is there already."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
    detail: float = typer.Option(1.0, min=0, max=1, help="How much of the photo's own finest detail large faces keep."),
    match: float = typer.Option(0.0, min=0, max=1, help="How far faces take on sharpness and grain of what is around."),
    skip_above: float | None = typer.Option(
        None, min=0, max=1, help="Leave faces alone whose score by the built-in metric is at least this."
    ),
    mask: Path | None = typer.Option(
        None,
        help="Picture, or folder with one per photo, white where something may change; an inpainting model fills it.",
    ),
    adapter: Path | None = typer.Option(None, help=ADAPTER_HELP),
    precision: str = typer.Option("fp32", help=f"{', '.join(PRECISIONS)}: half precision is faster on many GPUs."),
    as_json: bool = typer.Option(False, "--json", help="Say what happened as JSON, a line for each photo."),
) -> None:
    """Restore, colorize or inpaint (as the model was trained) the faces in photos, or aligned face crops."""
    if aligned:
        refuse_options(context, _ONLY_PHOTOS, "has no meaning with --aligned")
        files = collect_images(images)
        pairs = list(zip(files, output_names(files, out), strict=True))
    else:
        pairs = collect_photos(images, out, f".{image_format.lower().lstrip('.')}" if image_format else None)
    if resume:
        left = [pair for pair in pairs if not pair[1].exists()]
        errors.print(f"{len(pairs) - len(left)} finished already.")
        pairs = left
    check_word("--precision", precision, PRECISIONS)
    restorer = load_model(model, adapter, choose_device(device), PRECISIONS[precision])
    settings = settle(restorer, quality, fidelity, adain)
    if aligned:
        work = partial(_restore_crop, restorer=restorer, settings=settings, masks=mask)
    else:
        check_word("--small-faces", small_faces, ("leave", "upscale"))
        check_word("--faces", faces, CHOICES)
        with download_bar() as progress:
            network = load_detector(detector, restorer.device, folder=model_dir, download=download, progress=progress)
        side = restorer.config.resolution
        restore_faces = partial(
            restore_photo,
            restorer=restorer,
            quality=settings.quality,
            fidelity=settings.fidelity,
            adain=settings.adain,
            min_size=min_face,
            upscale=partial(resize, size=(side, side)) if small_faces == "upscale" else None,
            visibility=visibility,
            keep_colour=keep_colour,
            detail=detail,
            skip_above=skip_above,
            match=match,
        )
        work = partial(
            restore_file,
            detector=network,
            confidence=confidence,
            choice=faces,
            restore=restore_faces,
            masks=mask,
            as_json=as_json,
        )
    with torch.no_grad():
        for_each(pairs, len(pairs), "Restoring", lambda pair: work(*pair), lambda pair: str(pair[0]))


def _restore_crop(source: Path, target: Path, restorer: Restorer, settings: Settings, masks: Path | None) -> None:
    face = read_image(source)
    mask = mask_of(source, masks, (face.shape[2], face.shape[3]))
    restored = restore_aligned(restorer, restorer.prepare(face, mask), settings)
    if mask is not None:
        size = (restored.shape[2], restored.shape[3])
        restored = torch.lerp(resize(face, size).to(restored), restored, resize(mask, size).to(restored))
    write_image(restored[0], target)
    output.print(str(target), soft_wrap=True)
