"""iqpbfr evidence"""

import csv
import io
from pathlib import Path

import typer

from ..adapters import load_adapter
from ..errors import InputError, WeightsNotFoundError
from ..evaluation.evidence import CLAIMS, Finding, prepare
from ..evaluation.landmarks import FiveLandmarks
from ..evaluation.likeness import FeatureJudge, IdentityJudge
from ..image import write_atomically, write_image
from ..quality import Metric, load_metric
from ..restorer import load_restorer
from ..training.data import list_images
from .console import MAX_SEED, choose_device, errors, output, told_bar

JUDGES = ("niqe", "piqe")
RETINAFACE = "retinaface_mobile0.25_relu.pth"
RECOGNISER = "face_embedding.ts"


def evidence(
    claims: list[str] = typer.Argument(help=f"Any of {', '.join(name for name, _ in CLAIMS)}."),
    data: Path = typer.Option(..., help="Folder with a sub-folder per split, or with the faces themselves."),
    out: Path = typer.Option(Path("docs/evidence"), "-o", "--out", help="Folder for tables, values and pictures."),
    split: str | None = typer.Option(None, help="Sub-folder of --data; default: test, where there is one."),
    model: str = typer.Option("builtin", help="'builtin', or a weight file."),
    metric: str = typer.Option("builtin", help="What the model was trained with, and what is optimised."),
    judges: list[str] = typer.Option(list(JUDGES), help="Metrics that only judge; give the option once for each."),
    seed: int = typer.Option(0, min=0, max=MAX_SEED, help="Of degradation, flaws and intervals."),
    limit: int | None = typer.Option(None, min=1, help="Use only N faces, spread over the split."),
    weights: Path | None = typer.Option(
        None, help="Folder with the weights of metrics and judges; default: DATA/../weights, then pyiqa's cache."
    ),
    landmarks: Path | None = typer.Option(
        None, help=f"RetinaFace weights that judge landmarks and looks; default: {RETINAFACE} in --weights."
    ),
    identity: Path | None = typer.Option(
        None, help=f"Face recogniser (TorchScript) that judges identity; default: {RECOGNISER} in --weights."
    ),
    device: str = typer.Option("auto"),
    adapter: Path | None = typer.Option(None, help="Score adapter of --model, which R5 is about."),
    rival: list[Path] = typer.Option(
        [],
        help="Weight file of a model trained as --model was, which R3 compares it with; give the option once for each.",
    ),
) -> None:
    """Recompute the claims of the method on held-out faces, with 95 % bootstrap intervals over faces."""
    known = dict(CLAIMS)
    unknown = [claim for claim in claims if claim not in known]
    if unknown:
        raise InputError(f"unknown claim {unknown[0]!r}; there are {', '.join(known)}.")
    if metric in judges:
        raise InputError(f"{metric} cannot judge what was optimised for it; choose other --judges.")
    files = list_images(data / split) if split else list_images(data, "test")
    files = files[:: max(1, len(files) // limit)][:limit] if limit else files
    folder = weights or (data.parent / "weights" if (data.parent / "weights").is_dir() else None)
    where = choose_device(device)
    restorer = load_restorer(model, where)
    metrics: dict[str, Metric] = {metric: load_metric(metric, where, folder)}
    for name in judges:
        try:
            metrics[name] = load_metric(name, where, folder)
        except WeightsNotFoundError as error:
            errors.print(f"{name} is left out: {error}")
    detector, recogniser = judge_file(landmarks, folder, RETINAFACE), judge_file(identity, folder, RECOGNISER)
    setting = f"{len(files)} faces of `{split or 'test'}`, model `{model}`, metric {metric}, seed {seed}"
    with told_bar() as tell:
        scene = prepare(
            restorer,
            files,
            metrics,
            metric,
            seed,
            landmarks=FiveLandmarks(detector) if detector else None,
            identity=IdentityJudge(recogniser) if recogniser else None,
            likeness=FeatureJudge(detector) if detector else None,
            adapter=load_adapter(adapter, restorer) if adapter else None,
            rivals=tuple(load_restorer(file, where) for file in rival),
            tell=tell,
        )
        for claim in claims:
            finding = known[claim](scene)
            _write(finding, out, setting)
            verdict = "holds" if finding.holds else "does not hold"
            output.print(f"{claim} {verdict}: {out / claim}.md")


def judge_file(given: Path | None, folder: Path | None, name: str) -> Path | None:
    """The file of a judge: as given, or from the folder of weights where it is there."""
    if given is None and folder is not None and (folder / name).exists():
        return folder / name
    return given


def _write(finding: Finding, folder: Path, setting: str) -> None:
    """CLAIM.md with verdict, table and pictures, CLAIM.csv with a row per face."""
    verdict = "**Holds.**" if finding.holds else "**Does not hold.**"
    lines = [f"# {finding.claim}", "", finding.statement, "", f"{verdict} {setting}.", ""]
    lines += [f"| {' | '.join(row)} |" for row in finding.table[:1]]
    lines += ["|" + "---|" * len(finding.table[0])]
    lines += [f"| {' | '.join(row)} |" for row in finding.table[1:]]
    lines += ["", "Mean over faces [95 % bootstrap interval]; scores are normalised, 1 = best. " + finding.notes]
    for name, picture in finding.pictures.items():
        write_image(picture, folder / name)
        lines += ["", f"![{name}]({name})"]
    write_atomically(folder / f"{finding.claim}.md", ("\n".join(lines) + "\n").encode())
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["face", *finding.values])
    writer.writerows(
        [number, *(f"{v:.6g}" for v in row)] for number, row in enumerate(zip(*finding.values.values(), strict=True))
    )
    write_atomically(folder / f"{finding.claim}.csv", table.getvalue().encode())
