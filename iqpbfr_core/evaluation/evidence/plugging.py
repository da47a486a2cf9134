"""R5: plug-and-play: a score adapter raises quality on a restorer that was trained without a score."""

from dataclasses import replace

import numpy as np

from ...errors import InputError
from ...figure import labelled_grid
from ..benchmark import psnr
from ..statistics import bootstrap, mean_interval
from .scene import Finding, Scene

QUALITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
WANTED = 0.05


def plugs_in(scene: Scene) -> Finding:
    """With the adapter at quality 1 the objective and a judge must be higher than without it, and identity and PSNR
    must lie within the interval of the base's own or be better."""
    if scene.adapter is None or scene.identity is None:
        raise InputError(
            "R5 needs a score adapter of the model, and a face recogniser as judge: give --adapter, and --identity or a "
            "folder --weights with face_embedding.ts."
        )
    adapted = replace(scene, restorer=scene.adapter.attach(scene.restorer))
    base = "without adapter"
    images = {base: scene.restore(None), **{f"quality {q:g}": adapted.restore(q) for q in QUALITIES}}
    best = f"quality {QUALITIES[-1]:g}"
    measured = {}
    for kind, faces in images.items():
        measured[kind] = {
            **{name: scene.score(name, faces) for name in scene.metrics},
            "identity distance": scene.identity.distance(faces, scene.gt).numpy(),
            "PSNR dB": np.array([psnr(i, r) for i, r in zip(faces, scene.gt, strict=True)]),
        }
    table = [["", *measured[base]]]
    for kind, values in measured.items():
        table.append([kind, *(mean_interval(v, scene.seed) for v in values.values())])
    change = {name: measured[best][name] - measured[base][name] for name in measured[base]}
    table.append([f"{best}: change", *(mean_interval(v, scene.seed) for v in change.values())])

    def interval(name: str) -> tuple[float, float]:
        return bootstrap(measured[base][name], lambda drawn: float(drawn.mean()), scene.seed)

    is_kept = (
        measured[best]["PSNR dB"].mean() >= interval("PSNR dB")[0]
        and measured[best]["identity distance"].mean() <= interval("identity distance")[1]
    )
    shown = slice(0, 5)
    rows = {"degraded": scene.lq, **images, "original": scene.gt}
    return Finding(
        claim="R5",
        statement=f"A score adapter raises the objective of a restorer trained without a score by at least {WANTED} at quality "
        "1, a judge too, and keeps identity and PSNR within the interval of the restorer's own.",
        holds=bool(
            np.nanmean(change[scene.objective]) >= WANTED
            and any(np.nanmean(change[name]) > 0 for name in scene.judges)
            and is_kept
        ),
        table=table,
        values={f"{kind}: {name}": v for kind, by in measured.items() for name, v in by.items()},
        pictures={"r5_faces.jpg": labelled_grid([faces[shown] for faces in rows.values()], list(rows))},
        notes=f"Fidelity 0 throughout. The adapter: {scene.adapter.card.recipe or 'untrained'}.",
    )
