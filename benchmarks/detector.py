"""What face detectors find, side by side on the same pictures.

    python benchmarks/detector.py --photos PHOTOS --faces FACES [--faces MORE] [--detector builtin] [--detector FILE]

PHOTOS holds photos.json (file, faces with landmarks, eye_dist_px and main) and its pictures. FACES hold an index.csv as
`iqpbfr train detector` reads it; scenes are composed of its test split. Pictures without a face are scikit-image's. None
of these may have been trained on.

A face is found if its five landmarks are off by less than half its eye distance on the mean.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from iqpbfr_core import load_detector
from iqpbfr_core.degradation import apply, draw
from iqpbfr_core.faces.detection import Detector
from iqpbfr_core.image import read_image
from iqpbfr_core.training.scenes import SceneRecipe, Scenes, read_portraits

# Not among them: coins.png, whose coins show heads, and those that training takes as backgrounds.
NO_FACE = (
    "brick.png", "chelsea.png", "clock_motion.png", "coffee.png", "gravel.png", "horse.png", "moon.png",
    "motorcycle_left.png", "page.png", "rocket.jpg",
)  # fmt: skip
SEEDS = range(4)  # degradations of every photo
CROP_PER_EYE_DISTANCE = 4.07  # side of the aligned crop
SCENE_SIZE = 640


@dataclass
class Tally:
    """What was found on a set of pictures."""

    pictures: int = 0
    faces: int = 0
    found: int = 0
    false: int = 0
    errors: list[float] = field(default_factory=list)  # of landmarks, in eye distances

    def add(self, detector: Detector, image: Tensor, wanted: Tensor, known: Tensor) -> None:
        """Count the faces (n, 5, 2) that must be found; finding a `known` one is not false either."""
        found = detector(image).landmarks
        self.pictures += 1
        self.faces += len(wanted)
        for face in wanted:
            error = float(_distances(found, face).min(initial=np.inf))
            self.found += error < 0.5
            self.errors += [error] if error < 0.5 else []
        self.false += sum(_distances(known, face).min(initial=np.inf) >= 0.5 for face in found)

    @property
    def share(self) -> str:
        return f"{self.found} of {self.faces} ({self.found / max(1, self.faces):.0%})"

    @property
    def false_per_ten(self) -> str:
        return f"{10 * self.false / max(1, self.pictures):.1f}"

    def error(self, quantile: float) -> str:
        return f"{np.quantile(self.errors, quantile):.1%}" if self.errors else "-"


def _distances(faces: Tensor, face: Tensor) -> np.ndarray:
    """Mean landmark distance of each of (n, 5, 2) to one face (5, 2), in that face's eye distances."""
    return ((faces - face).norm(dim=2).mean(1) / (face[1] - face[0]).norm()).numpy()


def photos(folder: Path) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(image, landmarks of the main faces, landmarks of all faces) of every photo."""
    for entry in json.loads((folder / "photos.json").read_text()):
        landmarks = torch.tensor([face["landmarks"] for face in entry["faces"]])
        is_main = torch.tensor([face["main"] for face in entry["faces"]])
        yield read_image(folder / entry["file"]), landmarks[is_main], landmarks


def rows(detector: Detector, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Names and figures of one detector."""
    plain, face_sized, picture_sized = Tally(), Tally(), Tally()
    for image, main, known in track(list(photos(options.photos)), "photos", transient=True):
        plain.add(detector, image, main, known)
        eye_distance = float((main[:, 1] - main[:, 0]).norm(dim=1).mean())
        for tally, side in (
            (face_sized, round(eye_distance * CROP_PER_EYE_DISTANCE)),
            (picture_sized, min(image.shape[2:])),
        ):
            for seed in SEEDS:
                tally.add(detector, apply(image, [draw("full", seed, side)]), main, known)
    yield "photos: main faces", plain.share
    yield "photos: false faces per ten", plain.false_per_ten
    yield "photos: landmark error, median", plain.error(0.5)
    yield "photos: landmark error, 95 %", plain.error(0.95)
    yield "photos, their faces degraded `full`: main faces", face_sized.share
    yield "photos, degraded `full` as if they were a face: main faces", picture_sized.share

    portraits = [portrait for folder in options.faces for portrait in read_portraits(folder, "test")]
    for width in (32, 16):
        tally = Tally()
        scenes = Scenes(portraits, [], SceneRecipe(SCENE_SIZE, (width, width), wrecked=0), seed=1)
        for number in track(range(options.scenes), f"{width} px", transient=True):
            scene = scenes[number]
            tally.add(detector, scene.image[None], scene.landmarks[scene.is_visible], scene.landmarks)
        yield f"scenes: faces {width} px wide", tally.share
        yield f"scenes: false faces per ten ({width} px)", tally.false_per_ten

    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    tally, none = Tally(), torch.empty(0, 5, 2)
    for name in NO_FACE:
        tally.add(detector, read_image(Path(spec.origin).parent / "data" / name), none, none)
    yield "ten pictures without a face: faces found", str(tally.false)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--faces", type=Path, required=True, action="append")
    parser.add_argument("--detector", action="append", help="name or weight file; may be given several times")
    parser.add_argument("--scenes", type=int, default=60, help="composed scenes per face width")
    options = parser.parse_args()
    names = options.detector or ["builtin"]
    columns = [dict(rows(load_detector(name), options)) for name in names]
    table = Table("figure", *(Path(name).name for name in names))
    for figure in columns[0]:
        table.add_row(figure, *(column[figure] for column in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
