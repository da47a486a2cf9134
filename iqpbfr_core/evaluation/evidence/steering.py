"""R1: the score steers quality."""

import numpy as np

from ...figure import labelled_grid, line_plot
from ..statistics import bootstrap, mean_interval, spearman
from .scene import Finding, Scene

TARGETS = np.linspace(0.1, 1.0, 10)
WANTED = 0.9
LOW, HIGH = 1, 9  # places of the qualities 0.2 and 1 among the targets
WANTED_RANGE = 0.35


def score_steers(scene: Scene) -> Finding:
    """Ask for ten qualities; the mean measured score must rise with them, on the objective and on a judge, and on the
    objective by enough to see."""
    images = [scene.restore(float(target)) for target in TARGETS]
    measured = {name: np.stack([scene.score(name, i) for i in images], 1) for name in scene.metrics}  # (B, targets)

    def along(values: np.ndarray) -> float:
        return spearman(TARGETS, np.nanmean(values, 0))

    head = ["metric", "role", "Spearman of target and mean score [95 %]", "mean at 0.2", "mean at 1", "gain"]
    table = [head]
    gains = {name: values[:, HIGH] - values[:, LOW] for name, values in measured.items()}
    for name, values in measured.items():
        low, high = bootstrap(values, along, scene.seed)
        role = "objective" if name == scene.objective else "judge"
        ends = [f"{np.nanmean(values[:, column]):.4f}" for column in (LOW, HIGH)]
        gain = mean_interval(gains[name], scene.seed)
        table.append([name, role, f"{along(values):.3f} [{low:.3f}, {high:.3f}]", *ends, gain])
    means = {name: np.nanmean(values, 0) for name, values in measured.items()}
    plot = line_plot(
        {name: (TARGETS.tolist(), (mean - mean[0]).tolist()) for name, mean in means.items()},
        "asked quality",
        "gain over 0.1",
    )
    shown = slice(0, 5)
    columns = (0, 3, 6, 9)
    grid = labelled_grid(
        [scene.lq[shown], *(images[c][shown] for c in columns), scene.gt[shown]],
        ["degraded", *(f"quality {TARGETS[c]:.1f}" for c in columns), "original"],
    )
    return Finding(
        claim="R1",
        statement=f"The asked quality steers the measured one: Spearman at least {WANTED} on the objective and on a judge, "
        f"and the objective is higher by at least {WANTED_RANGE} at quality 1 than at 0.2.",
        holds=along(measured[scene.objective]) >= WANTED
        and any(along(measured[name]) >= WANTED for name in scene.judges)
        and bool(np.nanmean(gains[scene.objective]) >= WANTED_RANGE),
        table=table,
        values={
            f"{name} at {target:.1f}": values[:, column]
            for name, values in measured.items()
            for column, target in enumerate(TARGETS)
        },
        pictures={"r1_curve.png": plot, "r1_faces.jpg": grid},
    )
