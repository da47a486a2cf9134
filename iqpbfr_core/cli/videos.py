"""Videos: faces are found in all frames first, so that their paths can be smoothed, then restored frame by frame.

What is done lies part by part in a hidden folder beside the result, from where a call with --resume goes on.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path

import safetensors.torch
import torch
from rich.progress import track
from torch import Tensor

from .. import __version__
from ..faces import tracks
from ..faces.face import ARRAYS, Faces
from ..image import write_atomically
from ..video import PART_SUFFIX, Frame, count_frames, join_parts, lost_by_writing, read_frames, write_part
from .companions import mask_of
from .console import errors, output, say
from .photos import Recipe

PART = 32  # frames: what a kill loses at most, and how far apart the frames are from which one can start to watch
_AT_ONCE = 4  # frames restored together
Numbered = tuple[int, Frame]


def restore_video(
    source: Path,
    target: Path,
    recipe: Recipe,
    min_face: float,
    smoothing: float,
    options: dict[str, str],
    resume: bool,
) -> None:
    """Restore one video; one without a face to restore is copied as it is, unless it is enlarged.

    The recipe's `restore` is called with a few frames and all faces in them; narrower ones than `min_face` are none. With `resume`
    what an earlier call with the same `options` had done is not done again.
    """
    work = _work_folder(source, target, options, resume)
    faces = _find_faces(source, work, recipe.find)
    faces = faces[faces.widths >= min_face]
    numbers = tracks.link(faces) if smoothing else None
    if numbers is not None:
        faces, numbers = tracks.smooth(faces, numbers, smoothing)
    if len(faces) or recipe.enlarge or source.suffix.lower() != target.suffix.lower():
        mask = mask_of(source, recipe.masks, faces.size)

        def restore_frames(frames: list[Numbered], steady: tracks.SteadyCodes | None) -> Tensor:
            first, pixels = frames[0][0], torch.cat([frame.pixels for _, frame in frames])
            here = faces.in_frames(first, first + len(frames))
            background = recipe.enlarge(source, pixels) if recipe.enlarge else None
            return recipe.restore(pixels, faces=here, mask=mask, background=background, steady=steady).image

        parts = _restore_parts(source, work, restore_frames, faces.frames, numbers)
        join_parts(parts, source, target)
        losses = lost_by_writing(source)
    else:
        write_atomically(target, source.read_bytes())
        losses = []
    shutil.rmtree(work)
    _report(target, faces, losses, recipe.as_json)


def _find_faces(source: Path, work: Path, find: Callable[[Tensor], Faces]) -> Faces:
    """All faces of a video."""
    found = []
    for number, part in _parts(source, "finding faces"):
        file = work / f"{number:05}.faces"
        if not file.exists():
            _save_faces(Faces.of_frames([find(frame.pixels) for _, frame in part]), file)
        found.append(_load_faces(file))
    return Faces.of_frames(found)


def _restore_parts(
    source: Path,
    work: Path,
    restore: Callable[[list[Numbered], tracks.SteadyCodes | None], Tensor],
    frames: Tensor,
    numbers: Tensor | None,
) -> list[Path]:
    """The parts of the result. `frames` (N,) are those the faces are in, `numbers` (N,) the faces' tracks, if linked."""
    parts, held = [], {}
    for number, part in _parts(source, "restoring"):
        file, codes = work / f"{number:05}{PART_SUFFIX}", work / f"{number:05}.codes"
        if not codes.exists():  # written last: the part is whole
            steady = None
            if numbers is not None:
                steady = tracks.SteadyCodes(numbers[frames // PART == number], held=held)
            write_part(file, _restored(part, lambda batch, steady=steady: restore(batch, steady)), source)
            kept = {} if steady is None else {str(track): indices for track, indices in steady.held.items()}
            write_atomically(codes, safetensors.torch.save(kept))
        held = {int(track): indices for track, indices in safetensors.torch.load_file(codes).items()}
        parts.append(file)
    return parts


def _restored(frames: Iterator[Numbered], restore: Callable[[list[Numbered]], Tensor]) -> Iterator[Frame]:
    while batch := list(islice(frames, _AT_ONCE)):
        for (_, frame), image in zip(batch, restore(batch), strict=True):
            yield replace(frame, pixels=image[None])


def _parts(source: Path, task: str) -> Iterable[tuple[int, Iterator[Numbered]]]:
    """The frames of a video with their numbers, in parts with theirs; a bar shows how far they are taken."""
    text = f"{source.name}: {task}"
    frames = track(
        read_frames(source),
        text,
        count_frames(source) or None,
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    return groupby(enumerate(frames), lambda frame: frame[0] // PART)


def _work_folder(source: Path, target: Path, options: dict[str, str], resume: bool) -> Path:
    """Where parts lie: those of an earlier call with other options, or of another file, are thrown away."""
    work, status = target.with_name(f".{target.name}.parts"), source.stat()
    told, tale = work / "options.json", json.dumps([__version__, options, status.st_size, status.st_mtime_ns])
    if not (resume and told.is_file() and told.read_text() == tale):
        if work.exists():
            say([f"{target} is begun anew, {'since options differ' if resume else 'as without --resume'}."])
            shutil.rmtree(work)
        write_atomically(told, tale.encode())
    return work


def _save_faces(faces: Faces, file: Path) -> None:
    tensors = {name: getattr(faces, name).contiguous() for name in ARRAYS}
    write_atomically(file, safetensors.torch.save({**tensors, "frame": torch.tensor((*faces.size, faces.num_frames))}))


def _load_faces(file: Path) -> Faces:
    tensors = safetensors.torch.load_file(file)
    height, width, num_frames = tensors.pop("frame").tolist()
    return Faces(**tensors, size=(height, width), num_frames=num_frames)


def _report(target: Path, faces: Faces, losses: list[str], as_json: bool) -> None:
    with_faces = len(faces.frames.unique())
    said = f"faces restored in {with_faces} of {faces.num_frames} frames" if with_faces else "no face found"
    said = ", ".join((said, *losses))
    told = {"path": str(target), "frames": faces.num_frames, "frames_with_faces": with_faces, "report": said}
    output.print(json.dumps(told, ensure_ascii=False) if as_json else f"{target}: {said}", soft_wrap=True)
