"""R6: a restorer helps the person in the picture."""

import numpy as np
from torch import Tensor

from ...degradation import degrade
from ...errors import InputError
from ...figure import labelled_grid
from ...image import resize
from ..measures import psnr
from ..statistics import mean_interval
from .scene import Finding, Scene

PRESETS = ("moderate", "heavy")
NUM_SHOWN = 16
PER_ROW = 8
SHOWN_SIDE = 192  # pixels
MOST = 0.8  # of the input's perceptual distance


def helps_the_person(scene: Scene) -> Finding:
    """At the defaults, identity distance to the original must be no more than the degraded input's, perceptual distance
    at most `MOST` of it."""
    if scene.identity is None or scene.likeness is None:
        raise InputError(
            "R6 needs a face recogniser and a detector as judges: give --identity and --landmarks, or a folder "
            "--weights with face_embedding.ts and retinaface_mobile0.25_relu.pth."
        )
    judges = {"identity": scene.identity.distance, "perceptual": scene.likeness.distance}
    table = [["degradation", "", "identity distance", "perceptual distance", "PSNR dB"]]
    values: dict[str, np.ndarray] = {}
    holds = True
    grids: dict[str, Tensor] = {}
    for preset in PRESETS:
        pictures = _restored(scene, preset, len(scene.gt))
        found = {
            kind: {name: distance(images, scene.gt).numpy() for name, distance in judges.items()}
            for kind, images in pictures.items()
        }
        for kind, images in pictures.items():
            found[kind]["PSNR dB"] = np.array([psnr(i, r) for i, r in zip(images, scene.gt, strict=True)])
            table.append([preset, kind, *(mean_interval(v, scene.seed) for v in found[kind].values())])
        change = {name: found["restored"][name] - found["degraded"][name] for name in found["restored"]}
        table.append([preset, "change", *(mean_interval(v, scene.seed) for v in change.values())])
        ratio = found["restored"]["perceptual"].mean() / found["degraded"]["perceptual"].mean()
        table.append([preset, "restored as a share of degraded", "", f"{ratio:.0%}", ""])
        holds = holds and change["identity"].mean() <= 0 and ratio <= MOST
        values |= {f"{preset}, {kind}: {name}": v for kind, by in found.items() for name, v in by.items()}
        grids[f"r6_{preset}.jpg"] = _grid(pictures, scene.gt)
    grids["r6_full.jpg"] = _grid(_restored(scene, "full", NUM_SHOWN), scene.gt)
    return Finding(
        claim="R6",
        statement="At the model's defaults, identity distance to the original is no more than the degraded input's, and "
        f"perceptual distance at most {MOST:.0%} of it, on moderate and on heavy degradation.",
        holds=bool(holds),
        table=table,
        values=values,
        pictures=grids,
        notes="Identity: L2 distance of a face recogniser's embeddings. Perceptual: distance of a face detector's "
        "features. Neither network was used in training.",
    )


def _restored(scene: Scene, preset: str, count: int) -> dict[str, Tensor]:
    """The first faces, degraded and restored."""
    lq = degrade(scene.gt[:count], preset, scene.seed)
    return {"degraded": lq, "restored": scene.at_defaults(lq)}


def _grid(pictures: dict[str, Tensor], originals: Tensor) -> Tensor:
    """The first NUM_SHOWN faces, each below its degraded picture and above its original."""
    kinds = {**pictures, "original": originals}
    kinds = {kind: resize(images[:NUM_SHOWN], (SHOWN_SIDE, SHOWN_SIDE)) for kind, images in kinds.items()}
    starts = range(0, len(kinds["original"]) // PER_ROW * PER_ROW or 1, PER_ROW)
    rows = [images[start : start + PER_ROW] for start in starts for images in kinds.values()]
    return labelled_grid(rows, [*kinds] * len(starts))
