"""R2: beyond the mean of the ground truth."""

import numpy as np

from ...figure import labelled_grid
from ...training.flaws import CLEAN_SHARE
from ..statistics import mean_interval
from .scene import Finding, Scene


def beyond_ground_truth(scene: Scene) -> Finding:
    """At quality 1 the mean score must exceed the imperfect ground truth's; without a score it must not."""
    has_null = scene.restorer.config.conditioning in ("adaln", "none")
    kinds = {"imperfect ground truth": scene.ground, "clean ground truth": scene.gt, "degraded": scene.lq}
    if has_null:
        kinds["restored, no score"] = scene.restore(None)
    kinds["restored, quality 1"] = scene.restore(1.0)
    scores = {name: {kind: scene.score(name, images) for kind, images in kinds.items()} for name in scene.metrics}
    table = [["", *scene.metrics]]
    for kind in kinds:
        table.append([kind, *(mean_interval(scores[name][kind], scene.seed) for name in scene.metrics)])
    for kind in ("restored, no score", "restored, quality 1"):
        if kind in kinds:
            gains = [scores[name][kind] - scores[name]["imperfect ground truth"] for name in scene.metrics]
            table.append([f"{kind}: gain over imperfect", *(mean_interval(gain, scene.seed) for gain in gains)])
    means = {kind: np.nanmean(values) for kind, values in scores[scene.objective].items()}
    ground = means["imperfect ground truth"]
    shown = slice(0, 5)
    return Finding(
        claim="R2",
        statement=f"At quality 1 outputs exceed the imperfect ground truth's mean {scene.objective} score; without a score they do not.",
        holds=bool(has_null and means["restored, quality 1"] > ground >= means["restored, no score"]),
        table=table,
        values={f"{name}: {kind}": values for name, by in scores.items() for kind, values in by.items()},
        pictures={"r2_faces.jpg": labelled_grid([images[shown] for images in kinds.values()], list(kinds))},
        notes=f"Imperfect: flawed as training targets are, {CLEAN_SHARE:.0%} of them not at all, the others evenly from hardly to almost wholly."
        + ("" if has_null else " This model has no null condition, so half of the claim cannot be tested."),
    )
