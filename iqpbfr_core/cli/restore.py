"""iqpbfr restore: whole photos and videos, or with --aligned face crops."""

from functools import partial
from pathlib import Path
from typing import Literal

import torch
import typer
from torch import Tensor

from ..faces.detection import DETECTORS, load_detector
from ..image import read_image, resize, write_image
from ..pipeline import restore_photo
from ..restorer import Restorer, Settings
from ..upscale import load_upscaler
from .aligned import through_square
from .companions import companion_of, mask_of
from .console import (
    ADAIN_HELP,
    ADAPTER_HELP,
    FIDELITY_HELP,
    choose_device,
    collect_images,
    errors,
    for_each,
    load_model,
    output,
    output_names,
    refuse_options,
    say,
    settle,
)
from .download import download_bar
from .photos import Enlarger, FaceChoice, Recipe, choose_faces, collect_photos, is_video, restore_file
from .processes import leaving_together, share
from .videos import restore_video


def restore_aligned(restorer: Restorer, face: Tensor, settings: Settings) -> Tensor:
    """Restore one aligned face (1, 3, H, W) of any size; see `through_square`."""
    return through_square(
        face,
        restorer.config.resolution,
        lambda square: restorer.restore(square, settings.quality, settings.fidelity, adain=settings.adain),
    )


SmallFaces = Literal["leave", "upscale"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES: dict[Precision, torch.dtype | Literal["auto"]] = {
    "auto": "auto",
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
# What --aligned has no use for, by parameter.
_ONLY_PHOTOS = (
    "detector", "model_dir", "download", "faces", "confidence", "min_face", "small_faces", "visibility", "keep_colour",
    "image_format", "detail", "match", "skip_above", "as_json", "background", "upscale", "video_smoothing",
)  # fmt: skip
_ONLY_STILLS = ("skip_above", "background")  # in a video, faces would come and go with the first; nobody has the second
_SAME_FRAMES = ("images", "out", "resume", "as_json", "download")  # of no importance to what a video's frames become
# Options by the panel of --help they are in.
_model_option, _face_option, _result_option, _run_option = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Model", "Faces", "Result", "Running")
)


def restore(
    context: typer.Context,
    images: list[Path] = typer.Argument(help="Photos and videos, or folders of them (with the folders inside)."),
    out: Path = typer.Option(..., "-o", "--out", help="Folder for the results; names and formats are kept."),
    aligned: bool = typer.Option(False, "--aligned", help="Inputs are aligned face crops: no detection, PNG out."),
    model: str = _model_option("builtin", help="'builtin', or a weight file (.safetensors, .pth, .ckpt, .onnx)."),
    adapter: Path | None = _model_option(None, help=ADAPTER_HELP),
    quality: float = _model_option(1.0, min=0, max=1, help="Wanted quality score; 1 is the best the model knows."),
    fidelity: float | None = _model_option(None, min=0, max=1, help=FIDELITY_HELP),
    adain: bool | None = _model_option(None, help=ADAIN_HELP),
    detector: str = _face_option(
        "builtin", help=f"builtin, {', '.join(DETECTORS)} (these two need weights), or a RetinaFace weight file."
    ),
    model_dir: Path | None = _face_option(None, help="Folder of the detector's weights, such as models/facedetection."),
    download: bool = _face_option(False, "--download", help="Allow missing detector weights to be downloaded."),
    confidence: float = _face_option(0.8, min=0, max=1, help="Least detection score of a face."),
    faces: FaceChoice = _face_option("all", help="Which faces of a photo."),
    min_face: float = _face_option(24, min=0, help="Faces narrower than this many pixels are left alone."),
    small_faces: SmallFaces = _face_option("leave", help="What to do with those."),
    skip_above: float | None = _face_option(
        None, min=0, max=1, help="Leave faces alone whose score by the built-in metric is at least this."
    ),
    mask: Path | None = _face_option(
        None,
        help="Picture, or folder with one per photo, white where something may change; an inpainting model fills it.",
    ),
    visibility: float = _result_option(1.0, min=0, max=1, help="0 = the photo, 1 = the restored face."),
    keep_colour: bool = _result_option(False, "--keep-colour", help="Give every restored face the tones it had."),
    detail: float = _result_option(
        1.0, min=0, max=1, help="How much of the photo's own finest detail large faces keep."
    ),
    match: float = _result_option(
        0.0, min=0, max=1, help="How far faces take on sharpness and grain of what is around."
    ),
    background: Path | None = _result_option(
        None, help="Picture, or folder with one per photo, enlarged already: faces are pasted into it, at its size."
    ),
    upscale: Path | None = _result_option(
        None, help="Weight file of an upscaler: it enlarges the whole photo, and faces are pasted at that size."
    ),
    image_format: str | None = _result_option(
        None, "--format", help="Write photos in this format (png, jpg, ...) instead."
    ),
    video_smoothing: float = _result_option(
        2.0, min=0, max=30, help="In videos faces follow paths smoothed over so many frames, and change for a reason."
    ),
    device: str = _run_option("auto", help="auto, cpu, cuda, mps."),
    precision: Precision = _run_option(
        "auto",
        help="auto: bf16 where it gives the same picture in half the time (the built-in model on newer processors), "
        "else fp32.",
    ),
    resume: bool = _run_option(
        False, "--resume", help="Skip what is finished, and go on with a video that was stopped in the middle."
    ),
    as_json: bool = _run_option(False, "--json", help="Say what happened as JSON, a line for each file."),
) -> None:
    """Restore, colorize or inpaint (as the model was trained) the faces in photos and videos, or aligned face crops.

    Videos keep sound and subtitles; those of more than 8 bits a channel (HDR) are written in 8.
    """
    if aligned:
        refuse_options(context, _ONLY_PHOTOS, "has no meaning with --aligned")
        files = collect_images(images)
        pairs = list(zip(files, output_names(files, out), strict=True))
    else:
        pairs = collect_photos(images, out, f".{image_format.lower().lstrip('.')}" if image_format else None)
    if has_videos := not aligned and any(is_video(source) for source, _ in pairs):
        refuse_options(context, _ONLY_STILLS, "has no meaning for videos")
    if upscale is not None:
        refuse_options(context, ("background",), "is what --upscale makes")
    pairs = share(pairs)
    if resume:
        left = [pair for pair in pairs if not pair[1].exists()]
        errors.print(f"{len(pairs) - len(left)} finished already.")
        pairs = left
    restorer = load_model(model, adapter, choose_device(device), _DTYPES[precision])
    if precision == "auto" and restorer.dtype == torch.bfloat16:
        say(
            [
                "computing in bf16, about twice as fast on this processor; --precision fp32 gives what other processors give."
            ]
        )
    settings = settle(restorer, quality, fidelity, adain)
    if aligned:
        work = partial(_restore_crop, restorer=restorer, settings=settings, masks=mask)
    else:
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
        recipe = Recipe(
            find=lambda pixels: choose_faces(network(pixels, confidence), faces),
            restore=restore_faces,
            masks=mask,
            enlarge=_enlarger(background, upscale, restorer.device),
            as_json=as_json,
        )
        restore_still = partial(restore_file, recipe=recipe)
        restore_clip = partial(
            restore_video,
            recipe=recipe,
            min_face=0 if small_faces == "upscale" else min_face,
            smoothing=video_smoothing,
            options={name: str(value) for name, value in context.params.items() if name not in _SAME_FRAMES}
            | {"precision": str(restorer.dtype)},  # of `auto`, what it came to
            resume=resume,
        )

        def work(source: Path, target: Path) -> None:
            (restore_clip if is_video(source) else restore_still)(source, target)

    with torch.no_grad(), leaving_together():
        for_each(pairs, len(pairs), "Restoring", lambda pair: work(*pair), lambda pair: str(pair[0]), not has_videos)


def _enlarger(background: Path | None, upscale: Path | None, device: torch.device) -> Enlarger | None:
    """What gives, for the file and pixels of a photo, the larger one that faces are pasted into."""
    if upscale is not None:
        upscaler = load_upscaler(upscale, device)
        return lambda _, pixels: upscaler(pixels)
    if background is not None:
        return lambda photo, _: read_image(companion_of(photo, background))
    return None


def _restore_crop(source: Path, target: Path, restorer: Restorer, settings: Settings, masks: Path | None) -> None:
    face = read_image(source)
    mask = mask_of(source, masks, (face.shape[2], face.shape[3]))
    restored = restore_aligned(restorer, restorer.prepare(face, mask), settings)
    if mask is not None:
        size = (restored.shape[2], restored.shape[3])
        restored = torch.lerp(resize(face, size).to(restored), restored, resize(mask, size).to(restored))
    write_image(restored[0], target)
    output.print(str(target), soft_wrap=True)
