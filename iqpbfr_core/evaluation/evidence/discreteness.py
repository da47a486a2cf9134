"""R4: a search over codes does not over-optimise, however long it goes on; a continuous one does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...figure import labelled_grid, line_plot
from ...optimize import Progress, ascend_latent, optimize_codes
from ..measures import psnr
from ..spectrum import out_of_band
from ..statistics import mean_interval
from .scene import Finding, Scene, gain

BUDGETS = (10, 30, 100, 300)  # steps
WANTED = 0.8
NUM_JUDGES = 2
SEARCHES: dict[str, Callable[..., Any]] = {"discrete": optimize_codes, "continuous": ascend_latent}


def discrete_resists(scene: Scene) -> Finding:
    """Run both searches at their defaults for ever longer; compare what the objective does not see."""
    results = {("start", 0): scene.at_defaults(scene.lq)}
    for kind in SEARCHES:
        for budget, images in _search(scene, kind).items():
            results[kind, budget] = images
    measured = {key: _measure(scene, images) for key, images in results.items()}
    measures = list(measured["start", 0])
    table = [["", "steps", *measures]]
    for (kind, budget), values in measured.items():
        table.append([kind, str(budget), *(mean_interval(values[name], scene.seed) for name in measures)])
    longest = BUDGETS[-1]
    shares = share_better(measured["discrete", longest], measured["continuous", longest])
    table.append(
        ["discrete is better than continuous on", str(longest), *(f"{shares[n]:.0%} of faces" for n in measures)]
    )
    clear = [name for name in scene.judges if shares[name] >= WANTED]
    changes = {n: gain(n, measured["discrete", longest][n], measured["start", 0][n]) for n in scene.judges}
    worse = [name for name, change in changes.items() if np.nanmean(change) < 0]
    shown = slice(0, 5)
    rows = {"start": results["start", 0], **{kind: results[kind, longest] for kind in SEARCHES}}
    return Finding(
        claim="R4",
        statement=f"After {longest} steps the discrete result is better than the continuous one on at least {WANTED:.0%} of "
        f"the faces by at least {NUM_JUDGES} judges, and on the mean not worse than its own start by any of them.",
        holds=len(clear) >= NUM_JUDGES and not worse,
        table=table,
        values={f"{k} {b}: {name}": v for (k, b), by in measured.items() for name, v in by.items()},
        pictures={
            **{f"r4_{_file_name(name)}.png": _curves(measured, name) for name in measures},
            "r4_faces.jpg": labelled_grid(
                [scene.lq[shown], *(images[shown] for images in rows.values()), scene.gt[shown]],
                ["degraded", "start", *(f"{kind}, {longest} steps" for kind in SEARCHES), "original"],
            ),
        },
        notes=f"Judges on which the discrete result clearly wins: {', '.join(clear) or 'none'}; on which it is worse than "
        f"its start: {', '.join(worse) or 'none'}. Out-of-band energy is a multiple of the original's own (1 = the same); "
        "less is better here.",
    )


def _search(scene: Scene, kind: str) -> dict[int, Tensor]:
    """Budget -> the best faces that were found within it, in one run of the longest."""
    restorer, metric = scene.restorer, scene.metrics[scene.objective]
    found: dict[int, list[Tensor]] = {budget: [] for budget in BUDGETS}
    num_chunks = len(scene.chunks())

    def keep(progress: Progress) -> None:
        scene.tell(
            f"{kind} search", len(found[BUDGETS[-1]]) * progress.total + progress.done, num_chunks * progress.total
        )
        if progress.done - 1 in found:  # the first evaluation is the start
            found[progress.done - 1].append(progress.images.cpu().clone())

    for faces in scene.chunks():
        with torch.no_grad():
            features = restorer.encode(scene.lq[faces])
            codes = restorer.lookup(features, 1.0)
        SEARCHES[kind](restorer, codes, features, metric, BUDGETS[-1], fidelity=restorer.config.fidelity, callback=keep)
    return {budget: torch.cat(parts) for budget, parts in found.items()}


def _curves(measured: dict[tuple[str, int], dict[str, np.ndarray]], name: str) -> Tensor:
    start = float(np.nanmean(measured["start", 0][name]))
    lines = {}
    for kind in SEARCHES:
        means = [float(np.nanmean(measured[kind, budget][name])) for budget in BUDGETS]
        lines[kind] = ([0, *BUDGETS], [start, *means])
    return line_plot(lines, "steps", name)


def _measure(scene: Scene, images: Tensor) -> dict[str, np.ndarray]:
    """Name -> one value per face."""
    values = {name: scene.score(name, images) for name in scene.metrics}
    values["out-of-band energy"] = out_of_band(images, scene.gt).numpy()
    values["PSNR dB"] = np.array([psnr(i, r) for i, r in zip(images, scene.gt, strict=True)])
    if scene.landmarks is not None:
        values["landmark error px"] = scene.landmarks.error(images, scene.gt)
    if scene.identity is not None:
        values["identity distance"] = scene.identity.distance(images, scene.gt).numpy()
    return values


def share_better(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """Measure -> share of faces on which the first is better."""
    shares = {}
    for name in ours:
        gains = gain(name, ours[name], theirs[name])
        shares[name] = float((gains[np.isfinite(gains)] > 0).mean()) if np.isfinite(gains).any() else 0.0
    return shares


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
