"""Scenes with known faces, composed of portraits: what `iqpbfr train detector` learns from.

Scene n is a pure function of (pictures, recipe, seed, n). Faces are cut out softly, or hang there as prints, on
backgrounds without faces; things that are no faces are cut out in the same ways, so that no edge gives a face away.
"""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..degradation import Degradation
from ..degradation import draw as draw_degradation
from ..errors import InputError
from ..faces.alignment import TEMPLATE
from ..faces.detection import Detector
from ..image import open_image, read_image, write_atomically
from . import ageing, cutouts, textures

_POINTS = ("le", "re", "no", "ml", "mr")  # columns of an index.csv, each with _x and _y
_OUTLINE = (0.5, 0.55, 0.53, 0.74)  # centre, width and height of an upright face, in sides of its aligned crop
_TURN = 0.33  # how far the outline moves away from the nose, in crops, per eye distance the nose is off the middle
LEAST_LEFT = 6.0  # pixels of a face's width that must survive a degradation for it to count


@dataclass(frozen=True)
class Portrait:
    """A picture of one face: its five landmarks (5, 2) in pixels, and whether it shows more than an aligned crop."""

    file: Path
    landmarks: np.ndarray
    is_whole: bool = False


@dataclass(frozen=True)
class Scene:
    """A picture (3, S, S) in [0, 1] and its faces.

    Attributes:
        boxes: (N, 4) and `landmarks` (N, 5, 2), in pixels.
        is_visible: (N,) False for faces so hidden or blurred that finding them is neither right nor wrong.
    """

    image: Tensor
    boxes: Tensor
    landmarks: Tensor
    is_visible: Tensor


@dataclass(frozen=True)
class SceneRecipe:
    """What scenes are like: `size` in pixels, range of face widths, share of scenes degraded beyond everyday."""

    size: int = 256
    widths: tuple[float, float] = (8, 256)
    wrecked: float = 0.25


def read_portraits(folder: Path, split: str) -> list[Portrait]:
    """The aligned crops of one split that `folder/index.csv` lists with their landmarks."""
    try:
        with open(folder / "index.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        portraits = [Portrait(folder / row["file"], _landmarks_of(row)) for row in rows]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{folder / 'index.csv'} must list file, split and landmarks ({', '.join(p + '_x' for p in _POINTS)}, "
            f"and _y) in pixels ({error!r})."
        ) from error
    if not portraits:
        raise InputError(f"{folder / 'index.csv'} lists no picture of the split {split!r}.")
    return portraits


def read_whole_portraits(folder: Path, split: str, detector: Detector, notes: Path) -> list[Portrait]:
    """The uncropped pictures `folder/index.csv` names in a column `whole`, where `detector` sees one face in them.

    What was seen is written to the file `notes`, and read from there the next time.
    """
    with open(folder / "index.csv", newline="") as file:
        names = sorted({row["whole"] for row in csv.DictReader(file) if row["split"] == split and row.get("whole")})
    if not notes.exists():
        # Large faces are surest when the picture is small.
        seen = {name: detector(read_image(folder / name), min_size=40, size=400, detail=0).landmarks for name in names}
        write_atomically(notes, json.dumps({name: faces.tolist() for name, faces in seen.items()}).encode())
    known = {name: np.array(faces) for name, faces in json.loads(notes.read_text()).items()}
    return [Portrait(folder / name, known[name][0], is_whole=True) for name in names if len(known[name]) == 1]


def _landmarks_of(row: dict[str, str]) -> np.ndarray:
    return np.array([[float(row[f"{point}_{axis}"]) for axis in "xy"] for point in _POINTS])


def mirrored(landmarks: np.ndarray, width: float) -> np.ndarray:
    """Landmarks (5, 2) in a mirrored picture: left and right change their names, too."""
    return (landmarks * (-1, 1) + (width, 0))[[1, 0, 2, 4, 3]]


def face_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) around faces whose landmarks (N, 5, 2) are known: around an ellipse that is as a face is turned."""
    template, points = _complex(TEMPLATE.numpy()), _complex(landmarks)
    centred = template - template.mean()
    a = ((points - points.mean(1, keepdims=True)) * centred.conj()).sum(1) / (np.abs(centred) ** 2).sum()
    b = points.mean(1) - a * template.mean()
    left, right, nose = ((points - b[:, None]) / a[:, None]).real.T[:3]
    off_middle = ((nose - (left + right) / 2) / np.maximum(right - left, 0.01)).clip(-1, 1)
    x, y, width, height = _OUTLINE
    middle = a * (x - _TURN * off_middle + 1j * y) + b
    half_width = np.hypot(a.real * width, a.imag * height) / 2
    half_height = np.hypot(a.imag * width, a.real * height) / 2
    corners = (middle.real - half_width, middle.imag - half_height, middle.real + half_width, middle.imag + half_height)
    return np.stack(corners, 1)


def _complex(points: np.ndarray) -> np.ndarray:
    return points[..., 0] + 1j * points[..., 1]


@lru_cache(maxsize=4096)
def read_picture(file: Path) -> Image.Image:
    """In RGB; it must not be changed."""
    with open_image(file) as picture:
        return picture.convert("RGB")


@dataclass
class _Canvas:
    """The scene as it grows: later things hide earlier ones."""

    picture: Image.Image
    landmarks: list[np.ndarray] = field(default_factory=list)
    is_hidden: list[np.ndarray] = field(default_factory=list)  # (5,) per face

    def paste(self, thing: Image.Image, corner: tuple[int, int], landmarks: np.ndarray | None = None) -> None:
        """Put an RGBA picture with its top left corner somewhere; `landmarks` (5, 2) in it, if it shows a face."""
        alpha = np.asarray(thing.getchannel("A"))
        for face, is_hidden in zip(self.landmarks, self.is_hidden, strict=True):
            x, y = (face - corner).astype(int).T
            is_here = (x >= 0) & (y >= 0) & (x < thing.width) & (y < thing.height)
            is_hidden |= is_here & (alpha[y.clip(0, thing.height - 1), x.clip(0, thing.width - 1)] > 127)
        self.picture.paste(thing, corner, thing)
        if landmarks is not None:
            placed = landmarks + corner
            self.landmarks.append(placed)
            self.is_hidden.append(np.any((placed < 0) | (placed >= self.picture.size), axis=1))


class Scenes:
    """Scene number n, for any n.

    Args:
        portraits: what faces are taken from.
        backdrops: pictures without faces; textures are always among the backgrounds.
        recipe: what scenes are like.
        seed: of all drawing.
    """

    def __init__(
        self, portraits: Sequence[Portrait], backdrops: Sequence[Path], recipe: SceneRecipe, seed: int = 0
    ) -> None:
        self.portraits, self.backdrops, self.recipe, self.seed = list(portraits), list(backdrops), recipe, seed

    def __getitem__(self, number: int) -> Scene:
        rng = np.random.default_rng((self.seed, number % 2**32))
        canvas = _Canvas(self.background(rng))
        for _ in range(rng.integers(0, 5)):
            self._add_thing(canvas, rng)
        kind = rng.random()
        if kind < 0.3:
            pass  # nobody there
        elif kind < 0.38:
            self._add_mosaic(canvas, rng)
        else:
            for width in self._widths(rng):
                self._add_face(canvas, width, rng)
        if rng.random() < 0.2:
            self._add_thing(canvas, rng)
        return self._finish(canvas, rng)

    def _widths(self, rng: np.random.Generator) -> list[float]:
        """Face widths of one scene: a portrait, or a group about equally far away, the large ones first."""
        low, high = self.recipe.widths
        typical = math.exp(rng.uniform(math.log(low), math.log(high)))
        room = int((self.recipe.size / (2 * typical)) ** 2)
        count = int(rng.integers(1, 1 + max(1, min(15, room))))
        return sorted((typical * rng.uniform(0.65, 1.5, count)).clip(low, high).tolist(), reverse=True)

    # What is behind, and what is no face

    def background(self, rng: np.random.Generator) -> Image.Image:
        """Something without a face, `size` pixels wide."""
        size, kind = self.recipe.size, rng.random()
        if kind < 0.35:
            picture = textures.texture(size, rng)
        elif kind < 0.65 or not self.backdrops:
            picture = self._patch(size, rng)
        else:
            picture = _random_crop(read_picture(self.backdrops[rng.integers(len(self.backdrops))]), size, rng)
        return _repeated(picture, int(rng.integers(2, 6))) if rng.random() < 0.25 else picture

    def _patch(self, size: int, rng: np.random.Generator) -> Image.Image:
        """A piece of a portrait beside or below its face, enlarged: walls, flags, suits, hair."""
        portrait = self.portraits[rng.integers(len(self.portraits))]
        picture = read_picture(portrait.file)
        width, height = picture.size
        left, top, right, bottom = (round(edge) for edge in _box(portrait.landmarks).tolist())
        chin = min(bottom + (bottom - top) // 12, height)
        areas = ((0, chin, width, height), (0, 0, left, height), (right, 0, width, height))
        areas = [area for area in areas if min(area[2] - area[0], area[3] - area[1]) >= 24]
        if not areas:
            return textures.texture(size, rng)
        area = areas[rng.integers(len(areas))]
        return _random_crop(picture.crop(area), size, rng)

    def _add_thing(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        """Something that is no face, cut out as faces are."""
        size = int(math.exp(rng.uniform(math.log(12), math.log(self.recipe.size))))
        kind = rng.random()
        if kind < 0.3:
            thing = textures.lump(size, rng)
        elif kind < 0.5:
            thing = textures.hand(size, rng)
        else:
            thing = self._patch(size, rng) if kind < 0.8 else textures.texture(size, rng)
            thing.putalpha(cutouts.head_mask(size, rng) if rng.random() < 0.6 else Image.new("L", thing.size, 255))
        thing = thing.rotate(rng.uniform(-45, 45), Image.Resampling.BILINEAR, expand=True)
        corner = rng.integers(-size // 2, self.recipe.size - size // 2, 2)
        canvas.paste(thing, (int(corner[0]), int(corner[1])))

    # Faces

    def _add_face(self, canvas: _Canvas, width: float, rng: np.random.Generator) -> None:
        """A face somewhere where it hides no other one much; nothing if there is no such place."""
        thing, landmarks = self._face(width, rng)
        box = _box(landmarks)
        taken = [_box(face) for face in canvas.landmarks]
        slack = 0.1 * width if rng.random() < 0.8 else 0.5 * width  # how far a face may reach out of the picture
        for _ in range(8):
            low, high = -slack, self.recipe.size + slack - (box[2:] - box[:2])
            if (high < low).any():
                low, high = np.minimum(low, high), np.maximum(low, high)
            corner = np.round(rng.uniform(low, high) - box[:2]).astype(int)
            if all(_share_covered(other, box + np.tile(corner, 2)) < 0.3 for other in taken):
                canvas.paste(thing, (int(corner[0]), int(corner[1])), landmarks)
                return

    def _add_mosaic(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        """Portraits side by side, as on a contact sheet or a wall."""
        low, high = self.recipe.widths
        cell = int(np.clip(2 * math.exp(rng.uniform(math.log(low), math.log(high))), 16, self.recipe.size / 2))
        gap = int(rng.integers(0, max(1, cell // 8) + 1))
        for top in range(0, self.recipe.size - cell + 1, cell + gap):
            for left in range(0, self.recipe.size - cell + 1, cell + gap):
                if rng.random() < 0.15 or len(canvas.landmarks) >= 40:
                    continue
                portrait = self.portraits[rng.integers(len(self.portraits))]
                picture = read_picture(portrait.file)
                side = min(picture.size)
                scale = cell / side
                print_ = picture.crop((0, 0, side, side)).resize((cell, cell), Image.Resampling.LANCZOS)
                print_.putalpha(255)
                canvas.paste(print_, (left, top), portrait.landmarks * scale)

    def _face(self, width: float, rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
        """A face `width` pixels wide as an RGBA cut-out, turned, perhaps in disguise, and its landmarks in it."""
        portrait = self.portraits[rng.integers(len(self.portraits))]
        picture, landmarks = read_picture(portrait.file), portrait.landmarks
        box = _box(landmarks)
        reduction = max(1, int((box[2] - box[0]) / (1.5 * width)))
        picture, landmarks = picture.reduce(reduction), landmarks / reduction
        if rng.random() < 0.5:
            picture = ImageOps.mirror(picture)
            landmarks = mirrored(landmarks, picture.width)
        if rng.random() < 0.2:
            picture = cutouts.disguise(picture, landmarks, rng)
        picture.putalpha(cutouts.cut(picture.size, _box(landmarks), portrait.is_whole, rng))
        roll = rng.normal(0, 10) if rng.random() < 0.7 else rng.uniform(-45, 45)
        picture, landmarks = _rotate(picture, landmarks, roll)
        box = _box(landmarks)
        scale = width / (box[2] - box[0])
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        landmarks = landmarks * (size[0] / picture.width, size[1] / picture.height)
        return picture.resize(size, Image.Resampling.BICUBIC), landmarks

    # Age

    def _finish(self, canvas: _Canvas, rng: np.random.Generator) -> Scene:
        picture = ageing.tint(canvas.picture, rng) if rng.random() < 0.7 else canvas.picture
        if rng.random() < 0.08:
            picture = ageing.scratch(picture, rng)
        landmarks = torch.from_numpy(np.array(canvas.landmarks).reshape(-1, 5, 2)).float()
        boxes = torch.from_numpy(face_boxes(landmarks.double().numpy())).float()
        widths = boxes[:, 2] - boxes[:, 0]
        degradation = ageing.mild(rng)
        if rng.random() < self.recipe.wrecked:
            sizes = widths.tolist() or [self.recipe.size / 4]
            degradation = wrecking(sizes[rng.integers(len(sizes))], rng)
        lost = pixels_lost(degradation)
        hidden = torch.tensor([int(points.sum()) for points in canvas.is_hidden], dtype=torch.long)
        is_there = hidden < 5
        is_visible = (hidden < 3) & (widths / lost >= LEAST_LEFT)
        image = ageing.degraded(picture, degradation)
        return Scene(image, boxes[is_there], landmarks[is_there], is_visible[is_there])


def wrecking(width: float, rng: np.random.Generator) -> Degradation:
    """For a face of this width in a picture what `full` is for an aligned one."""
    return draw_degradation("full", int(rng.integers(2**31)), max(16, round(width / _OUTLINE[2])))


def pixels_lost(degradation: Degradation) -> float:
    """How many pixels along a line become about one."""
    return max(degradation.downsample, 1.2 * max(degradation.sigma), 1.0)


def _box(landmarks: np.ndarray) -> np.ndarray:
    return face_boxes(landmarks[None])[0]


def _share_covered(box: np.ndarray, by: np.ndarray) -> float:
    shared = np.minimum(box[2:], by[2:]) - np.maximum(box[:2], by[:2])
    return float(shared.clip(0).prod() / (box[2:] - box[:2]).prod())


def _random_crop(picture: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """(size, size) from anywhere in a picture, at a random scale, mirrored or not."""
    side = min(picture.size) * rng.uniform(0.3, 1)
    left, top = rng.uniform(0, 1, 2) * (np.array(picture.size) - side)
    piece = picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return ImageOps.mirror(piece) if rng.random() < 0.5 else piece


def _repeated(picture: Image.Image, count: int) -> Image.Image:
    """The picture made small and mirrored side by side `count` times each way: the fine structures of far things."""
    side = math.ceil(picture.width / count)
    piece = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
    pair = np.concatenate((piece, piece[:, ::-1]), 1)
    block = np.concatenate((pair, pair[::-1]), 0)
    tiled = np.tile(block, (count // 2 + 1, count // 2 + 1, 1))
    return Image.fromarray(tiled[: picture.height, : picture.width])


def _rotate(picture: Image.Image, landmarks: np.ndarray, degrees: float) -> tuple[Image.Image, np.ndarray]:
    """Both turned counter-clockwise around the picture's centre, the picture growing as it must."""
    turned = picture.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    from_centre = landmarks - np.array(picture.size) / 2
    return turned, from_centre @ np.array(((cosine, -sine), (sine, cosine))) + np.array(turned.size) / 2
