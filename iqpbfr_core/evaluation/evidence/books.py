"""R3: two codebooks beat one of as many codes."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...config import RestorerConfig
from ...errors import InputError
from ...figure import labelled_grid
from ...restorer import Restorer
from ..measures import psnr, ssim
from ..statistics import bootstrap, mean_interval
from .scene import Finding, Scene, gain

HQ_SHARE = 0.75  # of the originals, the best by the objective: the faces of high quality
_TO_ORIGINAL = "perceptual distance to HQ+ originals"


def two_books_beat_one(scene: Scene) -> Finding:
    """Against a rival with one codebook, the objective at quality 1 must be higher and the distance to faces of high
    quality smaller, PSNR and SSIM not clearly worse. Rivals with two codebooks are shown beside."""
    if scene.likeness is None or not scene.rivals:
        raise InputError(
            "R3 compares --model with at least one --rival, and needs a detector as judge: give --landmarks, or a folder "
            "--weights with retinaface_mobile0.25_relu.pth."
        )
    _check(scene)
    originals = scene.score(scene.objective, scene.gt)
    is_hq = originals >= np.nanquantile(originals, 1 - HQ_SHARE)
    contenders = {_name(restorer.config): restorer for restorer in (scene.restorer, *scene.rivals)}
    ours, *theirs = contenders
    images = {name: replace(scene, restorer=restorer).restore(1.0) for name, restorer in contenders.items()}
    measured = {name: _measure(scene, faces, is_hq) for name, faces in images.items()}
    table = [["at quality 1, fidelity 0", *measured[ours]]]
    for name, values in measured.items():
        table.append([name, *(mean_interval(v, scene.seed) for v in values.values())])
    beaten = []
    for name in theirs:
        gains = {key: gain(key, measured[ours][key], measured[name][key]) for key in measured[name]}
        table.append([f"gain over {name}", *(mean_interval(v, scene.seed) for v in gains.values())])
        if contenders[name].config.num_books == 1:
            better = all(np.nanmean(gains[key]) > 0 for key in (scene.objective, _TO_ORIGINAL))
            beaten.append(better and all(_is_kept(gains[key], scene.seed) for key in ("PSNR dB", "SSIM")))
    shown = slice(0, 5)
    rows = {"degraded": scene.lq, **images, "original": scene.gt}
    return Finding(
        claim="R3",
        statement="With two codebooks, outputs at quality 1 score higher and are nearer to faces of high quality than with "
        "one of as many codes and parameters, trained alike; PSNR and SSIM are not clearly lower.",
        holds=bool(beaten) and all(beaten),
        table=table,
        values={f"{name}: {key}": v for name, by in measured.items() for key, v in by.items()},
        pictures={"r3_faces.jpg": labelled_grid([faces[shown] for faces in rows.values()], list(rows))},
        notes=f"Gains are positive where {ours} is better. HQ+ originals: the best {HQ_SHARE:.0%} by the objective.",
    )


def _check(scene: Scene) -> None:
    """Only models of equal size, codes and resolution, each with other codebooks, show what two of them are good for."""
    if scene.restorer.config.num_books != 2:
        raise InputError("R3 is about two codebooks: give a --model with two.")
    size = _size(scene.restorer)
    for rival in scene.rivals:
        if _size(rival) != size:
            raise InputError(f"R3 compares equals: --model has {size}, a --rival {_size(rival)}.")
    names = [_name(restorer.config) for restorer in (scene.restorer, *scene.rivals)]
    if len(set(names)) < len(names):
        raise InputError(f"R3 compares one model of each kind, got {'; '.join(names)}.")


def _size(restorer: Restorer) -> str:
    config, size = restorer.config, sum(weights.numel() for weights in restorer.network.parameters())
    return f"{config.num_codes + config.num_hq_codes} codes and {size / 1e6:.1f} M parameters at {config.resolution} px"


def _name(config: RestorerConfig) -> str:
    if config.num_books == 1:
        return f"one book of {config.num_codes}"
    return f"two of {config.num_codes}, HQ+ of {'what is left over' if config.residual_hq else 'the features'}"


@torch.no_grad()
def _measure(scene: Scene, images: Tensor, is_hq: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> one value per face; of originals that are not of high quality there is no distance."""
    assert scene.likeness is not None
    pairs = list(zip(images, scene.gt, strict=True))
    return {
        **{name: scene.score(name, images) for name in scene.metrics},
        _TO_ORIGINAL: np.where(is_hq, scene.likeness.distance(images, scene.gt).numpy(), np.nan),
        "PSNR dB": np.array([psnr(*pair) for pair in pairs]),
        "SSIM": np.array([ssim(*pair) for pair in pairs]),
    }


def _is_kept(gains: np.ndarray, seed: int) -> bool:
    """Whether zero lies within the interval of the mean gain, or below it."""
    return bootstrap(gains, lambda drawn: float(drawn.mean()), seed)[1] >= 0
