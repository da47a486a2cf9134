"""iqpbfr benchmark"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import typer
from rich.progress import track

from .. import pyiqa_metrics
from ..degradation import Preset
from ..errors import InputError, MissingPackageError, WeightsNotFoundError
from ..evaluation.comparison import ORIGINAL, Entrant, Model, Results, check_settings, compare, pair
from ..evaluation.frechet import FID, FrechetDistance, read_statistics
from ..evaluation.landmarks import DenseLandmarks, FiveLandmarks
from ..evaluation.likeness import FeatureJudge, IdentityJudge
from ..evaluation.measures import (
    PSNR,
    SSIM,
    Measure,
    by_dense_landmarks,
    by_identity,
    by_landmarks,
    by_likeness,
    by_lpips,
    by_metric,
)
from ..evaluation.published import SETS, PublishedSet
from ..evaluation.report import Value, summarise, write_report
from ..faces.weights import FAN
from ..image import read_image
from ..quality import load_metric, weights_folder
from ..restorer import load_restorer
from ..training.data import list_images
from .console import FIDELITY_HELP, MAX_SEED, check_word, choose_device, errors, output, settle
from .evidence import RECOGNISER, RETINAFACE, judge_file

MEASURES = ("psnr", "ssim", "lpips", "fid", "identity", "perceptual", "lmd", "lmd98", "niqe", "piqe", "builtin")

_NEEDED = {
    "identity": "--identity",
    "perceptual": "--landmarks",
    "lmd": "--landmarks",
    "lmd98": "--dense-landmarks",
}


def benchmark(
    data: Path | None = typer.Option(None, help="Original faces, aligned: a folder, or one with a sub-folder test."),
    lq: Path | None = typer.Option(None, help="Degraded faces with the same file names; default: degrade --data."),
    out: Path = typer.Option(
        ..., "-o", "--out", help="Folder for faces, tables and index.html; called again, it goes on."
    ),
    restorer: list[str] = typer.Option([], help="'builtin' or a weight file; give the option once for each."),
    results: list[str] = typer.Option([], help="NAME=FOLDER: somebody else's results, files named as the faces."),
    measure: list[str] = typer.Option(
        list(MEASURES), help=f"{', '.join(MEASURES)}, or any no-reference metric of `iqpbfr metrics`; once for each."
    ),
    published: str | None = typer.Option(
        None, "--set", help=f"Check the count, and print what papers printed: {', '.join(s.name for s in SETS)}."
    ),
    preset: Preset = typer.Option("full", "--degradation", help="How --data is degraded."),
    quality: float = typer.Option(1.0, min=0, max=1),
    fidelity: float | None = typer.Option(None, min=0, max=1, help=FIDELITY_HELP),
    seed: int = typer.Option(0, min=0, max=MAX_SEED, help="Of degradation and intervals."),
    limit: int | None = typer.Option(None, min=1, help="Use only N faces, spread over all."),
    batch_size: int = typer.Option(8, min=1),
    weights: Path | None = typer.Option(
        None, help="Folder with the weights of metrics and judges; default: DATA/../weights, then pyiqa's cache."
    ),
    download: bool = typer.Option(False, "--download", help="Download missing weights of metrics, LPIPS and FID."),
    landmarks: Path | None = typer.Option(None, help=f"RetinaFace weights; default: {RETINAFACE} in --weights."),
    dense_landmarks: Path | None = typer.Option(
        None, help=f"Network for 98 landmarks; default: facexlib's {FAN.name} in --weights."
    ),
    identity: Path | None = typer.Option(
        None, help=f"Face recogniser (TorchScript); default: {RECOGNISER} in --weights."
    ),
    fid_statistics: Path | None = typer.Option(
        None, help="Statistics (.npz with mu and sigma) that FID compares with; default: those of the originals."
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda, mps."),
) -> None:
    """Compare restorers, and other people's results, on the same aligned faces."""
    if data is None and lq is None:
        raise InputError("there is nothing to restore: give --data, --lq or both.")
    if not restorer and not results:
        raise InputError("there is nobody to compare: give --restorer or --results, each as often as you like.")
    quoted = _published(published)
    cases = pair(list_images(data, "test") if data else [], list_images(lq, "test") if lq else [])
    if quoted is not None and len(cases) != quoted.count:
        errors.print(f"Note: {quoted.name} has {quoted.count} faces, here are {len(cases)}: not the set papers quote.")
    cases = cases[:: max(1, len(cases) // limit)][:limit] if limit else cases
    home = (data or lq or Path()).parent / "weights"
    folder = weights or (home if home.is_dir() else None)
    has_reference = data is not None or fid_statistics is not None
    chosen = choose_device(device)
    distance = _fid(folder, download, has_reference, chosen) if "fid" in measure else None
    reference = None if fid_statistics is None else read_statistics(fid_statistics)
    measures = _measures(
        [name for name in measure if name != "fid"],
        folder,
        download,
        judge_file(landmarks, folder, RETINAFACE),
        judge_file(dense_landmarks, folder, FAN.name),
        judge_file(identity, folder, RECOGNISER),
    )
    settings = {
        "data": str(data), "lq": str(lq), "degradation": preset, "seed": seed, "quality": quality, "fidelity": fidelity,
        "limit": limit, "batch size": batch_size,
    }  # fmt: skip
    check_settings(out, settings)
    first = cases[0].original or cases[0].degraded
    assert first is not None
    side = read_image(first).shape[-1]
    entrants: list[Entrant] = [_model(name, quality, fidelity, chosen) for name in restorer]
    entrants += [_results(text) for text in results]

    def progress(starts: Sequence[int], name: str) -> Iterable[int]:
        return track(starts, name, console=errors, transient=True, disable=not errors.is_terminal)

    found = compare(cases, entrants, measures, out, side, preset, seed, batch_size, progress)
    title = f"{len(cases)} faces of {side} px, " + (
        f"{preset} degradation, seed {seed}" if lq is None else f"degraded as in {lq.name}"
    )
    summary = summarise(found, measures, seed)
    if distance is not None:
        reference = reference or distance.statistics(out / "faces" / ORIGINAL)
        for name, cells in summary.items():
            if name == ORIGINAL and fid_statistics is None:
                cells[FID.name] = None  # of itself
            else:
                cells[FID.name] = Value(distance(out / "faces" / name, reference))
    write_report(out, title, found, summary, measures if distance is None else [*measures, FID], quoted)
    output.print((out / "table.md").read_text(), soft_wrap=True)
    output.print(str(out / "index.html"), soft_wrap=True)


def _published(name: str | None) -> PublishedSet | None:
    if name is None:
        return None
    known = {known.name: known for known in SETS}
    check_word("--set", name, known)
    return known[name]


def _fid(folder: Path | None, download: bool, has_reference: bool, device: torch.device) -> FrechetDistance | None:
    """None, and a word why, where it cannot be had."""
    if not has_reference:
        errors.print("fid is left out: it needs originals, or --fid-statistics FILE.")
        return None
    try:
        return FrechetDistance(folder or weights_folder(), download, device=device)
    except (MissingPackageError, WeightsNotFoundError) as error:
        errors.print(f"fid is left out: {error}")
    return None


def _measures(
    names: list[str],
    folder: Path | None,
    download: bool,
    detector: Path | None,
    aligner: Path | None,
    recogniser: Path | None,
) -> list[Measure]:
    """Those that can be had; the others are named."""
    own: dict[str, Callable[[], Measure]] = {
        "psnr": lambda: PSNR,
        "ssim": lambda: SSIM,
        "lpips": lambda: by_lpips(pyiqa_metrics.load_lpips(folder or weights_folder(), download)),
    }
    if recogniser is not None:
        own["identity"] = lambda: by_identity(IdentityJudge(recogniser))
    if detector is not None:
        own |= {
            "perceptual": lambda: by_likeness(FeatureJudge(detector)),
            "lmd": lambda: by_landmarks(FiveLandmarks(detector)),
        }
    if aligner is not None:
        own["lmd98"] = lambda: by_dense_landmarks(DenseLandmarks(aligner))
    measures = []
    for name in dict.fromkeys(names):
        if name not in own and name in _NEEDED:
            errors.print(f"{name} is left out: it needs {_NEEDED[name]} FILE, or that file in --weights.")
            continue
        try:
            measures.append(
                own[name]() if name in own else by_metric(name, load_metric(name, folder=folder, download=download))
            )
        except (MissingPackageError, WeightsNotFoundError) as error:
            errors.print(f"{name} is left out: {error}")
    if not measures:
        raise InputError("none of the measures can be had; see above.")
    return measures


def _model(name: str, quality: float, fidelity: float | None, device: torch.device) -> Model:
    restorer = load_restorer(name, device)
    return Model(name if name == "builtin" else Path(name).stem, restorer, settle(restorer, quality, fidelity, None))


def _results(text: str) -> Results:
    name, _, folder = text.partition("=")
    if not name or not Path(folder).is_dir() or Path(name).name != name:
        raise InputError(f"--results takes NAME=FOLDER with an existing folder, got {text!r}.")
    return Results(name, {file.stem: file for file in list_images(Path(folder))})
