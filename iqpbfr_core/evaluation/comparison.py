"""Many restorers on the same faces, measured alike; a comparison that was stopped goes on where it was.

Everything is kept in one folder: `faces/NAME/` has what each entrant made, `scores/NAME.csv` a row per face. What is
measured is the file as it was written, eight bits a channel, for everybody.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..degradation import degrade
from ..errors import InputError
from ..image import read_image, resize, write_atomically, write_image
from ..restorer import Restorer, Settings
from .measures import Measure, measure_faces

DEGRADED, ORIGINAL = "degraded", "original"
SETTINGS = "settings.json"
Scores = dict[str, dict[str, float]]  # face -> measure -> value, of one entrant


@dataclass(frozen=True)
class Case:
    """One face: its name, the original where there is one, and the degraded one where it is given."""

    name: str
    original: Path | None
    degraded: Path | None


def pair(originals: Sequence[Path], degraded: Sequence[Path]) -> list[Case]:
    """Cases of files with equal names; InputError names those that have no partner, unless one side is empty."""
    sides = [_by_name(files) for files in (originals, degraded)]
    if all(sides) and sides[0].keys() != sides[1].keys():
        lonely = sorted(sides[0].keys() ^ sides[1].keys())
        raise InputError(
            f"{len(lonely)} faces are in one folder only ({', '.join(lonely[:3])}{' ...' if len(lonely) > 3 else ''}): originals "
            "and degraded faces must have the same file names."
        )
    return [Case(name, sides[0].get(name), sides[1].get(name)) for name in sorted(sides[0] or sides[1])]


def _by_name(files: Sequence[Path]) -> dict[str, Path]:
    named = {file.stem: file for file in files}
    if len(named) < len(files):
        twice = next(file for file in files if named[file.stem] != file)
        raise InputError(f"{twice} and {named[twice.stem]} have the same name; keep one of them.")
    return named


class Entrant(Protocol):
    """Somebody who restores."""

    @property
    def name(self) -> str:
        """A folder's name, too."""
        ...

    def restore(self, lq: Tensor, cases: Sequence[Case]) -> Tensor:
        """(B, 3, R, R) in [0, 1] of these cases -> the same shape."""
        ...


@dataclass(frozen=True)
class Model:
    """One of our restorers at some settings."""

    name: str
    restorer: Restorer
    settings: Settings

    def restore(self, lq: Tensor, cases: Sequence[Case]) -> Tensor:
        side, given = self.restorer.config.resolution, lq.shape[-1]
        with torch.inference_mode():
            made = self.restorer.restore(
                resize(lq, (side, side)), self.settings.quality, self.settings.fidelity, adain=self.settings.adain
            )
        return resize(made.float().cpu(), (given, given)).clamp(0, 1)


@dataclass(frozen=True)
class Results:
    """Somebody else's results: a folder with a picture per face."""

    name: str
    files: dict[str, Path]

    def restore(self, lq: Tensor, cases: Sequence[Case]) -> Tensor:
        images = []
        for case, degraded in zip(cases, lq, strict=True):
            if case.name not in self.files:
                raise InputError(f"{self.name} has no result for {case.name}.")
            image = read_image(self.files[case.name])[0, :3]
            if image.shape != degraded.shape:
                raise InputError(
                    f"{self.files[case.name]} is {image.shape[2]}x{image.shape[1]}, the faces compared are "
                    f"{degraded.shape[2]}x{degraded.shape[1]}: all must be of one size."
                )
            images.append(image)
        return torch.stack(images)


def compare(
    cases: list[Case],
    entrants: Sequence[Entrant],
    measures: list[Measure],
    folder: Path,
    side: int,
    preset: str = "full",
    seed: int = 0,
    batch_size: int = 8,
    progress: Callable[[Sequence[int], str], Iterable[int]] = lambda starts, _: starts,
) -> dict[str, Scores]:
    """Restore and measure whatever `folder` does not hold yet; return the scores of all, the input's and originals' too.

    Args:
        side: of the faces in pixels; pictures of another size are refused.
        preset, seed: degradation of originals without a degraded face; the seed counts up from face to face.
    """
    everybody: list[Entrant | None] = [None, *entrants]
    names = [DEGRADED, *(entrant.name for entrant in entrants)]
    if any(case.original for case in cases):
        names, everybody = [*names, ORIGINAL], [*everybody, None]
    if len(set(names)) < len(names):
        raise InputError(f"two entrants have one name: {', '.join(names)}. Rename a file or folder.")
    found = {}
    for name, entrant in zip(names, everybody, strict=True):
        file = folder / "scores" / f"{name}.csv"
        scores = _read(file, measures)
        starts = range(0, len(cases), batch_size)
        left = [s for s in starts if any(case.name not in scores for case in cases[s : s + batch_size])]
        for start in progress(left, name):
            batch = cases[start : start + batch_size]
            originals = _originals(batch, side)
            lq = _degraded(batch, originals, preset, seed + start, side)
            if entrant is not None:
                made = entrant.restore(lq, batch)
            else:
                made = lq if name == DEGRADED or originals is None else originals
            made = _kept(made, [folder / "faces" / name / f"{case.name}.png" for case in batch])
            values = measure_faces(measures, made, originals)
            for number, case in enumerate(batch):
                scores[case.name] = {measure: value[number] for measure, value in values.items()}
            _write(file, scores, measures)
        found[name] = scores
    return found


def check_settings(folder: Path, settings: dict[str, object]) -> None:
    """Remember what a comparison is made of; InputError if the folder holds one that was made otherwise."""
    file = folder / SETTINGS
    if file.exists():
        before = json.loads(file.read_text())
        changed = [name for name, value in settings.items() if before.get(name) != value]
        if changed:
            raise InputError(
                f"{folder} holds a comparison with another {', '.join(changed)} ({before.get(changed[0])!r}, now "
                f"{settings[changed[0]]!r}). Use another -o, or give it what it was begun with."
            )
    write_atomically(file, json.dumps(settings, indent=2).encode())


def _originals(batch: list[Case], side: int) -> Tensor | None:
    files = [case.original for case in batch]
    return torch.cat([_read_face(file, side) for file in files if file]) if all(files) else None


def _degraded(batch: list[Case], originals: Tensor | None, preset: str, seed: int, side: int) -> Tensor:
    files = [case.degraded for case in batch]
    if all(files):
        return torch.cat([_read_face(file, side) for file in files if file])
    assert originals is not None
    return degrade(originals, preset, seed)


def _read_face(file: Path, side: int) -> Tensor:
    image = read_image(file)[:, :3]
    if image.shape[2:] != (side, side):
        raise InputError(
            f"{file} is {image.shape[3]}x{image.shape[2]}, the first face {side}x{side}: all must be alike."
        )
    return image


def _kept(images: Tensor, files: list[Path]) -> Tensor:
    """Write the pictures, and give what a reader of the files sees."""
    for image, file in zip(images, files, strict=True):
        write_image(image, file)
    return torch.cat([read_image(file) for file in files])


def _read(file: Path, measures: list[Measure]) -> Scores:
    if not file.exists():
        return {}
    rows = list(csv.reader(io.StringIO(file.read_text())))
    if not rows or rows[0][1:] != [measure.name for measure in measures]:
        raise InputError(f"{file} holds other measures ({', '.join(rows[0][1:]) if rows else 'none'}); use another -o.")
    return {row[0]: {m.name: float(v) for m, v in zip(measures, row[1:], strict=True)} for row in rows[1:]}


def _write(file: Path, scores: Scores, measures: list[Measure]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["face", *(measure.name for measure in measures)])
    writer.writerows([name, *(f"{v:.6g}" for v in values.values())] for name, values in sorted(scores.items()))
    write_atomically(file, table.getvalue().encode())


def column(scores: Scores, measure: str) -> np.ndarray:
    """A measure's values over all faces."""
    return np.array([values[measure] for _, values in sorted(scores.items())])
