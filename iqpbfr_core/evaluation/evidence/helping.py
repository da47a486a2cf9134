"""R6: a restorer helps the person in the picture."""

import numpy as np

from ...degradation import degrade
from ...errors import InputError
from ...figure import labelled_grid
from ..measures import psnr
from ..statistics import mean_interval
from .scene import Finding, Scene

PRESETS = ("moderate", "heavy")
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
    holds, shown, labels = True, [], []
    for preset in PRESETS:
        lq = degrade(scene.gt, preset, scene.seed)
        pictures = {"degraded": lq, "restored": scene.at_defaults(lq)}
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
        shown += [images[:6] for images in pictures.values()]
        labels += [f"{preset}, {kind}" for kind in pictures]
    return Finding(
        claim="R6",
        statement="At the model's defaults, identity distance to the original is no more than the degraded input's, and "
        f"perceptual distance at most {MOST:.0%} of it, on moderate and on heavy degradation.",
        holds=bool(holds),
        table=table,
        values=values,
        pictures={"r6_faces.jpg": labelled_grid([*shown, scene.gt[:6]], [*labels, "original"])},
        notes="Identity: L2 distance of a face recogniser's embeddings. Perceptual: distance of a face detector's "
        "features. Neither network was used in training.",
    )
