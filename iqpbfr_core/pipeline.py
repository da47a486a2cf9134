"""Photo -> faces -> restorer -> photo, for all faces of all frames together.

result = restore_photo(images, load_restorer("builtin"))
result.image                        # (B, 3, H, W), as large as the input
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .faces import alignment, report, tracks
from .faces.colour import find_tone, match_colour
from .faces.detection import Detector, load_detector
from .faces.face import Faces
from .faces.masks import FEATHER, FaceParser, template_mask
from .faces.paste import paste
from .faces.settings import FaceSettings, per_face
from .image import check_images, resize
from .quality import Metric, load_metric
from .restorer import Restorer, check_range


@dataclass(frozen=True)
class PhotoResult:
    """What became of a batch of photos.

    Attributes:
        image: (B, 3, H, W) in [0, 1], the photos with their faces restored.
        faces: the N faces that were restored.
        skipped: the faces that were left alone because they scored well.
        mask: (B, 1, H, W) in [0, 1], how much of each pixel is restored; where it is 0, pixels are untouched.
        crops: (N, 3, R, R) the aligned faces before ...
        restored: (N, 3, R, R) ... and after.
        report: a line for every frame, such as "2 faces restored, 1 narrower than 24 px left alone".
    """

    image: Tensor
    faces: Faces
    mask: Tensor
    crops: Tensor
    restored: Tensor
    skipped: Faces
    report: tuple[str, ...]


@torch.no_grad()
def restore_photo(
    images: Tensor,
    restorer: Restorer,
    detector: Detector | None = None,
    *,
    faces: Faces | None = None,
    quality: float | None = 1.0,
    fidelity: float | None = None,
    guidance: float = 1.0,
    alpha: float | None = None,
    adain: bool | None = None,
    min_size: float = 24,
    upscale: Callable[[Tensor], Tensor] | None = None,
    background: Tensor | None = None,
    parser: FaceParser | None = None,
    feather: float = FEATHER,
    mask: Tensor | None = None,
    visibility: float = 1.0,
    keep_colour: bool = False,
    smoothing: float = 0,
    margin: float = 1.0,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
    detail: float = 1.0,
    skip_above: float | None = None,
    metric: Metric | None = None,
    match: float = 0.0,
    settings: Sequence[FaceSettings] = (),
    steady: tracks.SteadyCodes | None = None,
) -> PhotoResult:
    """Restore the faces of photos or video frames.

    Args:
        images: (B, 3, H, W) in [0, 1].
        restorer: what restores aligned faces; crops have its resolution.
        detector: what finds them, None = the built-in one; not needed with `faces`.
        faces: the faces to restore, from a detector and `faces.selection`; None restores every face.
        quality, fidelity, guidance, alpha, adain: see `Restorer.restore`.
        min_size: faces narrower than this many pixels are left alone, or, with `upscale`, are upscaled by it.
        upscale: an upscaler, (1, 3, h, w) in [0, 1] to any larger size; given the small faces before restoration.
        background: (B, 3, kH, kW) the same photos upscaled; the faces are pasted into it, at its scale.
        parser: facexlib's parser, to paste face and hair only; None pastes what the template covers.
        feather: share of the crop's half side over which a paste fades, in (0, 1].
        mask: (B or 1, 1, H, W) in [0, 1], where photos may be changed at all; an inpainting model fills it.
        visibility: 0 shows the photo, 1 the restored face.
        keep_colour: give every restored face the tones it had.
        smoothing: above 0, the images are consecutive video frames: faces follow paths smoothed over this many
            frames, and their codes, where the model has any, change only for a reason.
        margin: how reluctant codes are to change from frame to frame; see `tracks.SteadyCodes`.
        batch_size: faces restored together.
        progress: called with (done, all) after every batch, and before each face is cut out, scored or pasted; may
            raise to stop.
        detail: how much of the photo's own detail is kept where it is finer than the model can draw, in [0, 1].
        skip_above: faces whose score is at least this, in [0, 1], are left alone; None restores all.
        metric: what scores them, None = the built-in one.
        match: how far faces take on the sharpness and grain of the photo around them, in [0, 1].
        settings: quality, fidelity and visibility of single faces; models without such a knob ignore it for them, too.
        steady: for a clip that comes in parts, whose faces were chosen, linked and smoothed as a whole: what holds
            their codes. Every one of them is restored.

    Grey photos stay grey and toned prints keep their tone, but for a colorizing model. A photo without a face comes back as it is.

    Raises:
        InputError: something has a wrong shape, type or range; the message says which.
    """
    check_images(images)
    seen = restorer.prepare(images, mask)
    if faces is None:
        faces = (detector or load_detector(device=restorer.device))(images)
    faces.check_belong(images)
    check_range("min_size", min_size, 0)
    check_range("smoothing", smoothing, 0)
    check_range("margin", margin, 0)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    if steady is not None and (smoothing or skip_above is not None):
        raise InputError("with `steady`, faces have been smoothed and chosen already: leave out smoothing, skip_above.")
    found, is_small = faces, faces.widths < (min_size if upscale is None and steady is None else 0)
    faces = faces[~is_small]
    side = restorer.config.resolution
    is_good = torch.zeros(len(faces), dtype=torch.bool)
    if skip_above is not None:
        check_range("skip_above", skip_above, 0, 1)
        is_good = _scores(images, faces, side, metric or load_metric(), progress) >= skip_above
    skipped, faces = faces[is_good], faces[~is_good]
    said = report.restored(found, is_small, torch.zeros_like(is_small).masked_scatter(~is_small, is_good), min_size)
    fidelity = restorer.supports.default_fidelity if fidelity is None else fidelity
    if smoothing:
        faces, numbers = tracks.smooth(faces, tracks.link(faces), smoothing)
        steady = tracks.SteadyCodes(numbers, margin)
    steady = steady if restorer.supports.codes else None

    qualities: float | Tensor | None = quality
    fidelities: float | Tensor = fidelity
    visibilities: float | Tensor = visibility
    if settings:
        best = 1.0 if quality is None else quality
        qualities, fidelities, visibilities = per_face(faces, settings, best, fidelity, visibility)
        fidelities = fidelities if restorer.supports.fidelity else fidelity
    matrices = alignment.align(faces, side)
    ask = partial(progress, 0, len(faces)) if progress else None
    crops = alignment.crop(seen, faces, side, matrices, restorer.device, ask)
    if upscale is not None:
        for index in (faces.widths < min_size).nonzero()[:, 0].tolist():
            crops[index] = _upscaled_crop(seen, faces[[index]], side, upscale).to(crops)

    restored = torch.empty_like(crops)
    for start in range(0, len(faces), batch_size):
        batch = slice(start, start + batch_size)
        quality_now, fidelity_now = _those(qualities, batch), _those(fidelities, batch)
        if steady is None:
            faces_now = restorer.restore(crops[batch], quality_now, fidelity_now, guidance, alpha, adain)
        else:
            features = restorer.encode(crops[batch])
            codes = steady(restorer.lookup(features, quality_now, guidance, alpha))
            faces_now = restorer.decode(codes, features, fidelity_now, adain)
        restored[batch] = faces_now.to(restored)
        if progress is not None:
            progress(min(start + batch_size, len(faces)), len(faces))
    if keep_colour:
        restored = match_colour(restored, crops)
    if restorer.supports.task != "colorize":
        restored = find_tone(images)[faces.frames.cpu()].apply(restored)

    shown = template_mask(side, feather, crops.device) if parser is None else parser(restored, feather)
    canvas = images
    if background is not None:
        canvas = check_images(background, "the background")
        matrices = alignment.rescale(matrices, *faces.scale_in(canvas, "the background"))
        mask = None if mask is None else resize(mask, (canvas.shape[2], canvas.shape[3]))
    detail = 0.0 if restorer.supports.task == "inpaint" else detail  # what is filled is no detail
    ask = partial(progress, len(faces), len(faces)) if progress else None
    image, opacity = paste(canvas, restored, faces, matrices, shown, visibilities, mask, detail, match, ask)
    return PhotoResult(image, faces, opacity, crops, restored, skipped, said)


def _those(value: Any, batch: slice) -> Any:
    """What holds for a batch of faces: the one value of all, or those of its own."""
    return value[batch] if isinstance(value, Tensor) else value


def _scores(
    images: Tensor, faces: Faces, side: int, metric: Metric, progress: Callable[[int, int], None] | None
) -> Tensor:
    """(N,) scores of the faces as they are, on the CPU."""
    scores = []
    for number in range(len(faces)):
        if progress is not None:
            progress(0, len(faces))
        scores.append(metric(alignment.crop(images, faces[[number]], side).float()).item())
    return torch.tensor(scores)


def _upscaled_crop(images: Tensor, face: Faces, side: int, upscale: Callable[[Tensor], Tensor]) -> Tensor:
    """One face (3, side, side), cropped at about the size it has in the photo and upscaled from there."""
    scale = float(alignment.pixels_per_crop_pixel(alignment.align(face, side))[0])
    native = min(side, max(16, round(side * scale)))
    larger = upscale(alignment.crop(images, face, native))
    return resize(check_images(larger, "what `upscale` returned"), (side, side))[0]
