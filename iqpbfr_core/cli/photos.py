"""Whole photos, one file after the other: read, find faces, restore, write with everything the file had."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..errors import InputError
from ..faces import selection
from ..faces.face import Faces
from ..image import IMAGE_SUFFIXES, write_atomically
from ..photo import read_photo, write_photo
from ..pipeline import PhotoResult
from ..video import VIDEO_SUFFIXES, output_suffix
from .companions import mask_of
from .console import check_targets, output

_READ = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
# The file and pixels of a photo to what its faces are pasted into, (B, 3, kH, kW).
Enlarger = Callable[[Path, Tensor], Tensor]
FaceChoice = Literal["all", "largest", "left", "right", "centre"]
# The order in which the chosen face comes first.
_ORDERS: dict[FaceChoice, str] = {
    "largest": "size",
    "left": "left_to_right",
    "right": "right_to_left",
    "centre": "centre",
}


def collect_photos(paths: Sequence[Path], out: Path, suffix: str | None) -> list[tuple[Path, Path]]:
    """(input, output) of files as given and of all images and videos in folders and the folders in them.

    Folders keep their inner structure; what lies in `out` itself is no input. `suffix` changes the photos' format.
    """
    if suffix is not None and suffix not in IMAGE_SUFFIXES:
        raise InputError(f"cannot write {suffix!r} files; --format takes one of {', '.join(IMAGE_SUFFIXES)}.")
    pairs: list[tuple[Path, Path]] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in _READ and p.is_file())
            found = [p for p in inside if not Path(os.path.realpath(p)).is_relative_to(os.path.realpath(out))]
        for file in found:
            place = file.relative_to(path) if path.is_dir() else Path(file.name)
            wanted = output_suffix(file.suffix) if is_video(file) else suffix or file.suffix
            pairs.append((file, out / place.with_suffix(wanted)))
    if not pairs:
        raise InputError(f"no images or videos in {', '.join(map(str, paths))}; looked for {', '.join(_READ)}.")
    check_targets([file for file, _ in pairs], [target for _, target in pairs], out)
    return pairs


def is_video(file: Path) -> bool:
    """Whether a file is called like a video."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def choose_faces(faces: Faces, choice: FaceChoice) -> Faces:
    """The faces a word on the command line stands for."""
    order = _ORDERS.get(choice)
    return selection.first(selection.sort(faces, order), 1) if order else faces


@dataclass(frozen=True)
class Recipe:
    """How a file is restored, be it a photo or a video.

    Attributes:
        find: the faces of (1, 3, H, W) in [0, 1].
        restore: `restore_photo` with all its settings.
        masks: a mask, or a folder with one per file; see `mask_of`.
        enlarge: what gives the larger picture that faces are pasted into.
        as_json: whether to say what happened as JSON.
    """

    find: Callable[[Tensor], Faces]
    restore: Callable[..., PhotoResult]
    masks: Path | None = None
    enlarge: Enlarger | None = None
    as_json: bool = False


def restore_file(source: Path, target: Path, recipe: Recipe) -> None:
    """Restore one photo; one without a face to restore is copied as it is, or written in the wanted format."""
    photo = read_photo(source)
    faces = recipe.find(photo.pixels)
    mask = mask_of(source, recipe.masks, (photo.pixels.shape[2], photo.pixels.shape[3]))
    background = recipe.enlarge(source, photo.pixels) if recipe.enlarge else None
    result = recipe.restore(photo.pixels, faces=faces, mask=mask, background=background)
    if len(result.faces) == 0 and background is None and source.suffix.lower() == target.suffix.lower():
        write_atomically(target, source.read_bytes())
    else:
        write_photo(result.image[0], photo, target)
    output.print(_as_json(target, result) if recipe.as_json else f"{target}: {result.report[0]}", soft_wrap=True)


def _as_json(target: Path, result: PhotoResult) -> str:
    """A line for programs: where the photo is, the faces that were restored in it, and what is said to people."""
    boxes, scores = result.faces.boxes.tolist(), result.faces.scores.tolist()
    faces = [
        {"box": [round(side, 1) for side in box], "confidence": round(score, 4)}
        for box, score in zip(boxes, scores, strict=True)
    ]
    return json.dumps({"path": str(target), "faces": faces, "report": result.report[0]}, ensure_ascii=False)
