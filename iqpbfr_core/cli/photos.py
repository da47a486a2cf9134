"""Whole photos, one file after the other: read, find faces, restore, write with everything the file had."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import InputError
from ..faces import selection
from ..faces.detection import Detector
from ..faces.face import Faces
from ..image import IMAGE_SUFFIXES, write_atomically
from ..photo import read_photo, write_photo
from ..pipeline import PhotoResult
from .console import check_targets, output
from .masks import mask_of

# What --faces takes, and the order in which the chosen face comes first.
CHOICES = {"all": None, "largest": "size", "left": "left_to_right", "right": "right_to_left", "centre": "centre"}


def collect_photos(paths: Sequence[Path], out: Path, suffix: str | None) -> list[tuple[Path, Path]]:
    """(input, output) of files as given and of all images in folders and the folders in them.

    Folders keep their inner structure; what lies in `out` itself is no input. `suffix` changes the format.
    """
    if suffix is not None and suffix not in IMAGE_SUFFIXES:
        raise InputError(f"cannot write {suffix!r} files; --format takes one of {', '.join(IMAGE_SUFFIXES)}.")
    pairs: list[tuple[Path, Path]] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            found = [p for p in inside if not Path(os.path.realpath(p)).is_relative_to(os.path.realpath(out))]
        for file in found:
            place = file.relative_to(path) if path.is_dir() else Path(file.name)
            pairs.append((file, out / (place.with_suffix(suffix) if suffix else place)))
    if not pairs:
        raise InputError(f"no images in {', '.join(map(str, paths))}; looked for {', '.join(IMAGE_SUFFIXES)}.")
    check_targets([file for file, _ in pairs], [target for _, target in pairs], out)
    return pairs


def choose_faces(faces: Faces, choice: str) -> Faces:
    """The faces a word on the command line stands for, one of CHOICES."""
    order = CHOICES[choice]
    return selection.first(selection.sort(faces, order), 1) if order else faces


def restore_file(
    source: Path,
    target: Path,
    detector: Detector,
    confidence: float,
    choice: str,
    restore: Callable[..., PhotoResult],
    masks: Path | None,
    as_json: bool = False,
) -> None:
    """Restore one photo; one without a face to restore is copied as it is, or written in the wanted format."""
    photo = read_photo(source)
    faces = choose_faces(detector(photo.pixels, confidence), choice)
    mask = mask_of(source, masks, (photo.pixels.shape[2], photo.pixels.shape[3]))
    result = restore(photo.pixels, faces=faces, mask=mask)
    if len(result.faces) == 0 and source.suffix.lower() == target.suffix.lower():
        write_atomically(target, source.read_bytes())
    else:
        write_photo(result.image[0], photo, target)
    output.print(_as_json(target, result) if as_json else f"{target}: {result.report[0]}", soft_wrap=True)


def _as_json(target: Path, result: PhotoResult) -> str:
    """A line for programs: where the photo is, the faces that were restored in it, and what is said to people."""
    boxes, scores = result.faces.boxes.tolist(), result.faces.scores.tolist()
    faces = [
        {"box": [round(side, 1) for side in box], "confidence": round(score, 4)}
        for box, score in zip(boxes, scores, strict=True)
    ]
    return json.dumps({"path": str(target), "faces": faces, "report": result.report[0]}, ensure_ascii=False)
